//! Commands that speak to a sidecar that runs, and those for shells.

use crate::support::sidecar::Plan;
use crate::support::{Desk, Origin, Process, Sidecar, reply};

/// A sidecar of its own process with two routes, something stored on each, and an app that counts.
async fn serving() -> (Origin, Process) {
    let origin = Origin::start().await;
    for path in ["/a/", "/b/"] {
        origin.on(path, |_| reply("x"));
    }
    let plan: Plan = Sidecar::before(&origin)
        .route("/a/", "ttl = \"1m\"\ntags = [\"a\"]")
        .route("/b/", "ttl = \"1m\"\ntags = [\"b\"]");
    let process = Process::serving(&plan).await;
    for path in ["/a/", "/b/"] {
        process.get(path).await;
    }
    (origin, process)
}

/// Runs a command beside a sidecar; blocking, so off the runtime.
async fn beside(process: &Process, arguments: &[&str]) -> crate::support::process::Ended {
    let admin = process.admin_address();
    let mut all: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
    all.extend(["--admin".to_owned(), admin]);
    let run = move || {
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        Desk::new().run(&all)
    };
    tokio::task::spawn_blocking(run).await.expect("it ran")
}

#[tokio::test]
async fn a_purge_says_what_went_and_the_next_read_is_a_miss() {
    let (_origin, process) = serving().await;
    let purged = beside(&process, &["purge", "--tag", "a"]).await;
    purged
        .exits(0)
        .says(&["dropped a; 1 entry here; 1 replica in "]);
    assert_eq!(process.get("/a/").await.cache(), "MISS");
    assert_eq!(process.get("/b/").await.cache(), "HIT");
    for what in [
        &["purge", "--path", "/b/**"][..],
        &["purge", "--key", "/b/"],
        &["purge", "--pattern", "/b/*"],
        &["purge", "--route", "route-1"],
        &["purge", "--all", "--yes"],
    ] {
        assert_eq!(process.get("/b/").await.cache(), "HIT", "{what:?}");
        beside(&process, what).await.exits(0).says(&["dropped "]);
        assert_eq!(process.get("/b/").await.cache(), "MISS", "{what:?}");
    }
}

#[tokio::test]
async fn a_dry_run_drops_nothing_and_json_is_the_sidecars_own() {
    let (_origin, process) = serving().await;
    let looked = beside(&process, &["purge", "--all", "--dry-run"]).await;
    looked
        .exits(0)
        .says(&["would drop everything; 2 entries here"]);
    let looked = beside(&process, &["purge", "--tag", "a", "--dry-run", "--json"]).await;
    let told: serde_json::Value = serde_json::from_str(&looked.exits(0).stdout).expect("JSON");
    assert_eq!(told["reached"], "nobody");
    assert_eq!(process.get("/a/").await.cache(), "HIT");
}

#[tokio::test]
async fn what_cannot_be_purged_is_told() {
    let (_origin, process) = serving().await;
    for (arguments, code, said) in [
        (&["purge"][..], 2, "--tag"),
        (
            &["purge", "--all"],
            2,
            "add --yes, or look first with --dry-run",
        ),
        (
            &["purge", "--route", "c"],
            1,
            "no route is named \"c\"; there are route-0, route-1",
        ),
        (
            &["purge", "--pattern", "/a/*", "--soft"],
            1,
            "cannot be purged softly",
        ),
    ] {
        beside(&process, arguments).await.exits(code).says(&[said]);
    }
    assert_eq!(process.get("/a/").await.cache(), "HIT");
}

#[tokio::test]
async fn a_healthcheck_says_what_the_probes_say() {
    let (_origin, process) = serving().await;
    beside(&process, &["healthcheck"])
        .await
        .exits(0)
        .says(&["ok"]);
    let ready = beside(&process, &["healthcheck", "--ready"]).await;
    ready.exits(0).says(&["[+]serving ok", "[+]app ok"]);
}

#[test]
fn nobody_at_home_is_told_with_the_address() {
    for command in [&["healthcheck"][..], &["purge", "--tag", "a"]] {
        let mut arguments = command.to_vec();
        // Port 1 is nobody's.
        arguments.extend(["--admin", "127.0.0.1:1"]);
        let ended = Desk::new().run(&arguments);
        ended.exits(1).says(&[
            "no answer from the sidecar at 127.0.0.1:1/",
            "--admin ADDRESS",
        ]);
    }
}

/// A sidecar that listens everywhere is reached on this host, at the port that its file says.
#[tokio::test]
async fn the_configuration_says_where_the_sidecar_is() {
    let desk =
        Desk::with("[upstream]\nurl = \"http://127.0.0.1:9\"\n[admin]\nlisten = \"0.0.0.0:1\"\n");
    desk.run(&["healthcheck"])
        .exits(1)
        .says(&["at 127.0.0.1:1/livez"]);
    desk.run(&["healthcheck", "--config", "none.toml"])
        .exits(78)
        .says(&["none.toml cannot be read"]);
}

#[test]
fn shells_and_readers_get_what_they_want() {
    for (arguments, part) in [
        (&["completions", "bash"][..], "complete -F _reprise"),
        (&["completions", "zsh"], "#compdef reprise"),
        (&["completions", "fish"], "complete -c reprise"),
        (&["man"], ".TH reprise 1"),
    ] {
        Desk::new().run(arguments).exits(0).says(&[part]);
    }
}
