//! What the rules are, as a number: replicas may share entries only if it is the same.
//!
//! An entry of the shared cache is dropped by its tags, and found by its key. A replica that would have given it other
//! tags would trust in drops that never reach it; one that keeps other callers apart would show it to the wrong ones. So
//! all that decides tags and keys goes into the names of shared entries. How long an entry is good does not: that is
//! judged by the reader, by its own rules.

use std::hash::Hasher;

use siphasher::sip::SipHasher24;

use super::{MAX_DEPTH, Route, Table};
use crate::policy::{Cookies, Policy, Scope};

/// Changes whenever the same rules give other tags than in the release before.
const CONVENTION: u64 = 1;

/// A hash of a list of lists. Its key is fixed, so that all replicas agree.
struct Canonical(SipHasher24);

impl Canonical {
    fn number(&mut self, number: usize) {
        self.0.write(&(number as u64).to_be_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len());
        self.0.write(text.as_bytes());
    }

    fn texts<'a>(&mut self, texts: impl IntoIterator<Item = &'a str>) {
        let texts: Vec<_> = texts.into_iter().collect();
        self.number(texts.len());
        texts.into_iter().for_each(|text| self.text(text));
    }

    /// Names whose order means nothing.
    fn set<'a>(&mut self, texts: impl IntoIterator<Item = &'a str>) {
        let mut texts: Vec<_> = texts.into_iter().collect();
        texts.sort_unstable();
        texts.dedup();
        self.texts(texts);
    }

    fn route(&mut self, route: &Route) {
        self.text(&route.name);
        self.text(route.pattern.as_str());
        self.set(route.tags.iter().map(|tag| tag.as_str()));
        self.policy(&route.policy);
    }

    /// Of a route's knobs, those that say which requests share an entry.
    fn policy(&mut self, policy: &Policy) {
        self.text(match policy.scope {
            Scope::Auto => "auto",
            Scope::Shared => "shared",
            Scope::User => "user",
            Scope::Off => "off",
        });
        match &policy.cookies {
            Cookies::All => self.text("all"),
            Cookies::Only(names) => {
                self.text("only");
                self.set(names.iter().map(String::as_str));
            }
        }
        self.set(policy.vary_ignore.iter().map(|name| name.as_str()));
        self.set(policy.key_headers.iter().map(|name| name.as_str()));
    }
}

impl Table {
    /// A digest of all in these rules that decides which tags an entry has and which requests share it: the same on
    /// all replicas and in all processes. `[identity]` and `[query]` are not part of the table and not of the digest.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut hash = Canonical(SipHasher24::new_with_keys(
            0x7265_7072_6973_6504,
            CONVENTION,
        ));
        hash.number(MAX_DEPTH);
        // The first route that matches counts: their order is part of the rules.
        hash.number(self.routes.len());
        self.routes.iter().for_each(|route| hash.route(route));
        hash.policy(&self.defaults);
        hash.set(self.shapes.iter().map(|shape| shape.text.as_str()));
        hash.number(self.relations.len());
        for relation in &self.relations {
            hash.text(relation.left.as_str());
            hash.set(relation.right.iter().map(|tag| tag.as_str()));
        }
        hash.0.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::header;

    use super::*;
    use crate::pattern::Pattern;
    use crate::route::{Item, Relation, Write};
    use crate::tag::Template;

    /// The parts of a table, each to be changed alone.
    #[derive(Clone)]
    struct Rules {
        routes: Vec<Route>,
        drop: Vec<&'static str>,
        relations: Vec<(&'static str, &'static str)>,
        defaults: Policy,
    }

    fn route(name: &str, pattern: &str, tags: &[&str]) -> Route {
        Route {
            name: name.to_owned(),
            pattern: Pattern::parse(pattern).expect("a pattern"),
            tags: tags.iter().map(|tag| template(tag)).collect(),
            policy: Policy::default(),
        }
    }

    fn template(text: &str) -> Template {
        Template::parse(text).expect("a template")
    }

    fn rules() -> Rules {
        Rules {
            routes: vec![
                route("events", "/api/events/", &["events", "lists"]),
                route("event", "/api/events/{event}/", &["event:{event}"]),
            ],
            drop: vec!["/api/*/{id}/", "/api/{kind}/top/"],
            relations: vec![("theater:{id}", "events")],
            defaults: Policy::default(),
        }
    }

    fn digest(change: impl FnOnce(&mut Rules)) -> u64 {
        let mut rules = rules();
        change(&mut rules);
        let item = |text: &&str| Item::Path(Pattern::parse(text).expect("a pattern"));
        let write = Write {
            method: None,
            pattern: Pattern::parse("/write/").expect("a pattern"),
            drop: rules.drop.iter().map(item).collect(),
        };
        let relations = rules.relations.iter().map(|(left, right)| Relation {
            left: template(left),
            right: vec![template(right)],
        });
        let relations = relations.collect();
        Table::new(rules.routes, vec![write], relations, rules.defaults).digest()
    }

    #[test]
    fn what_decides_tags_and_sharing_is_in_the_digest() {
        type Change = fn(&mut Rules);
        let changes: [(&str, Change); 15] = [
            ("nothing", |_| ()),
            ("a name", |rules| rules.routes[0].name.push('2')),
            ("a pattern", |rules| {
                rules.routes[0] = route("events", "/api/ev/", &["events", "lists"]);
            }),
            ("a tag", |rules| rules.routes[0].tags.truncate(1)),
            ("a route less", |rules| rules.routes.truncate(1)),
            ("their order", |rules| rules.routes.reverse()),
            ("the scope", |rules| {
                rules.routes[0].policy.scope = Scope::Shared;
            }),
            ("no cookies", |rules| {
                rules.routes[0].policy.cookies = Cookies::Only(vec![]);
            }),
            ("one cookie", |rules| {
                rules.routes[0].policy.cookies = Cookies::Only(vec!["a".into()]);
            }),
            ("a field less", |rules| {
                rules.routes[0].policy.vary_ignore = vec![header::COOKIE];
            }),
            ("a field more", |rules| {
                rules.routes[0].policy.key_headers = vec![header::COOKIE];
            }),
            ("the defaults", |rules| rules.defaults.scope = Scope::Off),
            ("a drop's shape", |rules| rules.drop.truncate(1)),
            ("a relation", |rules| {
                rules.relations[0].1 = "lists";
            }),
            ("no relation", |rules| rules.relations.clear()),
        ];
        let digests: Vec<_> = changes
            .into_iter()
            .map(|(name, change)| (name, digest(change)))
            .collect();
        for (index, (name, one)) in digests.iter().enumerate() {
            let same = digests[index + 1..].iter().find(|(_, other)| other == one);
            assert_eq!(same, None, "{name}");
        }
    }

    #[test]
    fn what_the_reader_judges_is_not() {
        let base = digest(|_| ());
        type Change = fn(&mut Rules);
        let changes: [(&str, Change); 6] = [
            ("a lifetime", |rules| {
                rules.routes[0].policy.ttl = Duration::from_secs(9);
            }),
            ("compression", |rules| {
                rules.routes[0].policy.compress = false;
            }),
            ("the order of tags", |rules| rules.routes[0].tags.reverse()),
            ("the order of drops", |rules| rules.drop.reverse()),
            ("a drop that path tags reach", |rules| {
                rules.drop.push("/api/events/**");
            }),
            ("names of captures in drops", |rules| {
                rules.drop[0] = "/api/*/{event}/";
            }),
        ];
        for (name, change) in changes {
            assert_eq!(digest(change), base, "{name}");
        }
    }

    #[test]
    fn the_digest_is_the_same_in_every_process() {
        // As first computed: another number here means that replicas of two releases share nothing.
        assert_eq!(format!("{:016x}", digest(|_| ())), "f91d8cb5b793f230");
    }
}
