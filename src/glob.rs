//! Globs: free-form patterns over a path and its query, for drops that no tag can express.
//!
//! One character is special: `*` is any run of characters, slashes and nothing included. Everything else, `?` too,
//! stands for itself. A glob without a `?` is matched against the path alone; one with a `?` against path and query
//! together, the query as keys hold it (in order, without ignored parameters): `/api/movies/?*page=2*`. A glob matches
//! whole texts, so `/api/movies/` is one path and `/api/movies/*` everything below it. Since nobody knows in which order
//! keys hold the parameters, a query that has all the pieces in any order is matched, too: rather too much is dropped.
//!
//! Matching takes time linear in the text, whatever the glob: the pieces between the stars are looked for from left to
//! right, each as early as it occurs, and none is ever looked for again. (Taking the first place is right, since a star
//! can stand for whatever is skipped.)

use std::fmt;

/// The longest glob, in bytes: every replica keeps it and compares entries with it.
const MAX_LENGTH: usize = 1024;

/// A parsed glob.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Glob {
    source: Box<str>,
    /// The pieces between the stars; one piece when there is no star.
    pieces: Box<[Box<str>]>,
    /// Where the query is part of what is matched.
    asked: Option<Box<Asked>>,
}

/// A glob of path and query, taken apart: keys may hold the parameters in another order.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Asked {
    /// What the path has to match.
    path: Glob,
    /// What each has to be in some parameter; never empty.
    pieces: Box<[Piece]>,
}

/// A run of characters between stars and ampersands.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Piece {
    text: Box<str>,
    /// Whether a parameter has to begin, or to end, with it.
    begins: bool,
    ends: bool,
}

impl Asked {
    fn of(path: &str, query: &str) -> Self {
        let pieces = query.split('&').flat_map(|parameter| {
            let last = parameter.split('*').count() - 1;
            let pieces = parameter.split('*').enumerate();
            pieces
                .filter(|(_, text)| !text.is_empty())
                .map(move |(at, text)| Piece {
                    text: text.into(),
                    begins: at == 0,
                    ends: at == last,
                })
        });
        Self {
            path: Glob::of(path, None),
            pieces: pieces.collect(),
        }
    }

    fn matches(&self, path: &str, query: &str) -> bool {
        let is_in = |piece: &Piece| {
            query
                .split('&')
                .any(|one| match (piece.begins, piece.ends) {
                    (true, true) => *one == *piece.text,
                    (true, false) => one.starts_with(&*piece.text),
                    (false, true) => one.ends_with(&*piece.text),
                    (false, false) => one.contains(&*piece.text),
                })
        };
        !self.pieces.is_empty() && self.path.matches_text(path) && self.pieces.iter().all(is_in)
    }
}

/// Why a text is not a glob.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum GlobError {
    /// It begins with neither a slash nor a star, so it could match no path.
    NotAbsolute,
    /// It has more bytes than may be.
    TooLong,
}

impl fmt::Display for GlobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAbsolute => f.write_str("a pattern begins with \"/\" or \"*\""),
            Self::TooLong => write!(f, "a pattern has at most {MAX_LENGTH} bytes"),
        }
    }
}

impl std::error::Error for GlobError {}

impl Glob {
    /// Parses a glob.
    ///
    /// # Errors
    ///
    /// A [`GlobError`] when it could match nothing, or is too long.
    pub fn parse(text: &str) -> Result<Self, GlobError> {
        if !text.starts_with(['/', '*']) {
            return Err(GlobError::NotAbsolute);
        }
        if text.len() > MAX_LENGTH {
            return Err(GlobError::TooLong);
        }
        let asked = text.split_once('?');
        let asked = asked.map(|(path, query)| Box::new(Asked::of(path, query)));
        Ok(Self::of(text, asked))
    }

    fn of(text: &str, asked: Option<Box<Asked>>) -> Self {
        Self {
            source: text.into(),
            pieces: text.split('*').map(Into::into).collect(),
            asked,
        }
    }

    /// The glob of the path alone, where this one is of path and query.
    #[must_use]
    pub fn path(&self) -> Option<&Self> {
        self.asked.as_ref().map(|asked| &asked.path)
    }

    /// The text it was parsed from.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// Whether it matches this path, or this path and query. An empty query is none.
    #[must_use]
    pub fn matches(&self, path: &str, query: &str) -> bool {
        match &self.asked {
            Some(asked) if !query.is_empty() => {
                self.matches_text(&format!("{path}?{query}")) || asked.matches(path, query)
            }
            Some(_) | None => self.matches_text(path),
        }
    }

    fn matches_text(&self, text: &str) -> bool {
        let [first, middle @ .., last] = &*self.pieces else {
            return self.pieces.first().is_some_and(|whole| **whole == *text);
        };
        // The two ends are fixed; they may not share bytes, so the first is taken off before the last is looked for.
        let rest = text.strip_prefix(&**first);
        let Some(mut rest) = rest.and_then(|rest| rest.strip_suffix(&**last)) else {
            return false;
        };
        for piece in middle {
            let Some(at) = rest.find(&**piece) else {
                return false;
            };
            rest = &rest[at + piece.len()..];
        }
        true
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn glob(text: &str) -> Glob {
        Glob::parse(text).expect("a glob")
    }

    #[test]
    fn a_star_is_any_run_of_characters_and_nothing_else_is_special() {
        for (text, path, query, expected) in [
            ("/a/", "/a/", "", true),
            ("/a/", "/a/", "x=1", true),
            ("/a/", "/a/b", "", false),
            ("/a", "/a/", "", false),
            ("/a/*", "/a/", "", true),
            ("/a/*", "/a/b/c/", "x=1", true),
            ("/a/*/c/", "/a/b/c/", "", true),
            ("/a/*/c/", "/a/b/d/c/", "", true),
            ("/a/*/c/", "/a/c/", "", false),
            ("*", "/", "", true),
            ("*.json", "/a/b.json", "", true),
            ("/a?*", "/a", "x=1", true),
            ("/a?*", "/a", "", false),
            ("/a/?*page=2*", "/a/", "city=Oslo&page=2", true),
            ("/a/?*page=2*", "/a/", "page=3", false),
            ("/a/?page=2", "/a/", "page=2", true),
            ("/a/?page=2", "/a/", "page=21", false),
            ("/a.b", "/aXb", "", false),
            ("/a[b]", "/ab", "", false),
            ("/ab*b", "/ab", "", false),
            ("/**b", "/ab", "", true),
        ] {
            assert_eq!(
                glob(text).matches(path, query),
                expected,
                "{text} on {path}?{query}"
            );
        }
    }

    #[test]
    fn what_could_match_nothing_is_refused() {
        assert_eq!(Glob::parse(""), Err(GlobError::NotAbsolute));
        assert_eq!(Glob::parse("a*"), Err(GlobError::NotAbsolute));
        let long = format!("/{}", "a".repeat(MAX_LENGTH));
        assert_eq!(Glob::parse(&long), Err(GlobError::TooLong));
    }

    /// The grammar's plainest meaning, by trying everything.
    fn by_trial(glob: &[u8], text: &[u8]) -> bool {
        match (glob.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), None) => by_trial(rest, text),
            (Some((b'*', rest)), Some((_, shorter))) => {
                by_trial(rest, text) || by_trial(glob, shorter)
            }
            (Some((one, rest)), Some((other, shorter))) => one == other && by_trial(rest, shorter),
            (Some(_), None) | (None, Some(_)) => false,
        }
    }

    proptest! {
        #[test]
        fn a_glob_matches_what_its_grammar_says(text in "/[ab*/]{0,8}", path in "/[ab/]{0,10}") {
            prop_assert_eq!(glob(&text).matches(&path, ""), by_trial(text.as_bytes(), path.as_bytes()));
        }

        #[test]
        fn a_glob_with_a_query_sees_path_and_query(text in "/[a*]{0,3}\\?[b*]{0,3}", query in "[ab]{0,5}") {
            let whole = if query.is_empty() { "/a".to_owned() } else { format!("/a?{query}") };
            // In another order it may be matched besides.
            prop_assert!(glob(&text).matches("/a", &query) || !by_trial(text.as_bytes(), whole.as_bytes()));
        }

        #[test]
        fn the_order_of_parameters_does_not_matter(one in "[ab*=]{1,5}", other in "[ab*=]{1,5}", query in "[ab=]{1,4}(&[ab=]{1,4}){0,2}") {
            let mut turned: Vec<&str> = query.split('&').collect();
            turned.reverse();
            let turned = turned.join("&");
            let text = format!("/a?{one}&{other}");
            let strict = by_trial(text.as_bytes(), format!("/a?{query}").as_bytes());
            prop_assert!(glob(&text).matches("/a", &turned) || !strict);
        }

        #[test]
        fn a_text_matches_the_glob_made_of_it(path in "/[a-z/é]{0,12}", at in 0_usize..12, to in 0_usize..12) {
            let (at, to) = (at.min(to), at.max(to));
            let starred: String = path
                .char_indices()
                .map(|(index, c)| if index > at && index <= to { '*' } else { c })
                .collect();
            prop_assert!(glob(&starred).matches(&path, ""), "{} {}", starred, path);
        }
    }

    #[test]
    fn a_hostile_glob_takes_no_more_than_linear_work() {
        // With backtracking this would take longer than the universe has.
        let hostile = glob(&format!("/{}b*c", "a*".repeat(500)));
        assert!(!hostile.matches(&format!("/{}c", "a".repeat(100_000)), ""));
    }
}
