//! What can only be said when the whole file is known: rules against each other, tables against each other.

use std::ops::Range;
use std::time::Duration;

use crate::capture::Source;
use crate::config::Config;
use crate::config::findings::{Findings, nearest};
use crate::config::overlap::{Cycle, cycles, overlaps};
use crate::config::reader::Section;
use crate::config::relations::ReadRelation;
use crate::config::routes::ReadRoute;
use crate::config::settings::MaxSize;
use crate::config::writes::ReadWrite;
use crate::policy::{Policy, Scope};
use crate::route::Item;
use crate::server::Address;
use crate::tag::Template;
use crate::units::{format_duration, format_size};

/// Compares tables with each other. `config` holds defaults where a key was wrong: such a key is not compared.
pub(super) fn tables(root: &Section<'_>, config: &Config) {
    let findings = root.findings();
    lease(root, config);
    intent_ttl(root, config);
    if let MaxSize::Bytes(max) = config.memory.max_size
        && config.memory.max_entry_size > max
    {
        let message = format!(
            "`max_entry_size` ({}) is more than `max_size` ({}): no such entry fits",
            format_size(config.memory.max_entry_size),
            format_size(max)
        );
        let place = root.place_in("memory", "max_entry_size");
        let place = place.or_else(|| root.place_in("memory", "max_size"));
        add_error(
            findings,
            message,
            place,
            "lower `max_entry_size`, or raise `max_size`",
        );
    }
    addresses(root, config);
    if config.identity.from.is_empty() && config.identity.lookup.is_some() {
        let place = root.place_in("identity", "lookup");
        add_error(
            findings,
            "`lookup` asks the app about a credential, and `from` names none".into(),
            place,
            "write from = [\"header:Authorization\", \"cookie:sessionid\"]",
        );
    }
}

fn addresses(root: &Section<'_>, config: &Config) {
    // Port 0 asks the kernel for any free port: two of those are two addresses.
    let any = matches!(&config.admin.listen, Address::Tcp(address) if address.port() == 0);
    if !any && config.server.listen.contains(&config.admin.listen) {
        let place = root.place_in("admin", "listen");
        let place = place.or_else(|| root.place_in("server", "listen"));
        let message = "clients and operators cannot share one address".to_owned();
        add_error(
            root.findings(),
            message,
            place,
            "give [admin] a `listen` of its own",
        );
    }
}

fn lease(root: &Section<'_>, config: &Config) {
    let range = Duration::from_millis(50)..=Duration::from_secs(60);
    if !range.contains(&config.coherence.lease) {
        let lease = format_duration(config.coherence.lease);
        let message = format!("a lease of {lease} is too short to renew or too long to wait for");
        let place = root.place_in("coherence", "lease");
        add_error(
            root.findings(),
            message,
            place,
            "write a duration from \"50ms\" to \"1m\"",
        );
    }
}

fn intent_ttl(root: &Section<'_>, config: &Config) {
    let (ttl, timeout) = (config.coherence.intent_ttl, config.upstream.timeout);
    if ttl > timeout {
        return;
    }
    let message = format!(
        "`intent_ttl` ({}) must be longer than the `timeout` of [upstream] ({}): a write may commit until then",
        format_duration(ttl),
        format_duration(timeout)
    );
    let place = root.place_in("coherence", "intent_ttl");
    let place = place.or_else(|| root.place_in("upstream", "timeout"));
    let twice = format_duration(timeout.saturating_mul(2));
    add_error(
        root.findings(),
        message,
        place,
        &format!("write intent_ttl = \"{twice}\" below [coherence]"),
    );
}

fn add_error(findings: &Findings, message: String, place: Option<Range<usize>>, help: &str) {
    let error = findings.error(message).help(help);
    findings.add(match place {
        Some(place) => error.at(place),
        None => error,
    });
}

/// Compares routes with each other and with what they inherit.
pub(super) fn routes(root: &Section<'_>, routes: &[ReadRoute<'_>], config: &Config) {
    for (index, later) in routes.iter().enumerate() {
        let earlier = &routes[..index];
        unreachable(later, earlier);
        same_name(later, earlier);
        policy(later, config);
    }
    let defaults = config.rules.defaults();
    if defaults.scope == Scope::User && config.identity.from.is_empty() {
        let place = root.place_in("cache", "scope");
        add_error(root.findings(), NO_IDENTITY.into(), place, IDENTITY_HELP);
    }
    if defaults.ttl > defaults.max_ttl {
        let place = root
            .place_in("cache", "ttl")
            .or_else(|| root.place_in("cache", "max_ttl"));
        add_capped(root.findings(), defaults, place);
    }
}

const NO_IDENTITY: &str =
    "scope \"user\" needs to know who is asking, and [identity] `from` names no credential";
const IDENTITY_HELP: &str =
    "write from = [\"header:Authorization\", \"cookie:sessionid\"] below [identity]";

fn unreachable(later: &ReadRoute<'_>, earlier: &[ReadRoute<'_>]) {
    let covers = |route: &&ReadRoute<'_>| route.route.pattern.covers(&later.route.pattern);
    let Some(first) = earlier.iter().find(covers) else {
        return;
    };
    let findings = later.section.findings();
    let place = first.section.place_of("match");
    let line = findings.line_of(&place);
    let (name, other) = (&later.route.name, &first.route.name);
    let message =
        format!("the route \"{name}\" is never reached: \"{other}\" (line {line}) matches first");
    let same = covers(&first) && later.route.pattern.covers(&first.route.pattern);
    let help = if same {
        "both match the same paths: remove one of the two".to_owned()
    } else {
        format!("move \"{name}\" before \"{other}\": the first match wins")
    };
    let error = findings.error(message).at(later.section.place_of("match"));
    findings.add(error.beside(place, "matches first").help(help));
}

fn same_name(later: &ReadRoute<'_>, earlier: &[ReadRoute<'_>]) {
    let name = &later.route.name;
    let named = |route: &&ReadRoute<'_>| !name.is_empty() && &route.route.name == name;
    let Some(first) = earlier.iter().find(named) else {
        return;
    };
    let findings = later.section.findings();
    let place = first.section.place_of("name");
    let line = findings.line_of(&place);
    let message = format!(
        "two routes are named \"{name}\": metrics could not tell them apart (the other: line {line})"
    );
    let error = findings.error(message).at(later.section.place_of("name"));
    findings.add(
        error
            .beside(place, "the other one")
            .help("give each route a name of its own"),
    );
}

fn policy(route: &ReadRoute<'_>, config: &Config) {
    let (section, policy) = (&route.section, &route.route.policy);
    let findings = section.findings();
    if section.is_wrong() {
        return;
    }
    if policy.scope == Scope::User && section.has("scope") && config.identity.from.is_empty() {
        let error = findings.error(NO_IDENTITY).at(section.place_of("scope"));
        findings.add(error.help(IDENTITY_HELP));
    }
    if policy.ttl > policy.max_ttl && (section.has("ttl") || section.has("max_ttl")) {
        let key = if section.has("ttl") { "ttl" } else { "max_ttl" };
        add_capped(findings, policy, Some(section.place_of(key)));
    }
    let of_user = |tag: &Template| tag.sources().any(|source| *source == Source::User);
    if policy.scope == Scope::Shared && route.route.tags.iter().any(of_user) {
        let message = "a shared answer belongs to no user: {user} finds nothing here";
        let warning = findings.warning(message).at(section.place_of("tags"));
        findings.add(warning.help("write scope = \"user\", or a tag without {user}"));
    }
    if never_stores(policy) {
        let message = format!(
            "the route \"{}\" can store nothing: it has no lifetime and does not ask the app",
            route.route.name
        );
        let warning = findings.warning(message).at(section.place_of("ttl"));
        findings
            .add(warning.help("write ttl = \"5m\", or scope = \"off\" if that is what is meant"));
    }
}

fn never_stores(policy: &Policy) -> bool {
    let lifetime =
        !policy.ttl.is_zero() || !policy.negative_ttl.is_zero() || policy.heuristic > 0.0;
    !lifetime && !policy.honor_cache_control && policy.scope != Scope::Off
}

fn add_capped(findings: &Findings, policy: &Policy, place: Option<Range<usize>>) {
    let ttl = format_duration(policy.ttl);
    let max = format_duration(policy.max_ttl);
    let message = format!("`ttl` ({ttl}) is cut to `max_ttl` ({max})");
    let warning = findings.warning(message);
    let warning = warning.help("raise `max_ttl` as well, or lower `ttl`");
    findings.add(match place {
        Some(place) => warning.at(place),
        None => warning,
    });
}

/// Warns of tags that are dropped and that nothing carries. Only a warning: the app may add tags to its answers. Where
/// there are errors it says nothing, because the tag that is missing may be in what could not be read.
pub(super) fn tags(
    findings: &Findings,
    routes: &[ReadRoute<'_>],
    writes: &[ReadWrite],
    relations: &[ReadRelation],
) {
    if findings.has_errors() {
        return;
    }
    let carried: Vec<&Template> = routes.iter().flat_map(|route| &route.route.tags).collect();
    let left = relations.iter().map(|relation| &relation.relation.left);
    let known: Vec<&Template> = carried.iter().copied().chain(left).collect();
    let dropped = writes.iter().flat_map(|write| &write.drop);
    let dropped = dropped.filter_map(|(item, place)| match item {
        Item::Tag(template) => Some((template, place)),
        Item::Path(_) => None,
    });
    let related = relations
        .iter()
        .flat_map(|line| line.relation.right.iter().zip(&line.right));
    for (template, place) in dropped.chain(related) {
        if known.iter().any(|tag| overlaps(tag, template)) {
            continue;
        }
        let warning = findings.warning(format!("no route carries the tag \"{template}\""));
        let names = known.iter().map(|tag| tag.as_str());
        let help = match nearest(template.as_str(), names.clone())
            .or_else(|| same_head(template, names))
        {
            Some(tag) => format!("did you mean \"{tag}\"?"),
            None => {
                "add it to the `tags` of a route; if the app sends it with its answers, all is well"
                    .to_owned()
            }
        };
        findings.add(warning.at(place.clone()).help(help));
    }
}

/// The tag whose text before the first capture is nearest: `event:{event}` for `events:{response.id}`.
fn same_head<'k>(template: &Template, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let head = |text: &'k str| text.split('{').next().unwrap_or(text);
    let class = template.class()?;
    let known: Vec<&str> = known.filter(|text| text.contains('{')).collect();
    let found = nearest(
        class.trim_end_matches('*'),
        known.iter().map(|text| head(text)),
    )?;
    known.into_iter().find(|text| head(text) == found)
}

/// Reports relations that come back to where they began.
pub(super) fn relations(findings: &Findings, relations: &[ReadRelation]) {
    let all: Vec<_> = relations.iter().map(|line| &line.relation).collect();
    for Cycle { path, closing } in cycles(&all) {
        let Some((&first, &last)) = path.first().zip(path.last()) else {
            continue;
        };
        let names = path
            .iter()
            .chain([&first])
            .map(|index| format!("\"{}\"", all[*index].left));
        let names: Vec<String> = names.collect();
        let message = format!("relations go round in a circle: {}", names.join(" drops "));
        let error = findings
            .error(message)
            .at(relations[last].right[closing].clone());
        let error = error.beside(relations[first].left.clone(), "begins here");
        findings.add(error.help(
            "remove one of these tags from the right: a tag need not drop what already drops it",
        ));
    }
}
