//! Ending: what runs is finished, what comes is refused, and nothing holds the process beyond its time.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::origin::streamed;
use crate::support::{Origin, Process, Sidecar, reply, soon};

#[tokio::test]
async fn sigterm_finishes_what_runs_refuses_what_comes_and_exits_with_0() {
    let origin = Origin::start().await;
    origin.on("/a/", |_| reply("one"));
    let plan = Sidecar::before(&origin).route("/a/", "ttl = \"1m\"");
    let mut process = Process::serving(&plan).await;
    let gate = origin.hold("/a/");
    let running = process.call("GET", "/a/").in_background();
    gate.arrived(1).await;

    process.signal("TERM");
    process.line("draining").await;
    eventually_refused(&process.address()).await;
    let ready = process.admin("/readyz?verbose").await;
    assert_eq!(ready.status, 503);
    assert!(ready.body.ends_with("draining\n"), "{}", ready.body);
    assert_eq!(process.admin("/livez").await.status, 200);

    gate.release();
    let reply = soon("the answer", running).await.expect("a task");
    reply.expect("a reply").is(200, "one", "MISS");
    assert_eq!(process.exit().await, Some(0));
    let last = process.lines().pop().expect("a last line");
    let last: serde_json::Value = serde_json::from_str(&last).expect("JSON");
    assert_eq!(last["message"], "stopped");
    let counts = ["served", "hits", "cut", "log_lines_lost"].map(|count| &last[count]);
    assert_eq!(counts, [1, 0, 0, 0], "{last}");
}

async fn eventually_refused(address: &str) {
    soon("new connections are refused", async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Gives a process that forgets something time to end: twenty answers of its admin port.
async fn stays(process: &Process) {
    for _ in 0..20 {
        assert_eq!(process.admin("/readyz").await.status, 503);
    }
}

#[tokio::test]
async fn a_second_signal_ends_at_once_and_exits_with_0() {
    for second in ["TERM", "INT"] {
        let origin = Origin::start().await;
        let mut process = Process::serving(&Sidecar::before(&origin)).await;
        let gate = origin.hold("/a/");
        let running = process.call("GET", "/a/").in_background();
        gate.arrived(1).await;

        process.signal("TERM");
        process.line("draining").await;
        process.signal(second);
        assert_eq!(process.exit().await, Some(0));
        let said = process.events("ended at once by a second signal");
        assert_eq!(said.len(), 1, "{:?}", process.lines());
        let answer = soon("the client sees it", running).await.expect("a task");
        assert!(answer.is_none(), "nothing was there to answer with");
    }
}

#[tokio::test]
async fn an_answer_under_way_is_cut_when_the_drain_is_over() {
    let origin = Origin::start().await;
    let (answer, chunks) = streamed();
    origin.then("/a/", answer);
    let mut sidecar = Sidecar::before(&origin)
        .server("drain_timeout = \"50ms\"")
        .start()
        .await;
    let mut open = sidecar.call("GET", "/a/").open().await;
    assert_eq!(open.headers["x-cache"], "BYPASS");
    chunks.send("one");
    assert_eq!(open.chunk().await.expect("a chunk").expect("whole"), "one");

    sidecar.drain();
    let summary = sidecar.stop().await;
    assert_eq!((summary.served, summary.cut), (1, 1));
    assert!(
        open.read().await.broken,
        "an answer that is cut must not look complete"
    );
}

/// The drain's time was given twice, and then the app's own timeout on top: an app that hung held the process for
/// half a minute.
#[tokio::test]
async fn an_app_that_hangs_does_not_hold_the_process() {
    let origin = Origin::start().await;
    let mut sidecar = Sidecar::before(&origin)
        .server("drain_timeout = \"50ms\"")
        .route("/a/", "ttl = \"1m\"")
        .start()
        .await;
    let gate = origin.hold("/a/");
    let leaving = sidecar.call("POST", "/a/").in_background();
    gate.arrived(1).await;
    leaving.abort();

    sidecar.drain();
    sidecar.stop().await;
    drop(gate);
}

#[tokio::test]
async fn a_write_whose_client_has_left_is_settled_before_the_end() {
    let origin = Origin::start().await;
    origin.on("/w/", |_| reply("done").status(201));
    let plan = Sidecar::before(&origin)
        .route("/a/", "ttl = \"1m\"\ntags = [\"a\"]")
        .write("POST /w/", &["a"])
        .with("[log]\nlevel = \"debug\"");
    let mut process = Process::serving(&plan).await;
    let gate = origin.hold("/w/");
    let leaving = process.call("POST", "/w/").in_background();
    gate.arrived(1).await;
    let open = process.admin("/metrics").await.body;
    assert!(open.contains("reprise_coherence_open_intents 1\n"));

    leaving.abort();
    process.signal("TERM");
    eventually_refused(&process.address()).await;
    stays(&process).await;
    gate.release();
    assert_eq!(process.exit().await, Some(0));
    let dropped = process.events("dropped").pop().expect("the write's drop");
    assert_eq!(dropped["path"], "/w/");
    assert!(
        process
            .events("exchanges with the app are cut off: the drain's time is over")
            .is_empty()
    );
}

#[tokio::test]
async fn an_idle_connection_is_closed_by_the_drain() {
    let origin = Origin::start().await;
    origin.on("/a/", |_| reply("one"));
    let mut sidecar = Sidecar::before(&origin).start().await;
    let mut stream = TcpStream::connect(&sidecar.address)
        .await
        .expect("it listens");
    let request = b"GET /a/ HTTP/1.1\r\nhost: a\r\n\r\n";
    stream.write_all(request).await.expect("it reads");
    let mut answer = [0; 1024];
    let length = soon("an answer", stream.read(&mut answer))
        .await
        .expect("bytes");
    let text = String::from_utf8_lossy(&answer[..length]).to_ascii_lowercase();
    assert!(text.contains("x-cache: bypass\r\n"), "{text}");

    sidecar.drain();
    let rest = soon("the close", stream.read(&mut answer)).await;
    assert_eq!(rest.expect("a clean end"), 0);
    assert_eq!(sidecar.stop().await.cut, 0);
}

#[tokio::test]
async fn a_fill_whose_client_has_left_ends_before_the_process() {
    let origin = Origin::start().await;
    let (answer, chunks) = streamed();
    origin.then("/a/", answer);
    let plan = Sidecar::before(&origin).route("/a/", "ttl = \"1m\"");
    let mut process = Process::serving(&plan).await;
    let open = process.call("GET", "/a/").open().await;
    assert_eq!(open.headers["x-cache"], "MISS");
    drop(open);

    process.signal("TERM");
    eventually_refused(&process.address()).await;
    stays(&process).await;
    assert!(chunks.is_open(), "the fill goes on");
    drop(chunks);
    assert_eq!(process.exit().await, Some(0));
}
