//! Routes and write rules: which rules govern a request.
//!
//! A [`Table`] is built once from the configuration and never changes. For a read it finds the first `[[route]]`
//! whose pattern matches; for a write, every `[[write]]` that does. It also turns what a rule says in names into
//! the tags that entries and drops carry: [`Table::entry_tags`] and [`Table::drop_item`] are the two sides of one
//! convention and must change together, and [`Table::digest`] with them.

use std::borrow::Cow;
use std::collections::BTreeSet;

use http::Method;

use crate::capture::{self, Source, Values};
use crate::pattern::{Captures, Pattern, Segment, decode, segments_of};
use crate::policy::{Policy, Unlisted};
use crate::tag::{self, Kind, Names, Tag, Tags, Template};

mod digest;

/// How many leading segments of a path have a tag of their own for "everything below".
const MAX_DEPTH: usize = 8;

/// One `[[route]]`.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its name: the label of metrics, the operator's word for it.
    pub name: String,
    /// The paths it governs.
    pub pattern: Pattern,
    /// The tags of what it stores.
    pub tags: Vec<Template>,
    /// Its knobs.
    pub policy: Policy,
}

/// One line of a `[[write]]`'s `on`, with what it drops.
#[derive(Clone, Debug)]
pub struct Write {
    /// The method, or `None` for every unsafe one.
    pub method: Option<Method>,
    /// The paths.
    pub pattern: Pattern,
    /// What it drops; shared by the lines of one `[[write]]`.
    pub drop: Vec<Item>,
}

/// One item of `drop`.
#[derive(Clone, Debug)]
pub enum Item {
    /// A path pattern.
    Path(Pattern),
    /// A tag.
    Tag(Template),
}

/// One line of `[relations]`: dropping the left also drops the right.
#[derive(Clone, Debug)]
pub struct Relation {
    /// The tag that was dropped.
    pub left: Template,
    /// The tags that go with it.
    pub right: Vec<Template>,
}

/// All rules of one configuration.
#[derive(Clone, Debug, Default)]
pub struct Table {
    routes: Vec<Route>,
    writes: Vec<Write>,
    relations: Vec<Relation>,
    defaults: Policy,
    /// The drop patterns that only a tag of their own can reach: those with a wildcard or a capture.
    shapes: Vec<Shape>,
}

/// A drop pattern with wildcards or captures, as entries see it.
#[derive(Clone, Debug)]
struct Shape {
    pattern: Pattern,
    text: String,
    /// Whether it has a `*`, so that a value found still does not make it a path.
    wild: bool,
}

/// What a write drops, by name, and whether some capture found nothing.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Drops {
    /// The tags.
    pub tags: BTreeSet<Tag>,
    /// The names, for people: `showtime:7`, `/api/events/**`.
    pub names: BTreeSet<String>,
    /// Names that stand for a class because a capture found nothing.
    pub widened: BTreeSet<String>,
}

/// Which captures an item waits for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Needs {
    /// The JSON request body.
    pub body: bool,
    /// The JSON answer.
    pub response: bool,
}

impl Table {
    /// A table of these rules, in the order of the file.
    #[must_use]
    pub fn new(
        routes: Vec<Route>,
        writes: Vec<Write>,
        relations: Vec<Relation>,
        defaults: Policy,
    ) -> Self {
        let mut shapes: Vec<Shape> = Vec::new();
        for item in writes.iter().flat_map(|write| &write.drop) {
            if let Item::Path(pattern) = item
                && let Some(shape) = Shape::of(pattern)
                && !shapes.iter().any(|known| known.text == shape.text)
            {
                shapes.push(shape);
            }
        }
        Self {
            routes,
            writes,
            relations,
            defaults,
            shapes,
        }
    }

    /// The routes, in the order of the file.
    #[must_use]
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The write rules, in the order of the file.
    #[must_use]
    pub fn writes(&self) -> &[Write] {
        &self.writes
    }

    /// The knobs where no route matches.
    #[must_use]
    pub const fn defaults(&self) -> &Policy {
        &self.defaults
    }

    /// The first route that matches a normalised path, its place in the table, and what it captured.
    #[must_use]
    pub fn find<'t, 'a>(&'t self, path: &'a str) -> Option<(usize, &'t Route, Captures<'t, 'a>)> {
        self.routes.iter().enumerate().find_map(|(index, route)| {
            route
                .pattern
                .matches(path)
                .map(|captures| (index, route, captures))
        })
    }

    /// The write rules that match, with what each captured. All of them apply. `None` stands for a method that nobody
    /// knows: then the path decides alone.
    pub fn writes_of<'t, 'a>(
        &'t self,
        method: Option<&Method>,
        path: &'a str,
    ) -> Vec<(&'t Write, Captures<'t, 'a>)> {
        self.writes
            .iter()
            .filter(|write| {
                // Apps take `post` for POST.
                let is = |wanted: &Method| {
                    method
                        .is_none_or(|method| wanted.as_str().eq_ignore_ascii_case(method.as_str()))
                };
                write.method.as_ref().is_none_or(is)
            })
            .filter_map(|write| {
                write
                    .pattern
                    .reaches(path)
                    .map(|captures| (write, captures))
            })
            .collect()
    }

    /// The tags of an entry: what its path, route, caller and configured names give it.
    ///
    /// `None` when a segment of the path has no canonical spelling: such an entry could not be reached by every drop
    /// that means it, so it must not be stored.
    #[must_use]
    pub fn entry_tags(
        &self,
        route: &Route,
        path: &str,
        captures: &Captures<'_, '_>,
        user: Option<&str>,
    ) -> Option<Tags> {
        let mut tags = Tags::new();
        tags.push(Tag::all());
        tags.push(Tag::new(Kind::Route, &[&route.name]));
        if let Some(user) = user {
            tags.push(Tag::new(Kind::User, &[user]));
            tags.push(Tag::new(Kind::UserRoute, &[user, &route.name]));
        }
        let path_segments = canonical_segments(path)?;
        push_path_tags(&path_segments, &mut tags);
        let values = Values {
            path: captures,
            user,
            ..Values::default()
        };
        for template in &route.tags {
            tags.extend(template.class().map(|class| Tag::named(&class)));
            if let Names::Exact(names) = template.expand(&values) {
                names.iter().for_each(|name| push_name(name, &mut tags));
            }
        }
        for shape in &self.shapes {
            shape.push_tags(path, &mut tags);
        }
        Some(tags)
    }

    /// The tags of the names that an app put on an answer.
    pub fn response_tags(names: &[String], tags: &mut Tags) {
        for name in names {
            push_name(name, tags);
            tags.extend(tag::without_suffixes(name).map(|name| Tag::named(&name)));
        }
    }

    /// Adds what one item drops. Before the answer is known, captures that wait for it widen the item to its class.
    pub fn drop_item(&self, item: &Item, values: &Values<'_>, drops: &mut Drops) {
        match item {
            Item::Path(pattern) => drop_path(pattern, values, drops),
            Item::Tag(template) => match template.expand(values) {
                Names::Exact(names) => names.iter().for_each(|name| self.drop_name(name, drops)),
                Names::Class(class) => {
                    drops.widened.insert(class.clone());
                    self.drop_name(&class, drops);
                }
            },
        }
    }

    /// Adds a tag by its name, and what `[relations]` says goes with it.
    pub fn drop_name(&self, name: &str, drops: &mut Drops) {
        // Noted first: relations that lead back here end here.
        if !drops.names.insert(name.to_owned()) {
            return;
        }
        drops.tags.insert(Tag::named(name));
        for relation in &self.relations {
            if let Some(captured) = relation.left.matches(name) {
                let path: Vec<_> = captured
                    .iter()
                    .map(|(capture, value)| (*capture, Cow::Borrowed(*value)))
                    .collect();
                let values = Values {
                    path: &path,
                    ..Values::default()
                };
                for right in &relation.right {
                    match right.expand(&values) {
                        Names::Exact(names) => {
                            names.iter().for_each(|name| self.drop_name(name, drops))
                        }
                        Names::Class(class) => self.drop_name(&class, drops),
                    }
                }
            }
        }
    }

    /// Adds a path pattern that stands in no rule. Where it has wildcards or captures and no rule's pattern reaches the
    /// same paths, entries have no tag for it: then everything below its first wildcard goes.
    pub fn drop_pattern(&self, pattern: &Pattern, drops: &mut Drops) {
        let Some(own) = Shape::of(pattern) else {
            return drop_path(pattern, &Values::default(), drops);
        };
        // Any one segment is any one segment, whether it is remembered or not.
        let plain = |text: &str| text.replace("{}", "*");
        let text = plain(&own.text);
        if let Some(known) = self.shapes.iter().find(|shape| plain(&shape.text) == text) {
            drops.tags.insert(Tag::new(Kind::Pattern, &[&known.text]));
            drops.names.insert(text);
            return;
        }
        let literals = pattern
            .segments()
            .iter()
            .map_while(|segment| match segment {
                Segment::Literal(text) => {
                    Some(capture::canonical(text).unwrap_or(Cow::Borrowed(text)))
                }
                Segment::Any | Segment::Capture(_) => None,
            });
        let name = drop_below(&literals.collect::<Vec<_>>(), drops);
        drops.widened.insert(name);
    }

    /// Adds a tag by the name that the app gave it on the answer to a write.
    pub fn drop_named(&self, name: &str, drops: &mut Drops) {
        if let Some(stem) = tag::without_suffixes(name) {
            self.drop_name(&stem, drops);
        }
        self.drop_name(name, drops);
    }

    /// Adds what a write that no rule lists drops.
    pub fn drop_family(&self, path: &str, unlisted: Unlisted, drops: &mut Drops) {
        let Some(segments) = canonical_segments(path) else {
            // A path with no canonical spelling may mean anything beside it.
            let parent: Vec<_> = segments_of(path).map(Cow::Borrowed).collect();
            let known = parent
                .iter()
                .take_while(|segment| capture::canonical(&decode(segment)).is_some())
                .count();
            drop_below(&parent[..known], drops);
            return;
        };
        match unlisted {
            Unlisted::Target => drop_exact(&segments, drops),
            Unlisted::Family => {
                drop_below(&segments, drops);
                if let Some((_, parent)) = segments.split_last() {
                    drop_exact(parent, drops);
                }
            }
        }
    }

    /// Adds one path: the target of a write, or a `Location` it names (RFC 9111 §4.4).
    pub fn drop_target(&self, path: &str, drops: &mut Drops) {
        self.drop_family(path, Unlisted::Target, drops);
    }
}

impl Drops {
    /// Whether everything that `later` drops carries something that these drops name: the same tag, or its class.
    #[must_use]
    pub fn covers(&self, later: &Self) -> bool {
        let by_class = |name: &str| tag::classes_of(name).any(|class| self.names.contains(&class));
        let extra: BTreeSet<Tag> = later.tags.difference(&self.tags).copied().collect();
        let named: BTreeSet<Tag> = later
            .names
            .iter()
            .filter(|name| by_class(name))
            .map(|name| Tag::named(name))
            .collect();
        extra.is_subset(&named)
    }
}

impl Item {
    /// What must be known before the item is exact.
    #[must_use]
    pub fn needs(&self) -> Needs {
        let of = |needs: Needs, source: &Source| match source {
            Source::Body(_) => Needs {
                body: true,
                ..needs
            },
            Source::Response(_) => Needs {
                response: true,
                ..needs
            },
            Source::Path(_) | Source::User => needs,
        };
        match self {
            Self::Tag(template) => template.sources().fold(Needs::default(), of),
            Self::Path(pattern) => pattern.names().fold(Needs::default(), |needs, name| {
                of(needs, &Source::parse(name))
            }),
        }
    }
}

impl Shape {
    /// The shape of a drop pattern, or `None` when an entry's path tags reach it already.
    fn of(pattern: &Pattern) -> Option<Self> {
        let literal = |segment: &Segment| matches!(segment, Segment::Literal(_));
        if pattern.segments().iter().all(literal) {
            return None;
        }
        let wild = pattern
            .segments()
            .iter()
            .any(|segment| matches!(segment, Segment::Any));
        Some(Self {
            text: shape_of(pattern),
            pattern: pattern.clone(),
            wild,
        })
    }

    fn push_tags(&self, path: &str, tags: &mut Tags) {
        let Some(captures) = self.pattern.reaches(path) else {
            return;
        };
        tags.push(Tag::new(Kind::Pattern, &[&self.text]));
        if self.wild && !captures.is_empty() {
            let values: Vec<_> = captures
                .iter()
                .filter_map(|(_, value)| capture::canonical(value))
                .collect();
            let mut parts = vec![self.text.as_str()];
            parts.extend(values.iter().map(AsRef::as_ref));
            tags.push(Tag::new(Kind::Pattern, &parts));
        }
    }
}

/// A pattern's text with its captures' names left out: two rules that differ only in names share their tags.
fn shape_of(pattern: &Pattern) -> String {
    let mut text = String::new();
    for segment in pattern.segments() {
        text.push('/');
        match segment {
            Segment::Literal(literal) => text.push_str(literal),
            Segment::Any => text.push('*'),
            Segment::Capture(_) => text.push_str("{}"),
        }
    }
    if pattern.is_open() {
        text.push_str("/**");
    }
    text
}

/// A path's segments, each in its canonical spelling; `None` when one has none.
fn canonical_segments(path: &str) -> Option<Vec<Cow<'_, str>>> {
    segments_of(path)
        .map(|segment| match decode(segment) {
            Cow::Borrowed(text) => capture::canonical(text),
            Cow::Owned(text) => {
                capture::canonical(&text).map(|value| Cow::Owned(value.into_owned()))
            }
        })
        .collect()
}

/// A name, and every class that it may be meant by.
fn push_name(name: &str, tags: &mut Tags) {
    tags.push(Tag::named(name));
    tags.extend(tag::classes_of(name).map(|class| Tag::named(&class)));
}

fn push_path_tags(segments: &[Cow<'_, str>], tags: &mut Tags) {
    let parts: SmallParts<'_> = segments.iter().map(AsRef::as_ref).collect();
    tags.push(Tag::new(Kind::Path, &parts));
    for depth in 0..=parts.len().min(MAX_DEPTH) {
        tags.push(Tag::new(Kind::Below, &parts[..depth]));
    }
}

type SmallParts<'a> = smallvec::SmallVec<[&'a str; 8]>;

fn drop_exact(segments: &[Cow<'_, str>], drops: &mut Drops) {
    let parts: SmallParts<'_> = segments.iter().map(AsRef::as_ref).collect();
    drops.tags.insert(Tag::new(Kind::Path, &parts));
    drops.names.insert(format!("/{}", parts.join("/")));
}

/// Adds everything at and below a path; its name.
fn drop_below(segments: &[Cow<'_, str>], drops: &mut Drops) -> String {
    let parts: SmallParts<'_> = segments.iter().take(MAX_DEPTH).map(AsRef::as_ref).collect();
    drops.tags.insert(Tag::new(Kind::Below, &parts));
    let separator = if parts.is_empty() { "" } else { "/" };
    let name = format!("/{}{separator}**", parts.join("/"));
    drops.names.insert(name.clone());
    name
}

/// Adds the tags of a path pattern: one for each way to fill its captures in, or its shape's own when a value is
/// missing.
fn drop_path(pattern: &Pattern, values: &Values<'_>, drops: &mut Drops) {
    let wild = pattern
        .segments()
        .iter()
        .any(|segment| matches!(segment, Segment::Any));
    let Some(filled) = fill(pattern, values) else {
        let shape = shape_of(pattern);
        drops.tags.insert(Tag::new(Kind::Pattern, &[&shape]));
        drops.widened.insert(shape.clone());
        drops.names.insert(shape);
        return;
    };
    for segments in filled {
        if wild {
            let shape = shape_of(pattern);
            let captured = pattern.segments().iter().zip(&segments);
            let found = captured.filter_map(|(segment, value)| {
                matches!(segment, Segment::Capture(_)).then_some(value.as_ref())
            });
            let parts: Vec<&str> = std::iter::once(shape.as_str()).chain(found).collect();
            drops.tags.insert(Tag::new(Kind::Pattern, &parts));
            drops.names.insert(parts.join(" "));
        } else if pattern.is_open() {
            drop_below(&segments, drops);
        } else {
            drop_exact(&segments, drops);
        }
    }
}

/// A pattern's segments in canonical spelling, once for each combination of found values; `None` when a capture
/// found nothing.
fn fill<'a>(pattern: &'a Pattern, values: &Values<'_>) -> Option<Vec<Vec<Cow<'a, str>>>> {
    let mut lists: Vec<Vec<Cow<'a, str>>> = vec![Vec::new()];
    for segment in pattern.segments() {
        let choices: Vec<Cow<'a, str>> = match segment {
            Segment::Literal(text) => vec![capture::canonical(text).unwrap_or(Cow::Borrowed(text))],
            Segment::Any => vec![Cow::Borrowed("*")],
            Segment::Capture(name) => values
                .find(&Source::parse(name))?
                .into_iter()
                .map(Cow::Owned)
                .collect(),
        };
        lists = lists
            .iter()
            .flat_map(|list| {
                choices.iter().map(move |choice| {
                    let mut longer = list.clone();
                    longer.push(choice.clone());
                    longer
                })
            })
            .collect();
    }
    Some(lists)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn item(text: &str) -> Item {
        if text.starts_with('/') {
            Item::Path(Pattern::parse(text).expect("a pattern"))
        } else {
            Item::Tag(Template::parse(text).expect("a template"))
        }
    }

    fn table(drop: &[&str], relations: &[(&str, &[&str])]) -> Table {
        let route = |name: &str, pattern: &str, tags: &[&str]| Route {
            name: name.to_owned(),
            pattern: Pattern::parse(pattern).expect("a pattern"),
            tags: tags
                .iter()
                .map(|tag| Template::parse(tag).expect("a template"))
                .collect(),
            policy: Policy::default(),
        };
        let write = Write {
            method: None,
            pattern: Pattern::parse("/write/{id}/").expect("a pattern"),
            drop: drop.iter().map(|text| item(text)).collect(),
        };
        let template = |text: &&str| Template::parse(text).expect("a template");
        let relations = relations
            .iter()
            .map(|(left, right)| Relation {
                left: template(left),
                right: right.iter().map(template).collect(),
            })
            .collect();
        let routes = vec![
            route("events", "/api/events/", &["events"]),
            route("event", "/api/events/{event}/", &["event:{event}"]),
            route(
                "seats",
                "/api/showtimes/{showtime}/availability/",
                &["showtime:{showtime}"],
            ),
            route("bookings", "/api/bookings/**", &["bookings:{user}"]),
        ];
        Table::new(routes, vec![write], relations, Policy::default())
    }

    /// Whether a write of `/write/5/` with this answer, dropping `drop`, reaches the entry at `path`.
    fn reaches(drop: &str, path: &str, answer: Option<&serde_json::Value>) -> bool {
        let table = table(&[drop], &[("theater:{id}", &["events", "event:{id}"])]);
        let (write, captures) = table.writes_of(Some(&Method::POST), "/write/5/").remove(0);
        let values = Values {
            path: &captures,
            user: Some("u1"),
            response: answer,
            ..Values::default()
        };
        let mut drops = Drops::default();
        write
            .drop
            .iter()
            .for_each(|item| table.drop_item(item, &values, &mut drops));
        let (_, route, captures) = table.find(path).expect("a route");
        let tags = table
            .entry_tags(route, path, &captures, Some("u1"))
            .expect("a path with a spelling");
        tags.iter().any(|tag| drops.tags.contains(tag))
    }

    #[test]
    fn what_a_write_drops_reaches_what_carries_it() {
        let seven = || Some(json!({"showtime": 7}));
        for (drop, path, answer, expected) in [
            ("events", "/api/events/", None, true),
            ("events", "/api/events/5/", None, false),
            ("event:{id}", "/api/events/5/", None, true),
            ("event:{id}", "/api/events/005/", None, true),
            ("event:{id}", "/api/events/6/", None, false),
            ("/api/events/**", "/api/events/6/", None, true),
            ("/api/events/**", "/api/events/", None, true),
            ("/api/events/", "/api/events", None, true),
            ("/api/events/", "/api/events/6/", None, false),
            ("/api/events/{id}/", "/api/events/5/", None, true),
            ("/api/events/{id}/", "/api/events/6/", None, false),
            ("/api/*/{id}/", "/api/events/5/", None, true),
            ("/api/*/{id}/", "/api/events/6/", None, false),
            ("/api/*/6/", "/api/events/6/", None, true),
            ("bookings:{user}", "/api/bookings/3/", None, true),
            (
                "showtime:{response.showtime}",
                "/api/showtimes/7/availability/",
                seven(),
                true,
            ),
            (
                "showtime:{response.showtime}",
                "/api/showtimes/8/availability/",
                seven(),
                false,
            ),
            (
                "showtime:{response.showtime}",
                "/api/showtimes/8/availability/",
                None,
                true,
            ),
            (
                "/api/showtimes/{response.showtime}/availability/",
                "/api/showtimes/7/availability/",
                seven(),
                true,
            ),
            (
                "/api/showtimes/{response.showtime}/availability/",
                "/api/showtimes/8/availability/",
                seven(),
                false,
            ),
            (
                "/api/showtimes/{response.showtime}/availability/",
                "/api/showtimes/8/availability/",
                None,
                true,
            ),
            ("theater:{id}", "/api/events/", None, true),
            ("theater:{id}", "/api/events/5/", None, true),
            ("theater:{id}", "/api/events/6/", None, false),
            ("theater:{response.x}", "/api/events/6/", None, true),
        ] {
            assert_eq!(
                reaches(drop, path, answer.as_ref()),
                expected,
                "{drop} on {path} with {answer:?}"
            );
        }
    }

    #[test]
    fn an_unlisted_write_drops_its_family() {
        let table = table(&[], &[]);
        for (written, path, expected) in [
            ("/api/events/5/", "/api/events/5/", true),
            ("/api/events/5/", "/api/events/", true),
            ("/api/events/5/publish/", "/api/events/5/", true),
            ("/api/events/", "/api/events/5/", true),
            ("/api/events/6/", "/api/events/5/", false),
            ("/api/events/%2B5/", "/api/events/5/", true),
        ] {
            let mut drops = Drops::default();
            table.drop_family(written, Unlisted::Family, &mut drops);
            let (_, route, captures) = table.find(path).expect("a route");
            let tags = table
                .entry_tags(route, path, &captures, None)
                .expect("tags");
            assert_eq!(
                tags.iter().any(|tag| drops.tags.contains(tag)),
                expected,
                "{written} on {path}"
            );
        }
    }

    #[test]
    fn a_path_without_a_canonical_spelling_is_not_stored() {
        let table = table(&[], &[]);
        let (_, route, captures) = table.find("/api/events/4_2/").expect("a route");
        assert!(
            table
                .entry_tags(route, "/api/events/4_2/", &captures, None)
                .is_none()
        );
    }
}
