//! The URL of a Redis, read into what it says: which servers, which database, as whom, encrypted how.
//!
//! ```text
//! redis://[user@]host[:6379][/database]
//! redis-sentinel://[user@]host[:26379][,host...][/database]?service=mymaster
//! redis-cluster://[user@]host[:6379][,host...]
//! redis+unix://[user@]/path/to/redis.sock[?db=3]
//! ```
//!
//! `rediss`, `rediss-sentinel` and `rediss-cluster` are the same over TLS. Options, each once except `node`:
//!
//! | option | meaning |
//! |---|---|
//! | `db` | the database, where the path does not say it |
//! | `node` | one more host, for Sentinel and Cluster |
//! | `service`, `sentinelServiceName` | the name under which the Sentinels know the primary |
//! | `sentinelAuth=true` | the Sentinels ask for the same user and password (without it, for none) |
//! | `ca` | a PEM file: these authorities are trusted, instead of the system's |
//! | `cert`, `key` | PEM files: the certificate that a server asks its clients for |
//!
//! A password is never in the URL. `%xx` stands for a byte in the user, the path and the options.

use std::path::PathBuf;

use fred::types::config::{ClusterDiscoveryPolicy, Server, ServerConfig};

/// What a URL says.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Address {
    pub(super) place: Place,
    pub(super) user: Option<String>,
    pub(super) database: u8,
    pub(super) tls: Option<Tls>,
}

/// Which servers.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Place {
    Single(Host),
    Unix(PathBuf),
    Sentinels {
        hosts: Vec<Host>,
        service: String,
        /// Whether they ask for the user and the password too.
        guarded: bool,
    },
    Cluster(Vec<Host>),
}

impl Default for Place {
    fn default() -> Self {
        Self::Single(("127.0.0.1".to_owned(), 6379))
    }
}

pub(super) type Host = (String, u16);

/// The files that encryption needs.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Tls {
    pub(super) ca: Option<PathBuf>,
    pub(super) cert: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
}

impl Address {
    /// Reads a URL.
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url
            .split_once("://")
            .ok_or("a URL begins with its scheme, such as redis://")?;
        let (rest, options) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (self::user(user)?, hosts),
            None => (None, authority),
        };
        let mut options = Options::parse(options)?;
        let (plain, encrypted) = match scheme.strip_prefix("rediss") {
            Some(kind) => (format!("redis{kind}"), true),
            None => (scheme.to_owned(), false),
        };
        let place = match plain.as_str() {
            "redis" => Place::Single(one(hosts)?),
            "redis-sentinel" => sentinels(hosts, &mut options)?,
            "redis-cluster" => Place::Cluster(several(hosts, 6379, &mut options)?),
            "redis+unix" if !encrypted => unix(hosts, path)?,
            _ => return Err(format!("{scheme}:// is no scheme of a Redis")),
        };
        let path = match place {
            Place::Unix(_) => "",
            _ => path,
        };
        let database = database(path, &mut options)?;
        if database > 0 && matches!(place, Place::Cluster(_)) {
            return Err("a cluster has one database only: 0".to_owned());
        }
        let tls = encrypted.then(|| Tls::take(&mut options)).transpose()?;
        options.finish()?;
        Ok(Self {
            place,
            user,
            database,
            tls,
        })
    }

    /// The servers as fred takes them. Sentinels that ask for it are given the password too.
    pub(super) fn server(&self, password: Option<&String>) -> ServerConfig {
        let servers = |hosts: &[Host]| hosts.iter().map(server).collect();
        match &self.place {
            Place::Single(host) => ServerConfig::Centralized {
                server: server(host),
            },
            Place::Unix(path) => ServerConfig::Unix { path: path.clone() },
            Place::Sentinels {
                hosts,
                service,
                guarded,
            } => ServerConfig::Sentinel {
                hosts: servers(hosts),
                service_name: service.clone(),
                username: self.user.clone().filter(|_| *guarded),
                password: password.filter(|_| *guarded).cloned(),
            },
            Place::Cluster(hosts) => ServerConfig::Clustered {
                hosts: servers(hosts),
                policy: ClusterDiscoveryPolicy::ConfigEndpoint,
            },
        }
    }
}

/// The same servers and another database, as a URL. A cluster has one database only, and stays as it is.
///
/// # Errors
///
/// What is wrong with the URL.
pub fn with_database(url: &str, database: u8) -> Result<String, String> {
    let address = Address::parse(url)?;
    if matches!(address.place, Place::Cluster(_)) {
        return Ok(url.to_owned());
    }
    let (base, options) = url.split_once('?').unwrap_or((url, ""));
    let kept = options
        .split('&')
        .filter(|option| !option.is_empty() && !option.starts_with("db="));
    let mut options: Vec<String> = kept.map(str::to_owned).collect();
    let base = match (&address.place, base.split_once("://")) {
        // Its path is the socket's.
        (Place::Unix(_), _) | (_, None) => base.to_owned(),
        (_, Some((scheme, rest))) => {
            let authority = rest.split('/').next().unwrap_or_default();
            format!("{scheme}://{authority}")
        }
    };
    options.push(format!("db={database}"));
    Ok(format!("{base}?{}", options.join("&")))
}

fn server((host, port): &Host) -> Server {
    Server::new(host.clone(), *port)
}

impl Tls {
    fn take(options: &mut Options) -> Result<Self, String> {
        let mut file = |name| Ok::<_, String>(options.one(name)?.map(PathBuf::from));
        let files = Self {
            ca: file("ca")?,
            cert: file("cert")?,
            key: file("key")?,
        };
        if files.cert.is_some() == files.key.is_some() {
            Ok(files)
        } else {
            Err("`cert` and `key` go together".to_owned())
        }
    }
}

fn user(text: &str) -> Result<Option<String>, String> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    if !password.is_empty() {
        return Err("there is a password in the URL".to_owned());
    }
    Ok(Some(decode(user)?).filter(|user| !user.is_empty()))
}

fn one(hosts: &str) -> Result<Host, String> {
    if hosts.contains(',') {
        return Err(
            "one host is enough: several need redis-sentinel:// or redis-cluster://".into(),
        );
    }
    host(hosts, 6379)
}

fn several(hosts: &str, port: u16, options: &mut Options) -> Result<Vec<Host>, String> {
    let more = options.all("node");
    let hosts = hosts.split(',').map(str::to_owned).chain(more);
    hosts.map(|text| host(&text, port)).collect()
}

fn sentinels(hosts: &str, options: &mut Options) -> Result<Place, String> {
    let hosts = several(hosts, 26379, options)?;
    let service = match options.one("service")? {
        Some(service) => Some(service),
        None => options.one("sentinelServiceName")?,
    };
    let service = service.ok_or("`?service=` is missing: the Sentinels' name for the primary")?;
    let guarded = match options.one("sentinelAuth")?.as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err("`sentinelAuth` is true or false".to_owned()),
    };
    Ok(Place::Sentinels {
        hosts,
        service,
        guarded,
    })
}

fn unix(hosts: &str, path: &str) -> Result<Place, String> {
    if !hosts.is_empty() {
        return Err("redis+unix:// has no host: three slashes before the path".to_owned());
    }
    if path.len() < 2 {
        return Err("redis+unix:// needs the path of a socket".to_owned());
    }
    Ok(Place::Unix(PathBuf::from(decode(path)?)))
}

fn database(path: &str, options: &mut Options) -> Result<u8, String> {
    let inside = Some(path.trim_matches('/').to_owned()).filter(|path| !path.is_empty());
    let text = match (inside, options.one("db")?) {
        (Some(_), Some(_)) => return Err("the database is given twice".to_owned()),
        (text, None) | (None, text) => text,
    };
    text.map_or(Ok(0), |text| {
        let number = text.parse::<u8>();
        number.map_err(|_| format!("\"{text}\" is no number of a database (0 to 255)"))
    })
}

fn host(text: &str, default: u16) -> Result<Host, String> {
    let wrong = || format!("\"{text}\" is no host");
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (name, port) = rest.split_once(']').ok_or_else(wrong)?;
            (
                name,
                port.strip_prefix(':').or(port.is_empty().then_some("")),
            )
        }
        None => match text.split_once(':') {
            Some((name, port)) => (name, Some(port).filter(|port| !port.is_empty())),
            None => (text, Some("")),
        },
    };
    let port = match port {
        Some("") => default,
        Some(digits) => digits.parse().map_err(|_| wrong())?,
        None => return Err(wrong()),
    };
    let sound = !name.is_empty() && !name.contains(['/', '@', ' ', '[', ']']);
    sound.then(|| (name.to_owned(), port)).ok_or_else(wrong)
}

/// What stands behind the question mark.
struct Options(Vec<(String, String)>);

impl Options {
    fn parse(text: &str) -> Result<Self, String> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((name.to_owned(), decode(value)?))
        });
        Ok(Self(pairs.collect::<Result<_, String>>()?))
    }

    fn all(&mut self, name: &str) -> Vec<String> {
        let taken = self.0.extract_if(.., |(known, _)| known == name);
        taken.map(|(_, value)| value).collect()
    }

    fn one(&mut self, name: &str) -> Result<Option<String>, String> {
        let mut all = self.all(name);
        match (all.pop(), all.is_empty()) {
            (Some(value), true) if value.is_empty() => Err(format!("`{name}` is empty")),
            (value, true) => Ok(value),
            (_, false) => Err(format!("`{name}` is given twice")),
        }
    }

    fn finish(self) -> Result<(), String> {
        match self.0.first() {
            Some((name, _)) => Err(format!("`{name}` is no option of this URL")),
            None => Ok(()),
        }
    }
}

fn decode(text: &str) -> Result<String, String> {
    let wrong = || format!("\"{text}\" is not percent-encoded text");
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            let (high, low) = digit().zip(digit()).ok_or_else(wrong)?;
            decoded.push(u8::try_from(high * 16 + low).map_err(|_| wrong())?);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(list: &[(&str, u16)]) -> Vec<Host> {
        list.iter().map(|(h, p)| ((*h).to_owned(), *p)).collect()
    }

    fn single(name: &str, port: u16) -> Address {
        Address {
            place: Place::Single((name.to_owned(), port)),
            ..Address::default()
        }
    }

    #[test]
    fn urls_of_one_server_are_read() {
        let with = |address: Address, user: Option<&str>, database| Address {
            user: user.map(str::to_owned),
            database,
            ..address
        };
        let unix = Address {
            place: Place::Unix("/run/my redis.sock".into()),
            ..Address::default()
        };
        for (url, expected) in [
            ("redis://r", single("r", 6379)),
            ("redis://r:7/", single("r", 7)),
            ("redis://r:7/3", with(single("r", 7), None, 3)),
            ("redis://r?db=255", with(single("r", 6379), None, 255)),
            ("redis://me@r/3", with(single("r", 6379), Some("me"), 3)),
            ("redis://m%40e:@r", with(single("r", 6379), Some("m@e"), 0)),
            ("redis://@r", single("r", 6379)),
            ("redis://[::1]:7/3", with(single("::1", 7), None, 3)),
            ("redis://[::1]", single("::1", 6379)),
            (
                "redis+unix://me@/run/my%20redis.sock?db=3",
                with(unix, Some("me"), 3),
            ),
        ] {
            assert_eq!(Address::parse(url), Ok(expected), "{url}");
        }
    }

    #[test]
    fn urls_of_several_servers_are_read() {
        let url = "redis-sentinel://a,b:7/3?service=main&node=c&sentinelAuth=true";
        let sentinels = Place::Sentinels {
            hosts: hosts(&[("a", 26379), ("b", 7), ("c", 26379)]),
            service: "main".to_owned(),
            guarded: true,
        };
        let read = Address::parse(url).expect("a URL");
        assert_eq!((read.place, read.database), (sentinels, 3));
        let fred = Address::parse("redis-sentinel://a?sentinelServiceName=main").expect("a URL");
        assert!(
            matches!(fred.place, Place::Sentinels { service, guarded: false, .. } if service == "main")
        );
        let cluster = Address::parse("redis-cluster://a:7,b?node=c:9").expect("a URL");
        let expected = Place::Cluster(hosts(&[("a", 7), ("b", 6379), ("c", 9)]));
        assert_eq!(cluster.place, expected);
    }

    #[test]
    fn another_database_is_the_same_server() {
        for url in [
            "redis://r",
            "redis://r:7/3",
            "redis://me@r:7/",
            "redis://r?db=3",
            "rediss://[::1]:7/3?ca=/a%20b.pem",
            "redis-sentinel://a,b:7/3?service=main&node=c",
            "redis+unix:///run/r.sock?db=3",
            "redis+unix://me@/run/r.sock",
        ] {
            let mut expected = Address::parse(url).expect("a URL");
            expected.database = 2;
            let changed = with_database(url, 2).expect("a URL");
            assert_eq!(Address::parse(&changed), Ok(expected), "{url}: {changed}");
        }
        let cluster = "redis-cluster://a:7,b?node=c:9";
        assert_eq!(with_database(cluster, 2).as_deref(), Ok(cluster));
        assert!(with_database("http://r", 2).is_err());
    }

    #[test]
    fn encrypted_ones_say_whom_they_trust() {
        let tls = |url| Address::parse(url).map(|address| address.tls);
        assert_eq!(tls("rediss://r"), Ok(Some(Tls::default())));
        let files = Tls {
            ca: Some("/a b.pem".into()),
            cert: Some("/c.pem".into()),
            key: Some("/k.pem".into()),
        };
        let url = "rediss-cluster://r?ca=/a%20b.pem&cert=/c.pem&key=/k.pem";
        assert_eq!(tls(url), Ok(Some(files)));
        assert_eq!(tls("redis-cluster://r"), Ok(None));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_a_reason() {
        for (url, reason) in [
            ("r:6379", "begins with its scheme"),
            ("http://r", "http:// is no scheme"),
            ("rediss+unix:///run/r", "is no scheme"),
            ("redis://me:pw@r", "a password in the URL"),
            ("redis://:pw@r", "a password in the URL"),
            ("redis://", "\"\" is no host"),
            ("redis://a,b", "several need"),
            ("redis://r:port", "\"r:port\" is no host"),
            ("redis://r:", "\"r:\" is no host"),
            ("redis://[::1", "is no host"),
            ("redis://r/x", "\"x\" is no number"),
            ("redis://r/256", "no number"),
            ("redis://r/3?db=3", "given twice"),
            ("redis://r?db=1&db=2", "given twice"),
            ("redis://r?db=", "`db` is empty"),
            ("redis://r?ca=/x", "`ca` is no option"),
            ("redis://r?timeout=1", "`timeout` is no option"),
            ("rediss://r?cert=/x", "go together"),
            ("redis-cluster://r/3", "one database"),
            ("redis-sentinel://r", "`?service=` is missing"),
            (
                "redis-sentinel://r?service=a&sentinelAuth=1",
                "true or false",
            ),
            ("redis+unix://run/r.sock", "three slashes"),
            ("redis+unix:///", "path of a socket"),
            ("redis://m%4@r", "percent-encoded"),
        ] {
            let error = Address::parse(url).expect_err(url);
            assert!(error.contains(reason), "{url}: {error}");
            assert!(!error.contains("pw"), "{error}");
        }
    }
}
