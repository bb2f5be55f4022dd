//! Where an app is: `http://host:port`, `https://host:port` or `unix:/path`.

use std::fmt;
use std::path::PathBuf;

use http::Uri;

/// The address of an app.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// In clear, over TCP. An IPv6 host is without its brackets.
    Http {
        /// A name or an IP address.
        host: String,
        /// The TCP port.
        port: u16,
    },
    /// Encrypted, over TCP. An IPv6 host is without its brackets.
    Https {
        /// A name or an IP address, which the certificate must be for.
        host: String,
        /// The TCP port.
        port: u16,
    },
    /// In clear, over a Unix socket.
    Unix(PathBuf),
}

impl Target {
    /// Reads a target.
    ///
    /// # Errors
    ///
    /// A message that quotes the text and says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parsed = match text.strip_prefix("unix:") {
            Some(path) => parse_path(path),
            // Said without quoting the text, so that no log repeats the password.
            None if text.contains('@') => {
                return Err("the upstream URL must not hold a user or password".into());
            }
            None => parse_url(text),
        };
        parsed.map_err(|why| format!("\"{text}\" {why}"))
    }

    /// What is connected to: `host:port`, or `unix:/path`.
    #[must_use]
    pub fn peer(&self) -> String {
        match self {
            Self::Http { host, port } | Self::Https { host, port } if host.contains(':') => {
                format!("[{host}]:{port}")
            }
            Self::Http { host, port } | Self::Https { host, port } => format!("{host}:{port}"),
            Self::Unix(path) => format!("unix:{}", path.display()),
        }
    }
}

fn parse_path(path: &str) -> Result<Target, &'static str> {
    match path.strip_prefix("//").unwrap_or(path) {
        "" => Err("lacks the path of the socket (\"unix:/run/gunicorn.sock\")"),
        path => Ok(Target::Unix(path.into())),
    }
}

fn parse_url(text: &str) -> Result<Target, &'static str> {
    let uri: Uri = text.parse().map_err(|_| "is not a URL")?;
    let authority = uri.authority().map_or("", http::uri::Authority::as_str);
    let (bracketed, port) = (uri.host().unwrap_or_default(), uri.port_u16());
    if port == Some(0) || (port.is_none() && authority != bracketed) {
        return Err("has a port that is no number from 1 to 65535");
    }
    let host = bracketed
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let target = match uri.scheme_str() {
        Some("http") => Target::Http {
            host,
            port: port.unwrap_or(80),
        },
        Some("https") => Target::Https {
            host,
            port: port.unwrap_or(443),
        },
        _ => return Err("must begin with http://, https:// or unix:"),
    };
    // The parser drops a fragment without a word.
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() || text.contains('#') {
        return Err("must end after the port: paths are forwarded as they come");
    }
    Ok(target)
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self {
            Self::Http { .. } => "http://",
            Self::Https { .. } => "https://",
            Self::Unix(_) => "",
        };
        write!(f, "{scheme}{}", self.peer())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read() {
        let table = [
            ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
            ("http://app/", "http://app:80"),
            ("https://app.example", "https://app.example:443"),
            ("http://[::1]:8000", "http://[::1]:8000"),
            ("unix:/run/gunicorn.sock", "unix:/run/gunicorn.sock"),
            ("unix:///run/gunicorn.sock", "unix:/run/gunicorn.sock"),
        ];
        for (text, shown) in table {
            assert_eq!(Target::parse(text).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_target_is_refused_with_the_reason() {
        let table = [
            ("127.0.0.1:8000", "must begin with"),
            ("app", "must begin with"),
            ("ftp://app", "must begin with"),
            ("http://", "is not a URL"),
            ("http://app:x", "has a port that"),
            ("http://app:", "has a port that"),
            ("http://app:0", "has a port that"),
            ("http://app:65536", "has a port that"),
            ("http://app/api", "must end after the port"),
            ("http://app?x=1", "must end after the port"),
            ("http://app#x", "must end after the port"),
            ("unix:", "lacks the path"),
        ];
        for (text, reason) in table {
            let message = Target::parse(text).unwrap_err();
            assert!(
                message.contains(reason) && message.contains(text),
                "{text}: {message}"
            );
        }
    }

    #[test]
    fn a_password_is_not_repeated_in_the_message() {
        let message = Target::parse("http://me:secret@app").unwrap_err();
        assert!(
            message.contains("must not hold a user or password") && !message.contains("secret"),
            "{message}"
        );
    }
}
