//! The command line: what each command says and how it exits, and what `run` does before the first request.

use crate::support::client::Call;
use crate::support::{Desk, Origin, Process, Sidecar, eventually, reply};

const GOOD: &str = "[upstream]\nurl = \"http://127.0.0.1:9\"\n";

#[test]
fn help_fits_a_screen_and_names_commands_exit_codes_and_variables() {
    let help = Desk::new().run(&["--help"]);
    help.exits(0)
        .says(&["run", "check", "demo", "Environment: REPRISE_CONFIG"]);
    help.says(&["Exit codes: 0 ok, 1 failed, 2 usage, 78 configuration."]);
    assert!(help.stdout.lines().count() < 40, "{}", help.stdout);
    assert_eq!(help.stderr, "");
}

#[test]
fn each_command_has_help_with_an_example() {
    for command in ["run", "check", "demo", "healthcheck"] {
        let help = Desk::new().run(&[command, "--help"]);
        help.exits(0)
            .says(&[&format!("Example:  reprise {command} ")]);
    }
    let purge = Desk::new().run(&["purge", "--help"]);
    purge.exits(0).says(&["  reprise purge --tag event:42"]);
}

#[test]
fn the_version_is_one_line() {
    let expected = format!("reprise {}\n", env!("CARGO_PKG_VERSION"));
    for arguments in [&["--version"][..], &["-V"]] {
        assert_eq!(Desk::new().run(arguments).exits(0).stdout, expected);
    }
    let of_command = Desk::new().run(&["check", "--version"]);
    of_command.exits(0).says(&[env!("CARGO_PKG_VERSION")]);
}

#[test]
fn every_way_to_fail_has_its_exit_code() {
    let desk = Desk::with(GOOD).file("bad.toml", "[sever]\n").file(
        "there.toml",
        &format!("{GOOD}[server]\nlisten = \"192.0.2.1:80\"\n"),
    );
    for (arguments, code, said) in [
        (&[][..], 2, "Usage: reprise <COMMAND>"),
        (&["serve"], 2, "unrecognized subcommand 'serve'"),
        (&["check", "--deny-warning"], 2, "'--deny-warnings'"),
        (&["run", "--config"], 2, "a value is required"),
        (&["demo", "--listen", "8080"], 2, "write IP:PORT"),
        (
            &["check"],
            0,
            "proxy.toml: ok: 0 routes, 0 write rules, memory 256 MiB",
        ),
        (&["check", "bad.toml"], 78, "bad.toml:1:2"),
        (&["run", "--config", "bad.toml"], 78, "bad.toml:1:2"),
        (&["demo", "--config", "bad.toml"], 78, "bad.toml:1:2"),
        (
            &["check", "none.toml"],
            78,
            "error: none.toml cannot be read",
        ),
        (
            &["run", "--config", "there.toml"],
            1,
            "192.0.2.1:80: this machine has no such address",
        ),
    ] {
        desk.run(arguments).exits(code).says(&[said]);
    }
}

#[test]
fn a_missing_file_is_named_with_a_way_on() {
    for arguments in [&["run"][..], &["check"]] {
        let ended = Desk::new().run(arguments);
        ended
            .exits(78)
            .says(&["error: proxy.toml cannot be read: No such file"]);
        ended.says(&["REPRISE_CONFIG", "reprise demo"]);
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    }
}

#[test]
fn the_command_line_wins_over_reprise_config_and_that_over_proxy_toml() {
    let desk = Desk::new()
        .file("a.toml", GOOD)
        .file("b.toml", GOOD)
        .set("REPRISE_CONFIG", "a.toml");
    desk.run(&["check"]).exits(0).says(&["a.toml: ok"]);
    desk.run(&["check", "b.toml"])
        .exits(0)
        .says(&["b.toml: ok"]);
    let run = Desk::new().set("REPRISE_CONFIG", "c.toml").run(&["run"]);
    run.exits(78).says(&["c.toml cannot be read"]);
}

#[test]
fn a_variable_that_is_wrong_is_named() {
    for (name, value) in [
        ("REPRISE_UPSTREAM_URL", "app:8000"),
        ("REPRISE_LOG", "loud"),
    ] {
        let ended = Desk::with(GOOD).set(name, value).run(&["check"]);
        ended.exits(78).says(&["error: ", name, "help: "]);
    }
}

#[test]
fn a_reader_that_leaves_does_not_make_a_command_fail() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let desk = Desk::with(GOOD);
    let mut command = desk.command(&["check"]);
    let status = command.stdout(writer).status().expect("it runs");
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn a_port_in_use_ends_run_with_its_number() {
    let held = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = held.local_addr().expect("an address").port();
    for (taken, other) in [("server", "admin"), ("admin", "server")] {
        let toml = format!(
            "{GOOD}[{taken}]\nlisten = \"127.0.0.1:{port}\"\n[{other}]\nlisten = \"127.0.0.1:0\"\n"
        );
        let ended = Desk::with(&toml).run(&["run"]);
        let said = format!("reprise: cannot listen on 127.0.0.1:{port}: the port is in use");
        ended.exits(1).says(&[&said, "ss -ltnp"]);
    }
}

#[tokio::test]
async fn run_says_what_it_runs_with() {
    let plan = Sidecar::before_url("http://127.0.0.1:9").route("/a/", "ttl = \"1m\"");
    let process = Process::serving(&plan.write("POST /a/", &["a"])).await;

    let starting = process.events("starting").pop().expect("a first line");
    assert_eq!(starting["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(starting["config"], "proxy.toml");
    assert_eq!(
        (&starting["routes"], &starting["writes"]),
        (&1.into(), &1.into())
    );
    assert_eq!(starting["memory"], "256 MiB");
    let serving = process.events("serving").pop().expect("a line");
    assert_eq!(serving["upstream"], "http://127.0.0.1:9");
    // The tag that nothing carries: a warning of the file is one of the log too.
    let warned = process
        .lines()
        .into_iter()
        .any(|line| line.contains("no route carries the tag"));
    assert!(warned, "{:?}", process.lines());
}

#[tokio::test]
async fn an_upstream_alone_passes_everything_through_and_says_so() {
    let origin = Origin::start().await;
    origin.on("/a/", |_| reply("one").cache("max-age=60"));
    let process = Process::serving(&Sidecar::before(&origin)).await;

    for _ in 0..2 {
        let passed = process.get("/a/").await;
        passed.is(200, "one", "BYPASS");
        assert_eq!(passed.cache_status(), "fwd=bypass; detail=no-route");
    }
    assert_eq!(origin.hits("/a/"), 2);
    let said = process.events("no [[route]]: everything passes through");
    assert_eq!(said.len(), 1, "{:?}", process.lines());
}

#[tokio::test]
async fn what_is_not_in_effect_yet_is_a_warning_of_the_log() {
    let plan = Sidecar::before_url("http://127.0.0.1:9").with("[trace]\n[warm]\n");
    let process = Process::serving(&plan).await;
    for said in [
        "[trace] is not in effect yet: nothing is exported",
        "[warm] is not in effect yet: nothing is fetched ahead",
    ] {
        let events = process.events(said);
        assert_eq!(events.len(), 1, "{:?}", process.lines());
        assert_eq!(events[0]["level"], "WARN");
    }
}

#[tokio::test]
async fn an_app_that_comes_later_is_found_without_a_restart() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let app = free.local_addr().expect("an address");
    drop(free);
    let plan = Sidecar::before_url(&format!("http://{app}")).route("/a/", "ttl = \"1m\"");
    let process = Process::serving(&plan).await;

    let refused = process.get("/a/").await;
    assert_eq!(refused.status, 502);
    assert_eq!(refused.field("content-type"), "application/problem+json");
    assert_eq!(
        refused.value()["detail"],
        format!("connect to {app}: refused")
    );
    assert_eq!(process.admin("/livez").await.status, 200);
    assert_eq!(process.admin("/readyz").await.status, 200);
    let told = process.admin("/readyz?verbose").await.body;
    assert!(told.contains("[!]app"), "{told}");

    let origin = Origin::listen(app).await;
    origin.on("/a/", |_| reply("one"));
    process.get("/a/").await.is(200, "one", "MISS");
    process.get("/a/").await.is(200, "one", "HIT");
    let told = process.admin("/readyz?verbose").await.body;
    assert!(told.contains("[+]app ok"), "{told}");
}

#[tokio::test]
async fn the_environment_says_where_the_app_is() {
    let origin = Origin::start().await;
    origin.on("/a/", |_| reply("one"));
    let plan = Sidecar::before_url("http://127.0.0.1:9");
    let desk = Desk::with(&plan.toml()).set(
        "REPRISE_UPSTREAM_URL",
        &format!("http://{}", origin.address()),
    );
    let mut process = desk.start(&["run"]);
    process.line("probes and metrics").await;
    process.get("/a/").await.is(200, "one", "BYPASS");
}

#[tokio::test]
async fn the_environment_says_what_is_logged() {
    let toml = "[server]\nlisten = \"unix:s\"\n[admin]\nlisten = \"127.0.0.1:0\"\n";
    let desk = Desk::with(&format!("{GOOD}{toml}")).set("REPRISE_LOG", "error");
    let mut quiet = desk.start(&["run"]);
    // Nothing is said at start: its socket says that it is there.
    let socket = desk.path("s");
    eventually("it listens", || {
        std::os::unix::net::UnixStream::connect(&socket).is_ok()
    })
    .await;
    quiet.signal("TERM");
    assert_eq!(quiet.exit().await, Some(0));
    assert_eq!(quiet.lines(), Vec::<String>::new());
}

#[tokio::test]
async fn paths_that_the_admin_port_does_not_have_name_those_that_it_has() {
    let sidecar = Sidecar::before_url("http://127.0.0.1:9").start().await;
    assert_eq!(sidecar.admin("/livez").await.body, "ok\n");
    let lost = sidecar.admin("/health").await;
    assert_eq!(lost.status, 404);
    assert!(lost.body.contains("/readyz?verbose"), "{}", lost.body);
    let refused = Call::new(&sidecar.admin, "POST", "/livez").send().await;
    assert_eq!(
        (refused.status.as_u16(), refused.field("allow")),
        (405, "GET, HEAD".into())
    );
}
