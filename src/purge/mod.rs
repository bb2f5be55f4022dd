//! Purges: what an operator, or code whose writes do not pass through the proxy, asks to be dropped.
//!
//! What flows in is JSON (the admin API) or a URL (the methods `PURGE` and `BAN`); what flows out is a [`Plan`]: tags, by
//! the same functions that `[[write]]` rules use, and globs for what no tag can say. Promise: a plan reaches everything
//! that was asked for. Where it has to reach more, it says so in `widened`; what it cannot understand it refuses.

use std::borrow::Cow;
use std::fmt;

use crate::glob::Glob;
use crate::key::{self, QueryRules};
use crate::pattern::{Pattern, decode};
use crate::route::{Drops, Table};
use crate::tag::{Kind, Tag, Tags};

mod fields;
mod intent;

pub use fields::Refusal;
use fields::{Fields, Placed};
pub use intent::{Closing, Opening};

/// The most items in one request: more are better told as a class, a path or a route.
const MAX_ITEMS: usize = 1000;

/// The most patterns in one request: each is compared with every entry that is looked up.
const MAX_PATTERNS: usize = 16;

/// A request to drop something.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Request {
    /// What.
    pub wanted: Wanted,
    /// Whether it becomes stale instead: still good while it is refreshed.
    pub soft: bool,
    /// Whether to tell only what would be dropped.
    pub dry_run: bool,
    /// Whether not to wait until no replica can serve it any more.
    pub no_wait: bool,
}

/// What is to be dropped, as it was asked for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Wanted {
    /// Tags by their names: `event:42`, `event:*`.
    pub tags: Vec<String>,
    /// Path patterns.
    pub paths: Vec<Pattern>,
    /// Globs over path and query.
    pub patterns: Vec<Glob>,
    /// The names of routes, and where each stands in the request.
    pub routes: Vec<(String, String)>,
    /// Exact URLs.
    pub urls: Vec<Url>,
    /// Everything.
    pub all: bool,
}

/// One exact URL: path and query. Its host counts for nothing, since tags know no host: it is dropped under every name
/// that the app has, in every variant and for every user.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Url {
    /// The normalised path.
    path: String,
    /// The query as it was given.
    query: String,
}

/// What is to be done.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Plan {
    /// The tags to drop, their names, and what stands for more than was asked.
    pub drops: Drops,
    /// The globs to ban.
    pub bans: Vec<Glob>,
}

/// The tag of one exact URL, as keys hold it. Entries carry it and purges drop it, so this is the only place that makes
/// it.
#[must_use]
pub fn url_tag(path: &str, query: &str) -> Tag {
    Tag::new(Kind::Key, &[path, query])
}

/// The tag of every entry under a path whose key leaves out what the app said is no part of the question: a purge of an
/// exact URL cannot know under which of them it was stored, and drops them all.
#[must_use]
pub fn ruled_tag(path: &str) -> Tag {
    Tag::new(Kind::Key, &[path])
}

impl Request {
    /// Reads a request.
    ///
    /// # Errors
    ///
    /// The first thing in it that cannot be understood, by its field.
    pub fn parse(json: &[u8]) -> Result<Self, Refusal> {
        let mut fields = Fields::parse(json)?;
        let wanted = Wanted::read(&mut fields, true)?;
        let soft = fields.flag("soft")?.unwrap_or_default();
        let request = Self {
            soft,
            dry_run: fields.flag("dry_run")?.unwrap_or_default(),
            no_wait: !fields.flag("wait")?.unwrap_or(true),
            wanted,
        };
        fields.finish()?;
        if request.wanted == Wanted::default() {
            return Err(Refusal::whole(
                "nothing to drop: give tags, paths, patterns, routes, keys, or \"all\": true",
            ));
        }
        if soft && !request.wanted.patterns.is_empty() {
            return Err(Refusal::of(
                "patterns",
                "a pattern cannot be purged softly: its entries are dropped",
            ));
        }
        Ok(request)
    }

    /// A request to drop one URL.
    ///
    /// # Errors
    ///
    /// When nothing can be stored for it.
    pub fn of_url(url: &str) -> Result<Self, Refusal> {
        if url.contains('*') {
            return Err(Refusal::whole(
                "PURGE names one exact URL; BAN takes a pattern with *",
            ));
        }
        let wanted = Wanted {
            urls: vec![Url::parse(url).map_err(Refusal::whole)?],
            ..Wanted::default()
        };
        Ok(Self {
            wanted,
            ..Self::default()
        })
    }

    /// A request to drop what a glob matches.
    ///
    /// # Errors
    ///
    /// When it is no glob.
    pub fn of_pattern(text: &str) -> Result<Self, Refusal> {
        let wanted = Wanted {
            patterns: vec![glob(text).map_err(Refusal::whole)?],
            ..Wanted::default()
        };
        Ok(Self {
            wanted,
            ..Self::default()
        })
    }
}

impl Wanted {
    /// Reads what is to be dropped. An announcement has no `patterns`: what is open must be known by its tags.
    fn read(fields: &mut Fields, with_patterns: bool) -> Result<Self, Refusal> {
        let patterns = if with_patterns {
            fields.texts(["patterns", "pattern"])?
        } else {
            Vec::new()
        };
        let wanted = Self {
            tags: each(fields.texts(["tags", "tag"])?, tag)?,
            paths: each(fields.texts(["paths", "path"])?, |text| path(&text))?,
            patterns: each(patterns, |text| {
                glob(&text).map_err(|error| error.to_string())
            })?,
            routes: fields
                .texts(["routes", "route"])?
                .into_iter()
                .map(|placed| (placed.value, placed.place))
                .collect(),
            urls: fields
                .items(["keys", "key"])
                .into_iter()
                .map(Url::read)
                .collect::<Result<_, _>>()?,
            all: fields.flag("all")?.unwrap_or_default(),
        };
        let items = wanted.tags.len() + wanted.paths.len() + wanted.urls.len();
        if items > MAX_ITEMS {
            return Err(Refusal::whole(format_args!(
                "{items} items are too many: at most {MAX_ITEMS} at once, or a class (event:*), a path or a route"
            )));
        }
        if wanted.patterns.len() > MAX_PATTERNS {
            return Err(Refusal::of(
                "patterns",
                format_args!("at most {MAX_PATTERNS} at once"),
            ));
        }
        Ok(wanted)
    }

    /// What to do, under these rules.
    ///
    /// # Errors
    ///
    /// When it names a route that there is not.
    pub fn plan(&self, table: &Table, rules: &QueryRules) -> Result<Plan, Refusal> {
        let mut drops = Drops::default();
        for name in &self.tags {
            drop_tag(table, name, &mut drops);
        }
        for pattern in &self.paths {
            table.drop_pattern(pattern, &mut drops);
        }
        for (name, place) in &self.routes {
            if !table.routes().iter().any(|route| route.name == *name) {
                let names: Vec<_> = table.routes().iter().map(|route| &*route.name).collect();
                let reason = format!(
                    "no route is named \"{name}\"; there are {}",
                    names.join(", ")
                );
                return Err(Refusal::of(place, reason));
            }
            drops.tags.insert(Tag::new(Kind::Route, &[name]));
            drops.names.insert(format!("route {name}"));
        }
        for url in &self.urls {
            let query = key::normalise_query(&url.query, rules);
            drops.tags.insert(url_tag(&url.path, &query));
            drops.tags.insert(ruled_tag(&url.path));
            drops.names.insert(url.to_string());
        }
        if self.all {
            drops.tags.insert(Tag::all());
            drops.names.insert("everything".to_owned());
        }
        let bans = self.patterns.iter().map(|ban| match ban.path() {
            // What it asks about is in no key.
            Some(of_path) if rules.are_named_in(ban.as_str()) => {
                drops.widened.insert(of_path.to_string());
                of_path.clone()
            }
            Some(_) | None => ban.clone(),
        });
        let bans = bans.collect();
        Ok(Plan { drops, bans })
    }
}

impl Plan {
    /// The tags to drop.
    #[must_use]
    pub fn tags(&self) -> Tags {
        self.drops.tags.iter().copied().collect()
    }

    /// Whether it reaches an entry with these tags and this full key.
    #[must_use]
    pub fn reaches(&self, tags: &[Tag], key: &[u8]) -> bool {
        let banned = || {
            let target = key::target_of(key);
            let banned = |target: key::Target<'_>| {
                let mut bans = self.bans.iter();
                bans.any(|ban| target.is_meant_by(ban))
            };
            target.is_some_and(banned)
        };
        tags.iter().any(|tag| self.drops.tags.contains(tag)) || (!self.bans.is_empty() && banned())
    }
}

impl Url {
    /// Reads `"/api/movies/?page=2"`, `"https://shop.example/api/movies/"` or `{"path": .., "query": ..}`.
    fn read(placed: Placed<serde_json::Value>) -> Result<Self, Refusal> {
        let Placed { place, value } = placed;
        if value.is_string() {
            let text = Placed { place, value }.text()?;
            return Self::parse(&text.value).map_err(|reason| Refusal::of(text.place, reason));
        }
        let mut fields = Fields::of(value).map_err(|found| {
            Refusal::of(
                place.clone(),
                format_args!("expected a URL or an object with its path, found {found}"),
            )
        })?;
        let within = |refusal: Refusal| Refusal {
            field: format!("{place}.{}", refusal.field),
            ..refusal
        };
        let path = fields.text("path").map_err(within)?;
        let query = fields.text("query").map_err(within)?.unwrap_or_default();
        // Told for the reader's sake: see the type.
        fields.text("host").map_err(within)?;
        fields.text("scheme").map_err(within)?;
        fields.finish().map_err(within)?;
        let path = path.ok_or_else(|| Refusal::of(place.clone(), "its path is missing"))?;
        let query = query.strip_prefix('?').unwrap_or(&query);
        Self::new(&path, query).map_err(|reason| Refusal::of(place, reason))
    }

    /// Reads a URL with or without scheme and host. What follows a `#` never leaves a browser.
    fn parse(text: &str) -> Result<Self, String> {
        let text = text.split('#').next().unwrap_or_default();
        let absolute = text.split_once("://").filter(|_| !text.starts_with('/'));
        let target = match absolute {
            None => text,
            Some(("http" | "https", rest)) => {
                rest.find(['/', '?']).map_or("/", |slash| &rest[slash..])
            }
            Some((scheme, _)) => return Err(format!("\"{scheme}\" is neither http nor https")),
        };
        match target.split_once('?') {
            Some(("", query)) => Self::new("/", query),
            Some((path, query)) => Self::new(path, query),
            None => Self::new(target, ""),
        }
    }

    fn new(path: &str, query: &str) -> Result<Self, String> {
        if !path.starts_with('/') {
            return Err("a path begins with \"/\"".to_owned());
        }
        if path.contains('?') {
            return Err("a path has no \"?\": give the query by itself".to_owned());
        }
        let path = ascii(path);
        let path = key::normalise_path(&path).map_err(|odd| {
            let odd = odd.as_str();
            format!("nothing is ever stored for this path ({odd})")
        })?;
        Ok(Self {
            path: path.into_owned(),
            query: ascii(query).into_owned(),
        })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        if self.query.is_empty() {
            return Ok(());
        }
        write!(f, "?{}", self.query)
    }
}

fn each<T>(
    texts: Vec<Placed<String>>,
    read: impl Fn(String) -> Result<T, String>,
) -> Result<Vec<T>, Refusal> {
    let items = texts
        .into_iter()
        .map(|Placed { place, value }| read(value).map_err(|reason| Refusal::of(place, reason)));
    items.collect()
}

fn tag(name: String) -> Result<String, String> {
    if name.contains(['{', '}']) {
        return Err("a tag to drop has values where a rule has captures: \"event:42\"".to_owned());
    }
    match name.find('*') {
        Some(at) if at + 1 < name.len() => {
            Err("* stands at the end of a tag, for a whole class: \"event:*\"".to_owned())
        }
        Some(_) | None => Ok(name),
    }
}

/// A path pattern, its escapes undone as far as patterns can say what they stand for.
fn path(text: &str) -> Result<Pattern, String> {
    if text.contains('?') {
        return Err(
            "a path has no query: `keys` drops one URL, `patterns` those that look alike"
                .to_owned(),
        );
    }
    let segments = text.split('/').map(|segment| {
        let decoded = decode(segment);
        let special = decoded.contains(['/', '*', '{', '}']);
        if special {
            Cow::Borrowed(segment)
        } else {
            decoded
        }
    });
    let text = segments.collect::<Vec<_>>().join("/");
    Pattern::parse(&text).map_err(|error| error.to_string())
}

/// A glob in the spelling that keys have.
fn glob(text: &str) -> Result<Glob, crate::glob::GlobError> {
    Glob::parse(&key::spelling(&ascii(text)))
}

/// A text as a URL spells it: what is beyond ASCII, and blanks, escaped.
fn ascii(text: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte.is_ascii_graphic();
    if text.bytes().all(plain) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() * 3);
    for byte in text.bytes() {
        if plain(byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    Cow::Owned(escaped)
}

/// Adds a tag by its name. A class that no entry carries (`event:4*`) is widened to the one that they do (`event:*`).
fn drop_tag(table: &Table, name: &str, drops: &mut Drops) {
    let Some(head) = name.strip_suffix('*') else {
        return table.drop_named(name, drops);
    };
    let known = head.is_empty() || head.ends_with(|c: char| !c.is_alphanumeric());
    let mut templates = table.routes().iter().flat_map(|route| &route.tags);
    if known || templates.any(|template| template.class().as_deref() == Some(name)) {
        return table.drop_name(name, drops);
    }
    let head = head.trim_end_matches(char::is_alphanumeric);
    let class = format!("{head}*");
    drops.widened.insert(class.clone());
    table.drop_name(&class, drops);
}

#[cfg(test)]
mod tests;
