//! The knobs of a route: `[cache]`, and every `[[route]]` over it.

use crate::config::kinds;
use crate::config::reader::Section;
use crate::policy::{ClientDirectives, Coalesce, Mode, Policy, Scope, StatusHeaders, Unlisted};

/// Reads `[cache]`: the knobs that every route inherits.
pub(super) fn cache(root: &Section<'_>) -> Policy {
    let section = root.section("cache");
    let mut policy = Policy::default();
    lifetimes(&section, &mut policy);
    knobs(&section, &mut policy);
    section.finish();
    policy
}

/// Reads the knobs of how long, over those inherited.
pub(super) fn lifetimes(section: &Section<'_>, policy: &mut Policy) {
    section.set("ttl", &mut policy.ttl, kinds::duration);
    section.set(
        "honor_cache_control",
        &mut policy.honor_cache_control,
        kinds::boolean,
    );
    section.set("max_ttl", &mut policy.max_ttl, kinds::duration);
    section.set("heuristic", &mut policy.heuristic, kinds::share);
    section.set(
        "stale_while_revalidate",
        &mut policy.stale_while_revalidate,
        kinds::duration,
    );
    section.set(
        "stale_if_error",
        &mut policy.stale_if_error,
        kinds::duration,
    );
    section.set("refresh_ahead", &mut policy.refresh_ahead, kinds::share);
    section.set("ttl_jitter", &mut policy.ttl_jitter, kinds::share);
    section.set("statuses", &mut policy.statuses, kinds::list(kinds::status));
    section.set("negative_ttl", &mut policy.negative_ttl, kinds::duration);
    section.set(
        "client_max_age",
        &mut policy.client_max_age,
        kinds::duration,
    );
}

/// Reads the other knobs, over those inherited.
pub(super) fn knobs(section: &Section<'_>, policy: &mut Policy) {
    section.set("scope", &mut policy.scope, kinds::word(&SCOPES));
    section.set(
        "client_directives",
        &mut policy.client_directives,
        kinds::word(&DIRECTIVES),
    );
    section.set("cookies", &mut policy.cookies, kinds::cookies);
    section.set(
        "vary_ignore",
        &mut policy.vary_ignore,
        kinds::list(kinds::header),
    );
    section.set(
        "key_headers",
        &mut policy.key_headers,
        kinds::list(kinds::header),
    );
    section.set("coalesce", &mut policy.coalesce, kinds::word(&COALESCE));
    section.set(
        "coherence",
        &mut policy.coherence,
        kinds::word(&ROUTE_MODES),
    );
    section.set("compress", &mut policy.compress, kinds::boolean);
    section.set(
        "unlisted_writes",
        &mut policy.unlisted_writes,
        kinds::word(&UNLISTED),
    );
    section.set(
        "status_headers",
        &mut policy.status_headers,
        kinds::word(&STATUS_HEADERS),
    );
}

const SCOPES: [(&str, Scope); 4] = [
    ("auto", Scope::Auto),
    ("shared", Scope::Shared),
    ("user", Scope::User),
    ("off", Scope::Off),
];

const DIRECTIVES: [(&str, ClientDirectives); 2] = [
    ("ignore", ClientDirectives::Ignore),
    ("honor", ClientDirectives::Honor),
];

const COALESCE: [(&str, Coalesce); 3] = [
    ("replica", Coalesce::Replica),
    ("cluster", Coalesce::Cluster),
    ("off", Coalesce::Off),
];

const ROUTE_MODES: [(&str, Option<Mode>); 4] = [
    ("inherit", None),
    ("strict", Some(Mode::Strict)),
    ("strong", Some(Mode::Strong)),
    ("bounded", Some(Mode::Bounded)),
];

const UNLISTED: [(&str, Unlisted); 2] =
    [("family", Unlisted::Family), ("target", Unlisted::Target)];

const STATUS_HEADERS: [(&str, StatusHeaders); 3] = [
    ("off", StatusHeaders::Off),
    ("minimal", StatusHeaders::Minimal),
    ("debug", StatusHeaders::Debug),
];
