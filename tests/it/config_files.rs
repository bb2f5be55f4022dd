//! `reprise check`: a file's every problem in one run, each with its place, a caret and what to write instead.

use crate::support::Desk;

const UPSTREAM: &str = "[upstream]\nurl = \"http://127.0.0.1:8000\"\n";
const ROUTE: &str = "[[route]]\nname = \"event\"\nmatch = \"/events/{event}/\"\n";

#[test]
fn each_kind_of_error_has_its_place_a_caret_and_a_suggestion() {
    let twice = format!("{ROUTE}[[route]]\nname = \"event\"\nmatch = \"/b/\"\n");
    let behind = format!("{ROUTE}[[route]]\nname = \"search\"\nmatch = \"/events/search/\"\n");
    for (text, place, message, help) in [
        ("[server\n", "3:8", "", "expected `]`"),
        ("[cache]\nttl = 5m\n", "4:7", "", "write it in quotes"),
        (
            "[cache]\ntll = \"5m\"\n",
            "4:1",
            "has no key `tll`",
            "did you mean `ttl`?",
        ),
        ("[sever]\n", "3:2", "`sever`", "did you mean `server`?"),
        (
            "[cache]\nttl = \"5 minits\"\n",
            "4:7",
            "\"5 minits\"",
            "write \"250ms\", \"30s\", \"5m\"",
        ),
        (
            "[memory]\nmax_size = \"10 megs\"\n",
            "4:12",
            "\"10 megs\"",
            "64KiB",
        ),
        (
            &format!("{ROUTE}tags = [\"event:{{evnt}}\"]\n"),
            "6:9",
            "{evnt} is not captured",
            "did you mean {event}?",
        ),
        (
            &twice,
            "7:8",
            "two routes are named \"event\"",
            "give each route a name of its own",
        ),
        (
            &behind,
            "8:9",
            "\"search\" is never reached: \"event\" (line 5)",
            "move \"search\" before \"event\"",
        ),
        (
            "[relations]\n\"a\" = [\"b\"]\n\"b\" = [\"a\"]\n",
            "5:8",
            "\"a\" drops \"b\" drops \"a\"",
            "remove one of these",
        ),
    ] {
        let ended = Desk::with(&format!("{UPSTREAM}{text}")).run(&["check"]);
        ended.exits(78).says(&[
            &format!("proxy.toml:{place}\n"),
            "error: ",
            "^",
            message,
            help,
        ]);
        assert_eq!(ended.stdout, "", "{text}");
    }
}

#[test]
fn one_run_shows_every_error_in_the_order_of_the_file() {
    let text = "[server]\nworkers = \"x\"\n[cache]\nttl = 5\ncolour = 1\n[[route]]\nname = \"a\"\n";
    let ended = Desk::with(&format!("{UPSTREAM}{text}")).run(&["check"]);
    ended.exits(78);
    let places = ended
        .stderr
        .lines()
        .filter_map(|line| line.trim().strip_prefix("--> "));
    let places: Vec<_> = places.collect();
    let expected = ["4:11", "6:7", "7:1", "8:1"].map(|place| format!("proxy.toml:{place}"));
    assert_eq!(places, expected, "{}", ended.stderr);
}

#[test]
fn messages_for_a_pipe_have_no_colours() {
    let ended = Desk::with("[sever]\n").run(&["check"]);
    assert!(
        !ended.exits(78).stderr.contains('\u{1b}'),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_warning_passes_unless_it_is_denied() {
    let text = format!("{UPSTREAM}{ROUTE}ttl = \"48h\"\n");
    let desk = Desk::with(&text);
    let allowed = desk.run(&["check"]);
    allowed.exits(0).says(&[
        "warning: `ttl` (2d) is cut to `max_ttl` (1d)",
        "proxy.toml:6:7",
    ]);
    assert_eq!(
        allowed.stdout,
        "proxy.toml: ok: 1 route, 0 write rules, memory 256 MiB\n"
    );

    let denied = desk.run(&["check", "--deny-warnings"]);
    denied.exits(78).says(&[
        "warning: `ttl`",
        "error: proxy.toml: 1 warning, and --deny-warnings is given",
    ]);
    assert_eq!(denied.stdout, "", "a file that is refused is not called ok");
    Desk::with(UPSTREAM)
        .run(&["check", "--deny-warnings"])
        .exits(0);
}

#[test]
fn what_is_not_in_effect_yet_is_a_note_and_no_warning() {
    let ended = Desk::with(&format!("{UPSTREAM}[warm]\n")).run(&["check", "--deny-warnings"]);
    ended.exits(0).says(&[
        "note: [warm] is not in effect yet: nothing is fetched ahead\n",
        "note: no [[route]]: everything passes through\n",
    ]);
    assert_eq!(ended.stderr, "");
}

#[test]
fn the_shipped_file_and_the_example_are_right() {
    for text in [
        include_str!("../../proxy.toml"),
        include_str!("../fixtures/example.toml"),
    ] {
        let ended = Desk::with(text).run(&["check", "--deny-warnings"]);
        ended.exits(0).says(&["proxy.toml: ok: "]);
    }
}

#[test]
fn what_cannot_be_read_as_text_is_named() {
    let desk = Desk::with("");
    let directory = desk.run(&["check", "."]);
    directory
        .exits(78)
        .says(&["error: . cannot be read: Is a directory"]);
}

/// The caret's line used to show it: to the build log, and to the pod's.
#[test]
fn a_password_in_a_url_is_refused_and_not_shown() {
    for (text, place) in [
        ("[redis]\nurl = \"redis://:hunter2@redis:6379/3\"\n", "4:7"),
        ("[redis]\nurl = \"http://me:hunter2@redis\"\n", "4:7"),
        ("[redis]\nsession_url = \"redis://:hunter2@r/2\"\n", "4:15"),
        ("[coherence]\nurl = \"redis://:hunter2@r/2\"\n", "4:7"),
        ("[cache]\nurl = \"http://me:hunter2@r/2\"\n", "4:1"),
    ] {
        let ended = Desk::with(&format!("{UPSTREAM}{text}")).run(&["check"]);
        ended.exits(78).says(&[&format!("proxy.toml:{place}\n")]);
        assert!(!ended.stderr.contains("hunter2"), "{}", ended.stderr);
    }
    let upstream = Desk::with("[upstream]\nurl = \"http://me:hunter2@app\"\n").run(&["check"]);
    assert!(
        !upstream.exits(78).stderr.contains("hunter2"),
        "{}",
        upstream.stderr
    );
    let variable = Desk::with("").set("REPRISE_UPSTREAM_URL", "http://me:hunter2@app");
    let variable = variable.run(&["check"]);
    assert!(
        !variable.exits(78).stderr.contains("hunter2"),
        "{}",
        variable.stderr
    );
}
