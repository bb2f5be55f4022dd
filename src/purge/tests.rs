//! Requests to drop something, as they are read and as they become plans.

use super::*;
use crate::policy::Policy;
use crate::route::{Item, Relation, Route, Write};
use crate::tag::Template;
use std::collections::BTreeSet;
use std::time::Duration;

fn parse(json: &str) -> Result<Request, String> {
    Request::parse(json.as_bytes()).map_err(|refusal| refusal.to_string())
}

fn plan(json: &str) -> Plan {
    let request = parse(json).expect("a request");
    let plan = request.wanted.plan(&table(), &QueryRules::default());
    plan.unwrap_or_else(|refusal| panic!("{json}: {refusal}"))
}

fn table() -> Table {
    let pattern = |text: &str| Pattern::parse(text).expect("a pattern");
    let template = |text: &&str| Template::parse(text).expect("a template");
    let route = |name: &str, path: &str, tags: &[&str]| Route {
        name: name.to_owned(),
        pattern: pattern(path),
        tags: tags.iter().map(template).collect(),
        policy: Policy::default(),
    };
    let routes = vec![
        route("events", "/api/events/", &["events"]),
        route("event", "/api/events/{event}/", &["event:{event}"]),
        route("seats", "/api/events/{event}/seats/", &["seats{event}"]),
    ];
    let write = Write {
        method: None,
        pattern: pattern("/w/"),
        drop: vec![Item::Path(pattern("/api/*/seen/"))],
    };
    let relation = Relation {
        left: template(&"event:{id}"),
        right: vec![template(&"events")],
    };
    Table::new(routes, vec![write], vec![relation], Policy::default())
}

/// The tags of what is stored for a path and query.
fn stored(path: &str, query: &str) -> Tags {
    let table = table();
    let (_, route, captures) = table.find(path).expect("a route");
    let mut tags = table
        .entry_tags(route, path, &captures, None)
        .expect("a path with a spelling");
    let query = key::normalise_query(query, &QueryRules::default());
    tags.push(url_tag(path, &query));
    tags
}

#[test]
fn a_request_names_what_it_drops_in_the_singular_or_the_plural() {
    for (one, other) in [
        (r#"{"tag": "a"}"#, r#"{"tags": ["a"]}"#),
        (r#"{"tags": "a"}"#, r#"{"tag": ["a"]}"#),
        (r#"{"path": "/a/**"}"#, r#"{"paths": ["/a/**"]}"#),
        (r#"{"pattern": "/a*"}"#, r#"{"patterns": ["/a*"]}"#),
        (r#"{"key": "/a?b=1"}"#, r#"{"keys": ["/a?b=1"]}"#),
        (
            r#"{"key": "/a?b=1"}"#,
            r#"{"keys": ["https://x.example/a?b=1#c"]}"#,
        ),
        (
            r#"{"key": "/a?b=1"}"#,
            r#"{"key": {"path": "/a", "query": "b=1", "host": "x"}}"#,
        ),
        (r#"{"key": "/"}"#, r#"{"key": "http://x.example"}"#),
        (
            r#"{"key": "/?to=http://a/b"}"#,
            r#"{"key": {"path": "/", "query": "?to=http://a/b"}}"#,
        ),
        (r#"{"key": "/caf%C3%A9"}"#, r#"{"key": "/café"}"#),
        (
            r#"{"all": true}"#,
            r#"{"all": true, "soft": false, "wait": true, "tags": []}"#,
        ),
    ] {
        let read = parse(one);
        assert!(read.is_ok(), "{one}: {read:?}");
        assert_eq!(read, parse(other), "{one} {other}");
    }
}

#[test]
fn what_a_request_does_not_say_is_dropped_hard_at_once_and_waited_for() {
    let plain = parse(r#"{"tag": "a"}"#).expect("a request");
    assert_eq!(
        (plain.soft, plain.dry_run, plain.no_wait),
        (false, false, false)
    );
    let other = parse(r#"{"tag": "a", "soft": true, "dry_run": true, "wait": false}"#);
    let other = other.expect("a request");
    assert_eq!(
        (other.soft, other.dry_run, other.no_wait),
        (true, true, true)
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn what_cannot_be_understood_is_refused_by_its_field() {
    for (json, said) in [
        ("", "this is not JSON: "),
        ("[]", "expected an object ({...}), found a list"),
        ("{}", "nothing to drop: give tags"),
        (r#"{"all": false}"#, "nothing to drop: give tags"),
        (r#"{"tags": []}"#, "nothing to drop: give tags"),
        (
            r#"{"tags": ["a", 7]}"#,
            "tags[1]: expected a text, found a number",
        ),
        (r#"{"tags": [""]}"#, "tags[0]: this text is empty"),
        (
            r#"{"tag": {"a": 1}}"#,
            "tag: expected a text, found an object",
        ),
        (r#"{"tag": "event:{id}"}"#, "tag: a tag to drop has values"),
        (r#"{"tag": "event:*:x"}"#, "tag: * stands at the end"),
        (
            r#"{"tag": "a", "sfot": true}"#,
            "sfot: there is no such field; there are ",
        ),
        (
            r#"{"tag": "a", "soft": "yes"}"#,
            "soft: expected true or false, found a text",
        ),
        (
            r#"{"path": "api"}"#,
            "path: a path pattern begins with \"/\"",
        ),
        (r#"{"path": "/a/?x=1"}"#, "path: a path has no query"),
        (
            r#"{"patterns": ["/a*", "b*"]}"#,
            "patterns[1]: a pattern begins with",
        ),
        (
            r#"{"pattern": "/a*", "soft": true}"#,
            "patterns: a pattern cannot be purged softly",
        ),
        (
            r#"{"keys": [3]}"#,
            "keys[0]: expected a URL or an object with its path, found a number",
        ),
        (
            r#"{"keys": [{"query": "a"}]}"#,
            "keys[0]: its path is missing",
        ),
        (
            r#"{"keys": [{"path": 1}]}"#,
            "keys[0].path: expected a text, found a number",
        ),
        (
            r#"{"keys": [{"path": "/a", "usr": "x"}]}"#,
            "keys[0].usr: there is no such field",
        ),
        (
            r#"{"keys": [{"path": "/a?b"}]}"#,
            "keys[0]: a path has no \"?\"",
        ),
        (
            r#"{"key": "ftp://x/a"}"#,
            "key: \"ftp\" is neither http nor https",
        ),
        (r#"{"key": "a"}"#, "key: a path begins with \"/\""),
        (
            r#"{"key": "/a;b"}"#,
            "key: nothing is ever stored for this path (semicolon)",
        ),
    ] {
        let refused = parse(json).expect_err(json);
        assert!(refused.starts_with(said), "{json}: {refused}");
    }
    let many = serde_json::json!({"tags": vec!["a"; MAX_ITEMS + 1]}).to_string();
    let refused = parse(&many).expect_err("too many");
    assert!(refused.starts_with("1001 items are too many"), "{refused}");
    let patterns = serde_json::json!({"patterns": vec!["*"; MAX_PATTERNS + 1]}).to_string();
    assert_eq!(
        parse(&patterns).expect_err("too many"),
        "patterns: at most 16 at once"
    );
}

#[test]
fn a_plan_reaches_what_was_asked_for() {
    let list = stored("/api/events/", "");
    let page = stored("/api/events/", "page=2&utm_source=mail");
    let detail = stored("/api/events/5/", "");
    let seats = stored("/api/events/5/seats/", "");
    for (json, expected) in [
        (r#"{"tag": "events"}"#, [true, true, false, false]),
        (r#"{"tag": "event:05"}"#, [true, true, true, false]),
        (r#"{"tag": "event:6"}"#, [true, true, false, false]),
        (r#"{"tag": "event:*"}"#, [true, true, true, false]),
        (r#"{"tag": "event:4*"}"#, [true, true, true, false]),
        (r#"{"tag": "seats*"}"#, [false, false, false, true]),
        (r#"{"tag": "seats5"}"#, [false, false, false, true]),
        (r#"{"path": "/api/events/"}"#, [true, true, false, false]),
        (r#"{"path": "/api/events/5"}"#, [false, false, true, false]),
        (
            r#"{"path": "/api/%65vents/5/**"}"#,
            [false, false, true, true],
        ),
        (
            r#"{"path": "/api/events/{event}/seats/"}"#,
            [true, true, true, true],
        ),
        (
            r#"{"path": "/api/events/*/seats/"}"#,
            [true, true, true, true],
        ),
        (r#"{"route": "seats"}"#, [false, false, false, true]),
        (r#"{"key": "/api/events/"}"#, [true, false, false, false]),
        (
            r#"{"key": "/api/events/?page=2"}"#,
            [false, true, false, false],
        ),
        (
            r#"{"key": "/api/events/?gclid=7&page=2"}"#,
            [false, true, false, false],
        ),
        (r#"{"key": "/api/events/5"}"#, [false, false, false, false]),
        (r#"{"all": true}"#, [true, true, true, true]),
    ] {
        let plan = plan(json);
        let reached = [&list, &page, &detail, &seats].map(|tags| plan.reaches(tags, b""));
        assert_eq!(reached, expected, "{json}");
    }
}

#[test]
fn a_plan_says_what_it_drops_and_where_that_is_more_than_was_asked() {
    for (json, names, widened) in [
        (r#"{"tag": "event:5"}"#, vec!["event:5", "events"], vec![]),
        (
            r#"{"tag": "event:4*"}"#,
            vec!["event:*", "events"],
            vec!["event:*"],
        ),
        (
            r#"{"path": "/api/events/5/"}"#,
            vec!["/api/events/5"],
            vec![],
        ),
        (
            r#"{"path": "/api/{x}/seats/"}"#,
            vec!["/api/**"],
            vec!["/api/**"],
        ),
        (r#"{"path": "/api/{x}/seen/"}"#, vec!["/api/*/seen"], vec![]),
        (r#"{"route": "seats"}"#, vec!["route seats"], vec![]),
        (r#"{"key": "/a?b=1"}"#, vec!["/a?b=1"], vec![]),
        (r#"{"all": true}"#, vec!["everything"], vec![]),
    ] {
        let drops = plan(json).drops;
        let texts =
            |list: Vec<&str>| -> BTreeSet<String> { list.into_iter().map(str::to_owned).collect() };
        assert_eq!(drops.names, texts(names), "{json}");
        assert_eq!(drops.widened, texts(widened), "{json}");
    }
}

#[test]
fn a_wildcard_that_a_rule_has_too_is_dropped_exactly() {
    let table = table();
    let route = &table.routes()[0];
    let tags = |path: &str| {
        let tags = table.entry_tags(route, path, &crate::pattern::Captures::new(), None);
        tags.expect("a path with a spelling")
    };
    for json in [
        r#"{"path": "/api/*/seen"}"#,
        r#"{"path": "/api/{any}/seen/"}"#,
    ] {
        let plan = plan(json);
        assert!(plan.reaches(&tags("/api/x/seen/"), b""), "{json}");
        assert!(!plan.reaches(&tags("/api/x/"), b""), "{json}");
    }
}

#[test]
fn a_pattern_is_compared_with_what_the_key_was_made_for() {
    let made = |path: &str, query: &str| {
        let parts = key::Parts {
            host: "shop.example",
            secure: false,
            path,
            query: Some(query),
            identity: None,
        };
        key::KeyHasher::new([1; 16]).key(&parts, &QueryRules::default())
    };
    for (pattern, path, query, expected) in [
        ("/api/*", "/api/events/", "page=2", true),
        ("/api/?*page=2*", "/api/", "page=2&city=Oslo", true),
        ("/api/?*page=2*", "/api/", "city=Oslo", false),
        ("/caf%c3%a9/%7e*", "/caf%C3%A9/~anna", "", true),
        ("/café/*", "/caf%C3%A9/", "", true),
        ("*shop*", "/api/", "", false),
    ] {
        let request = Request::of_pattern(pattern).expect("a pattern");
        let plan = request.wanted.plan(&table(), &QueryRules::default());
        let plan = plan.expect("a plan");
        let key = made(path, query);
        assert_eq!(
            plan.reaches(&[], key.as_bytes()),
            expected,
            "{pattern} {path}?{query}"
        );
    }
}

#[test]
fn an_unknown_route_is_refused_with_those_there_are() {
    let request = parse(r#"{"routes": ["event", "evnets"]}"#).expect("a request");
    let refused = request.wanted.plan(&table(), &QueryRules::default());
    assert_eq!(
        refused.expect_err("no such route").to_string(),
        "routes[1]: no route is named \"evnets\"; there are events, event, seats"
    );
}

#[test]
fn an_announcement_says_what_may_change_and_for_how_long() {
    let opening = Opening::parse(br#"{"tags": ["event:5"], "paths": ["/a/**"], "ttl": "30s"}"#);
    let opening = opening.expect("an announcement");
    assert_eq!(opening.ttl, Some(Duration::from_secs(30)));
    assert_eq!(
        (opening.wanted.tags.len(), opening.wanted.paths.len()),
        (1, 1)
    );
    for (json, said) in [
        ("{}", "nothing to announce"),
        (r#"{"tag": "a", "ttl": "soon"}"#, "ttl: "),
        (r#"{"tag": "a", "ttl": "0s"}"#, "ttl: a write takes longer"),
        (
            r#"{"tag": "a", "ttl": 30}"#,
            "ttl: expected a text, found a number",
        ),
        (r#"{"pattern": "/a*"}"#, "pattern: there is no such field"),
    ] {
        let refused = Opening::parse(json.as_bytes()).expect_err(json).to_string();
        assert!(refused.starts_with(said), "{json}: {refused}");
    }
}

#[test]
fn the_end_of_a_write_says_which_and_whether_it_took_place() {
    let closing = Closing::parse(br#"{"token": "00000000000000ff", "committed": true}"#);
    let closing = closing.expect("an end");
    assert_eq!((closing.token, closing.committed), (255, true));
    assert_eq!(closing.wanted, Wanted::default());
    for (json, said) in [
        (r#"{"committed": true}"#, "token: it is missing"),
        (
            r#"{"token": "ff", "committed": true}"#,
            "token: this is none",
        ),
        (
            r#"{"token": "+0000000000000ff", "committed": true}"#,
            "token: this is none",
        ),
        (r#"{"token": "00000000000000ff"}"#, "committed: say whether"),
        (
            r#"{"token": "00000000000000ff", "committed": false, "tag": "a"}"#,
            "committed: a write that did not take place",
        ),
    ] {
        let refused = Closing::parse(json.as_bytes()).expect_err(json).to_string();
        assert!(refused.starts_with(said), "{json}: {refused}");
    }
}
