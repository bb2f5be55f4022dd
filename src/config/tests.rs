//! The whole of the module: texts in, findings or types out.

use proptest::prelude::*;

use super::*;
use crate::policy::{Coalesce, Mode, Policy, Scope};

const EXAMPLE: &str = include_str!("../../tests/fixtures/example.toml");
const SHIPPED: &str = include_str!("../../proxy.toml");
const UPSTREAM: &str = "[upstream]\nurl = \"http://127.0.0.1:8000\"\n";

fn accept(text: &str) -> Loaded {
    match parse("proxy.toml", text, &Environment::default()) {
        Ok(loaded) => loaded,
        Err(failure) => panic!("{failure}"),
    }
}

fn findings(text: &str) -> Vec<Diagnostic> {
    match parse("proxy.toml", text, &Environment::default()) {
        Err(Failure::Invalid(found)) => found,
        Ok(loaded) => panic!("accepted: {loaded:?}"),
        Err(other) => panic!("{other}"),
    }
}

/// Asserts that a text has one error, at this place, whose rendering holds each of these.
fn refused(text: &str, place: &str, said: &[&str]) {
    let found = findings(text);
    let errors: Vec<_> = found
        .iter()
        .filter(|one| one.severity() == Severity::Error)
        .collect();
    let [error] = errors.as_slice() else {
        panic!("{} errors in {text}\n{found:?}", errors.len());
    };
    let rendered = error.to_string();
    assert!(
        rendered.contains(&format!("proxy.toml:{place}\n")),
        "{place} in {text}\n{rendered}"
    );
    assert!(rendered.contains('^'), "no caret\n{rendered}");
    for part in said {
        assert!(rendered.contains(part), "{part:?} for {text}\n{rendered}");
    }
}

/// The same for a text below `[upstream]`, which takes the first two lines.
fn refused_below(text: &str, place: &str, said: &[&str]) {
    refused(&format!("{UPSTREAM}{text}"), place, said);
}

/// The same for a table of cases, one a line: place, what is said, and the text with its lines joined by a pilcrow.
fn refused_each(head: &str, cases: &str) {
    for case in cases.trim().lines() {
        let parts: Vec<&str> = case.trim().splitn(3, "| ").map(str::trim).collect();
        let [place, said, text] = parts.as_slice() else {
            panic!("not a case: {case}");
        };
        let text = format!("{text}\n")
            .replace(" ¶ ", "\n")
            .replace("ROUTE\n", ROUTE);
        refused_below(&format!("{head}{text}"), place, &[said]);
    }
}

const ROUTE: &str = "[[route]]\nname = \"a\"\nmatch = \"/api/events/{event}/\"\n";

/// The only warning of a text below `[upstream]`.
fn warned(text: &str) -> String {
    let warnings = accept(&format!("{UPSTREAM}{text}")).warnings;
    assert_eq!(warnings.len(), 1, "{text}\n{warnings:?}");
    warnings[0].to_string()
}

#[test]
fn an_upstream_alone_is_a_configuration() {
    let loaded = accept(UPSTREAM);
    assert!(loaded.warnings.is_empty());
    assert!(loaded.config.rules.routes().is_empty());
    assert_eq!(loaded.notices, ["no [[route]]: everything passes through"]);
    assert!(loaded.config.redis.is_none());
}

#[test]
fn every_default_is_the_one_that_the_example_shows() {
    let loaded = accept(EXAMPLE);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let (shown, config) = (loaded.config, Config::default());
    assert_eq!(
        format!("{:?}", shown.server),
        format!("{:?}", config.server)
    );
    assert_eq!(
        format!("{:?}", shown.upstream),
        format!("{:?}", config.upstream)
    );
    assert_eq!(shown.memory, config.memory);
    assert_eq!(shown.redis, Some(Redis::default()));
    assert_eq!(shown.coherence, config.coherence);
    assert_eq!(
        format!("{:?}", shown.identity),
        format!("{:?}", config.identity)
    );
    assert_eq!(shown.query, config.query);
    assert_eq!(shown.compression, config.compression);
    assert_eq!(shown.monitor, config.monitor);
    assert_eq!(format!("{:?}", shown.admin), format!("{:?}", config.admin));
    assert_eq!(shown.warm, config.warm);
    assert_eq!(shown.trace, config.trace);
    assert_eq!(shown.log, config.log);
    assert_eq!(shown.reload, config.reload);
    assert_eq!(*shown.rules.defaults(), Policy::default());
}

#[test]
fn the_rules_of_the_example_arrive() {
    let rules = accept(EXAMPLE).config.rules;
    assert_eq!(rules.routes().len(), 15);
    let (_, route, _) = rules.find("/api/events/5/analytics/").expect("a route");
    assert_eq!(route.name, "events.analytics");
    assert_eq!(route.policy.ttl.as_secs(), 900);
    assert_eq!(route.policy.scope, Scope::User);
    assert_eq!(route.policy.coherence, Some(Mode::Bounded));
    let writes = rules.writes_of(Some(&http::Method::DELETE), "/api/bookings/5/");
    assert_eq!(writes.len(), 1);
    assert_eq!(writes[0].0.drop.len(), 6);
}

#[test]
fn session_tokens_are_said_in_a_word() {
    for (word, expected) in [
        ("off", SessionToken::Off),
        ("header", SessionToken::Header),
        ("cookie", SessionToken::Cookie),
    ] {
        let text = format!("{UPSTREAM}[redis]\n[coherence]\nsession_token = \"{word}\"\n");
        assert_eq!(accept(&text).config.coherence.session_token, expected);
    }
    assert_eq!(Config::default().coherence.session_token, SessionToken::Off);
}

#[test]
fn the_shipped_file_has_no_warnings_and_the_lifetimes_of_the_seed() {
    let loaded = accept(SHIPPED);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    assert!(loaded.notices.is_empty(), "{:?}", loaded.notices);
    for (path, name, minutes) in [
        ("/api/events/", "events.list", 5),
        ("/api/events/5/", "events.detail", 10),
        ("/api/events/search/", "events.search", 10),
        ("/api/events/5/analytics/", "events.analytics", 15),
        ("/api/theaters/", "theaters.list", 30),
        ("/api/theaters/5/", "theaters.detail", 60),
        ("/api/theaters/search/", "theaters.search", 30),
        ("/api/movies/", "movies.list", 60),
        ("/api/movies/5/", "movies.detail", 120),
        ("/api/movies/search/", "movies.search", 60),
        ("/api/showtimes/", "showtimes.list", 5),
        ("/api/showtimes/5/", "showtimes.detail", 5),
        (
            "/api/showtimes/5/availability/",
            "showtimes.availability",
            5,
        ),
        ("/api/showtimes/search/", "showtimes.search", 5),
    ] {
        let (_, route, _) = loaded.config.rules.find(path).expect(path);
        assert_eq!(
            (route.name.as_str(), route.policy.ttl.as_secs()),
            (name, minutes * 60)
        );
    }
}

#[test]
fn syntax_and_keys_are_refused_with_their_place() {
    for (text, place, said) in [
        ("[sever]\n", "3:2", "did you mean `server`?"),
        ("[cache]\ntll = \"5m\"\n", "4:1", "did you mean `ttl`?"),
        (
            "[cache]\ncolour = 1\n",
            "4:1",
            "one of: ttl, honor_cache_control",
        ),
        (
            "[cache]\nttl = \"5m\"\nttl = \"6m\"\n",
            "5:1",
            "remove one of the two",
        ),
        ("[cache]\nttl = 5m\n", "4:7", "write it in quotes"),
        ("[server\nworkers = 1\n", "3:8", "expected `]`"),
        ("[[server]]\n", "3:1", "write [server]"),
        ("[route]\nname = \"a\"\n", "3:1", "write [[route]]"),
    ] {
        refused_below(text, place, &[said]);
    }
    refused(
        "cache = 1\n[upstream]\nurl = \"http://a\"\n",
        "1:9",
        &["write [cache]"],
    );
    refused(
        "version = 2\n[upstream]\nurl = \"http://a\"\n",
        "1:11",
        &["write version = 1"],
    );
}

#[test]
fn values_are_refused_with_how_to_write_them() {
    refused_each(
        "",
        r#"
    4:7  | write "250ms", "30s", "5m" | [cache] ¶ ttl = "5 minits"
    4:7  | write "300s" | [cache] ¶ ttl = 300
    4:7  | negative | [cache] ¶ ttl = "-5m"
    4:7  | not true or false | [cache] ¶ ttl = true
    4:9  | did you mean `shared`? | [cache] ¶ scope = "shred"
    4:17 | 0.0 to 1.0 | [cache] ¶ refresh_ahead = 1.5
    4:13 | 0.0 to 1.0 | [cache] ¶ heuristic = -0.1
    4:14 | 0.0 to 1.0 | [cache] ¶ ttl_jitter = nan
    4:18 | remove it | [cache] ¶ statuses = [200, 206]
    4:13 | remove it | [cache] ¶ statuses = [304]
    4:13 | 200 to 599 | [cache] ¶ statuses = [101]
    4:11 | ["sessionid"] | [cache] ¶ cookies = "sessionid"
    4:16 | Accept-Language | [cache] ¶ vary_ignore = ["a b"]
    4:18 | did you mean `debug`? | [cache] ¶ status_headers = "debgu"
    4:21 | did you mean `honor`? | [cache] ¶ client_directives = "honour"
    4:10 | 0.0.0.0:8080 | [server] ¶ listen = "8080"
    4:10 | at least one | [server] ¶ listen = []
    4:11 | 0 to 1024 | [server] ¶ workers = -1
    4:19 | 1 to | [server] ¶ max_connections = 0
    4:20 | write "10B" | [server] ¶ max_request_body = 10
    4:20 | 64KiB | [server] ¶ max_request_body = "10 megs"
    4:18 | cannot be zero | [server] ¶ header_timeout = "0s"
    4:20 | 10.0.0.0/8 | [server] ¶ trusted_proxies = ["10.0/8"]
    4:7  | no `key` | [server] ¶ tls = { cert = "a" }
    4:9  | header:Authorization | [identity] ¶ from = ["Authorization"]
    4:9  | write "/data/id" | [identity] ¶ field = "data.id"
    4:10 | begins with "/" | [identity] ¶ lookup = "api/me"
    4:11 | utm_* | [query] ¶ ignore = ["u*m"]
    4:14 | one of: zstd, br, gzip | [compression] ¶ encodings = ["deflate"]
    4:10 | application/json | [compression] ¶ types = ["json"]
    4:9  | one of: error, warn | [log] ¶ level = "warning"
    4:7  | use password_env or password_file | [redis] ¶ url = "redis://:pw@h/3"
    4:7  | redis:// | [redis] ¶ url = "http://h"
    4:9  | "50ms" to "1m" | [coherence] ¶ lease = "10ms"
    4:14 | intent_ttl = "1m" | [coherence] ¶ intent_ttl = "20s"
    4:17 | one of: off, header, cookie | [coherence] ¶ session_token = "yes"
    4:10 | a `listen` of its own | [admin] ¶ listen = "0.0.0.0:8080"
    4:12 | raise `max_size` | [memory] ¶ max_size = "1MiB"
"#,
    );
}

#[test]
fn routes_are_refused_with_what_to_write() {
    refused_each(
        "",
        r#"
    3:1  | write name =  | [[route]] ¶ match = "/a"
    3:1  | write match =  | [[route]] ¶ name = "a"
    4:8  | write name = "my-route" | [[route]] ¶ name = "My Route" ¶ match = "/a"
    5:9  | write "/a/{b}" | [[route]] ¶ name = "a" ¶ match = "a/{b}"
    5:9  | write "/a" | [[route]] ¶ name = "a" ¶ match = "/a?b=1"
    5:9  | {event}/" | [[route]] ¶ name = "a" ¶ match = "/x{y}/"
    5:9  | stand at its end | [[route]] ¶ name = "a" ¶ match = "/**/a"
    5:9  | {owner} | [[route]] ¶ name = "a" ¶ match = "/{user}/"
    6:1  | has no key `stale` | [[route]] ¶ name = "a" ¶ match = "/a" ¶ stale = "1m"
    6:14 | did you mean {event}? `match` captures {event} | ROUTE ¶ tags = ["x", "event:{evnt}"]
    6:9  | `match` captures {event} | ROUTE ¶ tags = ["event:{zone}"]
    6:9  | [[write]] | ROUTE ¶ tags = ["event:{response.id}"]
    6:9  | {name} | ROUTE ¶ tags = ["event:{event"]
    6:9  | write "api.events" | ROUTE ¶ tags = ["/api/events"]
    6:9  | no blank | ROUTE ¶ tags = ["two words"]
    6:13 | one of: inherit, strict, strong, bounded | ROUTE ¶ coherence = "eventual"
    7:8  | (the other: line 4) | ROUTE ¶ [[route]] ¶ name = "a" ¶ match = "/b"
    8:9  | move "b" before "a" | ROUTE ¶ [[route]] ¶ name = "b" ¶ match = "/api/events/search/"
    8:9  | remove one of the two | ROUTE ¶ [[route]] ¶ name = "b" ¶ match = "/api/events/{id}"
    8:9  | below [identity] | [identity] ¶ from = [] ¶ [[route]] ¶ name = "a" ¶ match = "/a" ¶ scope = "user"
"#,
    );
    let text = "ROUTE\n[[route]]\nname = \"b\"\nmatch = \"/api/events/search/\"\n";
    let said = ["never reached", "\"a\" (line 5)", "matches first"];
    refused_below(&text.replace("ROUTE\n", ROUTE), "8:9", &said);
}

#[test]
fn writes_are_refused_with_what_to_write() {
    refused_each(
        "[[write]]\n",
        r#"
    3:1  | write on =  | drop = ["a"]
    3:1  | write drop =  | on = "POST /a"
    4:7  | a method that writes | on = ["GET /a"] ¶ drop = []
    4:6  | write "POST /a/" | on = "/a/" ¶ drop = []
    4:6  | did you mean POST? | on = "PSOT /a" ¶ drop = []
    4:6  | did you mean POST? | on = "post /a" ¶ drop = []
    4:6  | write "/a" | on = "POST a" ¶ drop = []
    4:6  | {event} | on = "POST /{a.b}/" ¶ drop = []
    5:14 | did you mean {event}? `on` captures {event} | on = "POST /{event}/" ¶ drop = ["e", "e:{evnt}"]
    5:9  | `on` captures {event} | on = "POST /{event}/" ¶ drop = ["/x/{zone}/"]
    5:9  | `on` captures nothing | on = "POST /" ¶ drop = ["e:{zone}"]
    5:9  | write {body.field} | on = "POST /" ¶ drop = ["e:{body}"]
    5:9  | a whole segment | on = "POST /" ¶ drop = ["/a*/"]
"#,
    );
}

#[test]
fn relations_are_refused_with_what_to_write() {
    refused_each(
        "[relations]\n",
        r#"
    4:13 | did you mean {id}? the left side captures {id} | "a:{id}" = ["b:{di}"]
    4:1  | plain names | "a:{user}" = ["b"]
    4:8  | a tag is expected | "a" = ["/b"]
    4:8  | "a" drops "a" | "a" = ["a"]
    5:12 | "a:{x}" drops "b:{y}" drops "a:{x}" | "a:{x}" = ["c", "b:{x}"] ¶ "b:{y}" = ["a:7"]
"#,
    );
}

#[test]
fn one_run_reports_every_error_in_the_order_of_the_file() {
    let found = findings(
        "[server]\nworkers = \"x\"\nlissen = 1\n[cache]\nttl = 5\nscope = 7\n[[route]]\nname = 1\n",
    );
    let places: Vec<_> = found.iter().map(Diagnostic::position).collect();
    let expected = [(2, 11), (3, 1), (5, 7), (6, 9), (7, 1), (8, 8)].map(Some);
    assert_eq!(places[1..], expected);
    assert!(
        found[0].to_string().contains("REPRISE_UPSTREAM_URL"),
        "{}",
        found[0]
    );
}

#[test]
fn a_syntax_error_does_not_hide_the_rest_and_an_open_list_is_one_error() {
    let broken = findings("[upstream]\nurl = \"http://a\n[cache]\nttl = 5m\ntll = \"1m\"\n");
    let places: Vec<_> = broken.iter().map(Diagnostic::position).collect();
    assert_eq!(places, [Some((2, 16)), Some((4, 7)), Some((5, 1))]);
    let text = format!(
        "{UPSTREAM}[server]\nlisten = [\"0.0.0.0:80\",\nworkers = 3\n[cache]\nttl = \"x\"\n"
    );
    refused(&text, "5:9", &["close the list above with ]"]);
}

#[test]
fn what_is_probably_not_meant_is_a_warning() {
    let route = "[[route]]\nname = \"a\"\nmatch = \"/api/events/{event}/\"\n";
    for (text, said) in [
        ("ROUTE ttl = \"48h\"\n", "cut to `max_ttl` (1d)"),
        (
            "ROUTE ttl = \"1m\"\nscope = \"shared\"\ntags = [\"b:{user}\"]\n",
            "{user} finds nothing",
        ),
        ("ROUTE honor_cache_control = false\n", "can store nothing"),
        (
            "[[route]]\nname = \"a\"\nmatch = \"/a/<int:pk>/\"\n",
            "write {pk}",
        ),
        (
            "ROUTE tags = [\"events\"]\n[[write]]\non = \"POST /a\"\ndrop = [\"evnets\"]\n",
            "did you mean \"events\"?",
        ),
        (
            "ROUTE tags = [\"event:{event}\"]\n[[write]]\non = \"POST /a\"\ndrop = [\"events:{response.id}\"]\n",
            "did you mean \"event:{event}\"?",
        ),
        (
            "ROUTE tags = [\"e:{event}\"]\n[[write]]\non = [\"POST /{x}\", \"POST /a/b\"]\ndrop = [\"e:{x}\"]\n",
            "not captured by \"/a/b\"",
        ),
        (
            "ROUTE tags = [\"e\"]\n[relations]\n\"e\" = [\"f\"]\n",
            "no route carries the tag \"f\"",
        ),
    ] {
        let warning = warned(&text.replace("ROUTE ", route));
        assert!(
            warning.starts_with("warning: ") && warning.contains(said),
            "{text}\n{warning}"
        );
    }
}

#[test]
fn what_is_not_in_effect_yet_is_announced_when_it_is_there() {
    let text = format!(
        "{UPSTREAM}[redis]\n[coherence]\nlease = \"2s\"\nmode = \"strict\"\non_partition = \"forward\"\n\
         [warm]\n[[route]]\nname = \"a\"\nmatch = \"/a\"\ncoalesce = \"cluster\"\n"
    );
    let loaded = accept(&text);
    let announced: Vec<_> = loaded
        .notices
        .iter()
        .filter_map(|notice| notice.split(" is not").next())
        .collect();
    assert_eq!(announced, ["[warm]"]);
    assert_eq!(
        loaded.notices[0],
        "[warm] is not in effect yet: nothing is fetched ahead"
    );
    assert_eq!(
        loaded.config.rules.routes()[0].policy.coalesce,
        Coalesce::Cluster
    );
}

#[test]
fn routes_inherit_from_the_cache_table_wherever_it_stands() {
    let text = format!(
        "{UPSTREAM}[[route]]\nname = \"a\"\nmatch = \"/a\"\nttl = \"1m\"\n[cache]\nttl = \"5m\"\ncompress = false\n"
    );
    let rules = accept(&text).config.rules;
    assert_eq!(rules.routes()[0].policy.ttl.as_secs(), 60);
    assert!(!rules.routes()[0].policy.compress);
    assert_eq!(rules.defaults().ttl.as_secs(), 300);
}

#[test]
fn ports_left_to_the_kernel_are_two_addresses() {
    let zero = "listen = \"127.0.0.1:0\"\n";
    accept(&format!("{UPSTREAM}[server]\n{zero}[admin]\n{zero}"));
}

#[test]
fn the_environment_wins() {
    let environment = Environment {
        upstream_url: Some("http://10.0.0.1:9000".into()),
        redis_url: Some("redis://:hunter2@r:6379/3".into()),
        identity_key: Some(Secret::new("k".into())),
        log: Some("debug".into()),
        ..Environment::default()
    };
    let loaded = parse("p", "[redis]\n", &environment).expect("a valid file");
    let redis = loaded.config.redis.expect("a redis");
    assert_eq!(redis.url, "redis://r:6379/3");
    assert_eq!(
        redis.password,
        Password::Given(Secret::new("hunter2".into()))
    );
    assert_eq!(loaded.config.log.filter, "debug");
    assert!(loaded.config.identity.key.is_some());
    let wrong = Environment {
        log: Some("loud".into()),
        upstream_url: Some("nonsense".into()),
        ..Environment::default()
    };
    let failure = parse("p", "", &wrong).expect_err("two errors").to_string();
    assert!(
        failure.contains("REPRISE_LOG") && failure.contains("REPRISE_UPSTREAM_URL"),
        "{failure}"
    );
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let failure = load(Path::new("/nowhere/proxy.toml"), &Environment::default());
    let failure = failure.expect_err("no file").to_string();
    assert!(
        failure.starts_with("error: /nowhere/proxy.toml cannot be read: "),
        "{failure}"
    );
}

fn survives(text: &str) {
    if let Err(failure) = parse("proxy.toml", text, &Environment::default()) {
        assert!(failure.to_string().contains("error"));
        assert!(!failure.render(true).is_empty());
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in any::<String>()) {
        survives(&text);
    }

    #[test]
    fn no_slip_in_a_good_file_makes_it_panic(
        at in 0..EXAMPLE.len(), cut in 0_usize..40, put in "[\\[\\]{}=\"',.*/#\n\u{e9}\u{202e}a1 -]{0,6}",
    ) {
        let end = (at + cut).min(EXAMPLE.len());
        let (head, tail) = (EXAMPLE.get(..at), EXAMPLE.get(end..));
        survives(&format!("{}{put}{}", head.unwrap_or_default(), tail.unwrap_or_default()));
    }

    #[test]
    fn no_value_makes_it_panic(line in 0_usize..200, value in "[\"\\[{]?[a-z/{}*.:0-9é -]{0,12}[\"\\]}]?") {
        let changed = |(index, text): (usize, &str)| match text.split_once('=') {
            Some((key, _)) if index == line => format!("{key}= {value}"),
            _ => text.to_owned(),
        };
        let lines: Vec<String> = EXAMPLE.lines().enumerate().map(changed).collect();
        survives(&lines.join("\n"));
    }
}
