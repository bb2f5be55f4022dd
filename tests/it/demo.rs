//! `reprise demo`: the first thing a stranger runs. What it prints is what happens.

use crate::support::client::Call;
use crate::support::{Desk, Process};

#[tokio::test]
async fn the_three_commands_do_what_is_said_about_them() {
    let (mut demo, calls) = started().await;
    let [first, booking, again] = <[_; 3]>::try_from(calls).unwrap_or_else(|_| panic!("three"));

    let before = first().send().await;
    assert_eq!(
        (before.status.as_u16(), before.cache().as_str()),
        (200, "MISS")
    );
    assert_ne!(before.field("x-query-count"), "");
    let same = first().send().await;
    same.is(200, &before.body, "HIT");
    assert_eq!(same.field("x-query-count"), "");

    let booked = booking().send().await;
    assert_eq!(
        (booked.status.as_u16(), booked.cache().as_str()),
        (201, "BYPASS")
    );
    let after = again().send().await;
    assert_eq!(
        (after.status.as_u16(), after.cache().as_str()),
        (200, "MISS")
    );
    let free = |reply: &crate::support::Reply| reply.value()["available"].as_u64();
    assert_eq!(
        free(&after),
        free(&before).map(|seats| seats - 2),
        "{}",
        after.body
    );

    demo.signal("INT");
    assert_eq!(demo.exit().await, Some(0));
    let last = demo.lines().pop();
    assert_eq!(last.as_deref(), Some("stopped: 4 requests, 1 of them hits"));
}

#[tokio::test]
async fn the_environments_app_is_not_the_demos() {
    let desk = Desk::new().set("REPRISE_UPSTREAM_URL", "app:8000");
    let mut demo = desk.start(&ARGUMENTS);
    demo.line("X-Cache and Cache-Status").await;
    let calls = printed(&demo.lines());
    let reply = calls[0]().send().await;
    assert_eq!(
        (reply.status.as_u16(), reply.cache().as_str()),
        (200, "MISS")
    );
}

#[test]
fn a_port_in_use_names_the_way_to_another() {
    let held = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = held.local_addr().expect("an address").to_string();
    let ended = Desk::new().run(&["demo", "--listen", &address, "--admin", "127.0.0.1:0"]);
    ended
        .exits(1)
        .says(&[&address, "the port is in use", "--listen 127.0.0.1:0"]);
}

const ARGUMENTS: [&str; 7] = [
    "demo",
    "--listen",
    "127.0.0.1:0",
    "--admin",
    "127.0.0.1:0",
    "--query-ms",
    "0",
];

type Again = Box<dyn Fn() -> Call>;

async fn started() -> (Process, Vec<Again>) {
    let mut demo = Desk::new().start(&ARGUMENTS);
    demo.line("X-Cache and Cache-Status").await;
    let calls = printed(&demo.lines());
    (demo, calls)
}

/// The commands among the lines, as requests: each a `curl` with a URL, `-H` and `-d`.
fn printed(lines: &[String]) -> Vec<Again> {
    let text = lines.join("\n").replace("\\\n", " ");
    let commands = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("curl -si "));
    commands.map(|command| request(&words(command))).collect()
}

/// The words of a shell command: blanks part them, single quotes hold them together.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for c in command.chars().chain([' ']) {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => {
                words.extend(Some(std::mem::take(&mut word)).filter(|w| !w.is_empty()))
            }
            c => word.push(c),
        }
    }
    words
}

fn request(words: &[String]) -> Again {
    let url = words.iter().find_map(|word| word.strip_prefix("http://"));
    let (host, path) = url.and_then(|url| url.split_once('/')).expect("a URL");
    let (host, path) = (host.to_owned(), format!("/{path}"));
    let after = |flag: &str| {
        let pairs = words.windows(2).filter(|pair| pair[0] == flag);
        pairs.map(|pair| pair[1].clone()).collect::<Vec<_>>()
    };
    let (fields, body) = (after("-H"), after("-d").pop());
    Box::new(move || {
        let method = if body.is_some() { "POST" } else { "GET" };
        let call = Call::new(&host, method, &path).header("host", &host);
        let call = fields.iter().fold(call, |call, field| {
            let (name, value) = field.split_once(": ").expect("a field");
            call.header(name, value)
        });
        call.body(body.clone().unwrap_or_default())
    })
}
