//! `[discovery.nats]`: hosts are found through a NATS server.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::finding::Finding;
use crate::identity::Host;
use crate::wire::control::Endpoint;
use crate::wire::registry::Realm;

/// The default of `ttl`.
const TTL_DEFAULT: Duration = Duration::from_secs(300);

/// The shortest `ttl`.
const TTL_MIN: Duration = Duration::from_secs(1);

/// The longest `ttl`.
const TTL_MAX: Duration = Duration::from_secs(24 * 3600);

/// The default of `bucket`.
const BUCKET_DEFAULT: &str = "parlour-bridge";

/// The default of `realm`.
const REALM_DEFAULT: &str = "main";

/// The maximum length of the name of a bucket, in bytes.
const BUCKET_LEN_MAX: usize = 64;

/// `[discovery.nats]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nats {
    /// `servers`: the servers of one NATS system.
    pub servers: Vec<NatsServer>,
    /// The proof of who this bridge is.
    pub login: Login,
    /// `authority`: the certificates that sign those of the servers. Without it, those of this host.
    pub authority: Option<PathBuf>,
    /// `certificate` and `key`: the certificate that is shown to the servers.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// `bucket`: the key-value bucket, which is created if it does not exist.
    pub bucket: String,
    /// `realm`: the realm, as the keys have it.
    pub realm: Realm,
    /// `endpoint`: the address at which other hosts dial this one. `None` without `listen`.
    pub endpoint: Option<Endpoint>,
    /// `ttl`: the time after which an entry expires that is not put again.
    pub ttl: Duration,
}

/// A NATS server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatsServer {
    /// The address as `host:port`.
    pub address: Endpoint,
    /// True for `tls://`: TLS whatever the server says. With `nats://`, the server decides.
    pub is_tls: bool,
}

impl NatsServer {
    /// Returns the URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", if self.is_tls { "tls" } else { "nats" }, self.address.as_str())
    }

    /// Returns true if it is on this host.
    #[must_use]
    pub fn is_local(&self) -> bool {
        let host = self.address.as_str().rsplit_once(':').map_or("", |(host, _)| host);
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }
}

/// The proof of who a bridge is, for a NATS server. The files are read anew for each connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// None, or the certificate.
    None,
    /// `credentials`: a file with a JWT and a seed, as `nsc` writes it.
    Credentials(PathBuf),
    /// `token_file`: a file with a token.
    Token(PathBuf),
    /// `user` and `password_file`.
    Password(String, PathBuf),
}

impl Login {
    /// Returns the file with the secret.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::None => None,
            Self::Credentials(path) | Self::Token(path) | Self::Password(_, path) => Some(path),
        }
    }
}

/// `[discovery.nats]` as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    servers: Vec<String>,
    credentials: Option<PathBuf>,
    token_file: Option<PathBuf>,
    user: Option<String>,
    password_file: Option<PathBuf>,
    authority: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    bucket: Option<String>,
    realm: Option<String>,
    endpoint: Option<String>,
    ttl: Option<String>,
}

/// The values of other parts of the configuration that matter here.
#[derive(Clone, Copy)]
pub(super) struct Surroundings<'a> {
    pub(super) directory: &'a Path,
    pub(super) host: Option<&'a Host>,
    pub(super) listen: Option<std::net::SocketAddr>,
}

impl Written {
    pub(super) fn check(&self, around: Surroundings<'_>, mistakes: &mut Vec<Finding>) -> Option<Nats> {
        let before = mistakes.len();
        let mut wrong = |key: &str, problem: String, remedy: &str| {
            mistakes.push(Finding::mistake(format!("[discovery.nats] {key}"), problem, remedy));
        };
        let mut servers = Vec::new();
        for text in &self.servers {
            match parse_server(text) {
                Ok(server) => servers.push(server),
                Err((problem, remedy)) => wrong("servers", problem, remedy),
            }
        }
        if self.servers.is_empty() {
            wrong("servers", "no server is named".to_owned(), "write servers = [\"nats://ADDRESS:4222\"]");
        }
        let path = |path: &PathBuf| around.directory.join(path);
        let login = match (&self.credentials, &self.token_file, &self.user, &self.password_file) {
            (None, None, None, None) => Login::None,
            (Some(file), None, None, None) => Login::Credentials(path(file)),
            (None, Some(file), None, None) => Login::Token(path(file)),
            (None, None, Some(user), Some(file)) => Login::Password(user.clone(), path(file)),
            (None, None, Some(_), None) => {
                wrong("user", "there is no password".to_owned(), "add password_file");
                Login::None
            }
            (None, None, None, Some(_)) => {
                wrong("password_file", "there is no user".to_owned(), "add user");
                Login::None
            }
            _ => {
                let remedy = "keep one of credentials, token_file, and user with password_file";
                wrong("credentials", "there is more than one way to log in".to_owned(), remedy);
                Login::None
            }
        };
        let certificate = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => Some((path(certificate), path(key))),
            (None, None) => None,
            (Some(_), None) => {
                wrong("certificate", "its key is missing".to_owned(), "add key");
                None
            }
            (None, Some(_)) => {
                wrong("key", "its certificate is missing".to_owned(), "add certificate");
                None
            }
        };
        let needs_tls = self.authority.is_some() || certificate.is_some();
        if needs_tls && let Some(server) = servers.iter().find(|server| !server.is_tls) {
            let problem = format!("{} may be without TLS, although a certificate is configured", server.url());
            wrong("servers", problem, "write tls:// instead of nats://");
        }
        let bucket = self.bucket.clone().unwrap_or_else(|| BUCKET_DEFAULT.to_owned());
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if bucket.is_empty() || bucket.len() > BUCKET_LEN_MAX || !bucket.chars().all(is_part) {
            let problem = format!("{bucket:?} is no name of a bucket");
            wrong("bucket", problem, "write 1 to 64 of the characters A-Z, a-z, 0-9, _ and -");
        }
        let realm = Realm::parse(self.realm.as_deref().unwrap_or(REALM_DEFAULT));
        let realm = realm.map_err(|problem| wrong("realm", problem, "write a word such as main")).ok();
        let ttl = self.ttl.as_deref().map_or(Some(TTL_DEFAULT), |text| {
            let ttl = humantime::parse_duration(text).ok().filter(|ttl| (TTL_MIN..=TTL_MAX).contains(ttl));
            if ttl.is_none() {
                wrong("ttl", format!("{text:?} is not a duration from 1s to 1day"), "write a duration such as 5m");
            }
            ttl
        });
        let endpoint = match (&self.endpoint, around.listen, around.host) {
            (Some(_), None, _) => {
                let problem = "no other host can reach this one, which does not listen".to_owned();
                wrong("endpoint", problem, "remove it, or add listen");
                None
            }
            (Some(text), Some(_), _) => {
                let endpoint = Endpoint::parse_address(text);
                if endpoint.is_none() {
                    let problem = format!("{text:?} is not the address of a bridge");
                    wrong("endpoint", problem, "write host:port, such as a.example:7477");
                }
                endpoint
            }
            // The name of the host leads to it wherever it listens.
            (None, Some(listen), Some(host)) if listen.ip().is_unspecified() => {
                Endpoint::parse_address(&format!("{host}:{}", listen.port()))
            }
            (None, Some(listen), _) => Endpoint::parse_address(&listen.to_string()),
            (None, None, _) => None,
        };
        let authority = self.authority.as_ref().map(path);
        let nats = Nats { servers, login, authority, certificate, bucket, realm: realm?, endpoint, ttl: ttl? };
        (mistakes.len() == before).then_some(nats)
    }
}

fn parse_server(text: &str) -> Result<NatsServer, (String, &'static str)> {
    // It may contain a secret.
    if text.contains('@') {
        let problem = "a URL has a user or a token, which everybody may read who reads this file".to_owned();
        return Err((problem, "write user and password_file, or token_file, or credentials"));
    }
    let (address, is_tls) = match text.split_once("://") {
        Some(("nats", address)) => (address, false),
        Some(("tls", address)) => (address, true),
        _ => {
            return Err((format!("{text:?} is no URL of a NATS server"), "write nats://host:4222, or tls://host:4222"));
        }
    };
    let address = address.trim_end_matches('/');
    let parsed = Endpoint::parse_address(address).or_else(|| Endpoint::parse_address(&format!("{address}:4222")));
    let wrong = || (format!("{text:?} has no valid address"), "write nats://host:4222, or tls://host:4222");
    Ok(NatsServer { address: parsed.ok_or_else(wrong)?, is_tls })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_in(text: &str, listen: Option<&str>) -> (Option<Nats>, Vec<String>) {
        let (mut mistakes, host) = (Vec::new(), Host::parse("a.example").unwrap());
        let listen = listen.map(|text| text.parse().unwrap());
        let around = Surroundings { directory: Path::new("/etc/parlour"), host: Some(&host), listen };
        let nats = toml::from_str::<Written>(text).unwrap().check(around, &mut mistakes);
        (nats, mistakes.iter().map(Finding::to_string).collect())
    }

    fn check(text: &str) -> (Option<Nats>, Vec<String>) {
        check_in(text, Some("0.0.0.0:7477"))
    }

    #[test]
    fn each_form_is_read_with_its_defaults() {
        let (nats, mistakes) = check("servers = [\"nats://n.example\", \"tls://[::1]:4223\"]");
        let nats = nats.unwrap();
        assert_eq!(mistakes, [""; 0]);
        let urls: Vec<String> = nats.servers.iter().map(NatsServer::url).collect();
        assert_eq!(urls, ["nats://n.example:4222", "tls://[::1]:4223"]);
        assert_eq!(nats.servers.iter().map(NatsServer::is_local).collect::<Vec<_>>(), [false, true]);
        assert_eq!((nats.bucket.as_str(), nats.realm.as_str(), nats.ttl), ("parlour-bridge", "main", TTL_DEFAULT));
        assert_eq!(nats.endpoint.unwrap().as_str(), "a.example:7477");
        let endpoint = |text: &str, listen| {
            let nats = check_in(&format!("servers = [\"nats://n\"]\n{text}"), listen).0.unwrap();
            nats.endpoint.map(|endpoint| endpoint.as_str().to_owned())
        };
        assert_eq!(endpoint("", Some("192.0.2.1:80")).unwrap(), "192.0.2.1:80");
        assert_eq!(endpoint("endpoint = \"b.example:81\"", Some("192.0.2.1:80")).unwrap(), "b.example:81");
        assert_eq!(endpoint("", None), None);
        for (text, login) in [
            ("credentials = \"x\"", Login::Credentials("/etc/parlour/x".into())),
            ("token_file = \"x\"", Login::Token("/etc/parlour/x".into())),
            ("user = \"u\"\npassword_file = \"/x\"", Login::Password("u".into(), "/x".into())),
        ] {
            let nats = check(&format!("servers = [\"nats://n\"]\n{text}")).0.unwrap();
            assert_eq!((nats.login.file().is_some(), nats.login), (true, login));
        }
    }

    #[test]
    fn a_mistake_is_told_with_its_remedy() {
        let servers = "servers = [\"nats://n\"]\n";
        for (text, expected) in [
            ("servers = []", "servers: no server is named; write servers = "),
            ("servers = [\"n:4222\"]", "servers: \"n:4222\" is no URL of a NATS server; write nats://host:4222"),
            ("servers = [\"ws://n:4222\"]", "servers: \"ws://n:4222\" is no URL"),
            ("servers = [\"nats://n:0\"]", "servers: \"nats://n:0\" has no valid address; write"),
            ("servers = [\"nats://\"]", "servers: "),
            ("servers = [\"nats://me:secret@n\"]", "servers: a URL has a user or a token, which"),
            (&format!("{servers}user = \"u\""), "user: there is no password; add password_file"),
            (&format!("{servers}password_file = \"u\""), "password_file: there is no user; add user"),
            (&format!("{servers}token_file = \"u\"\ncredentials = \"x\""), "credentials: there is more than one way"),
            (&format!("{servers}key = \"x\""), "key: its certificate is missing; add certificate"),
            ("servers = [\"tls://n\"]\ncertificate = \"x\"", "certificate: its key is missing; add key"),
            (&format!("{servers}authority = \"x\""), "servers: nats://n:4222 may be without TLS"),
            (&format!("{servers}bucket = \"a.b\""), "bucket: \"a.b\" is no name of a bucket; write 1 to 64"),
            (&format!("{servers}realm = \"a.b\""), "realm: \"a.b\" is no name of a realm"),
            (&format!("{servers}ttl = \"10ms\""), "ttl: \"10ms\" is not a duration from 1s to 1day; write"),
            (&format!("{servers}ttl = \"2days\""), "ttl: "),
            (&format!("{servers}endpoint = \"a\""), "endpoint: \"a\" is not the address of a bridge; write host:port"),
        ] {
            let (nats, mistakes) = check(text);
            let expected = format!("[discovery.nats] {expected}");
            assert!(nats.is_none() && mistakes.len() == 1, "{text}: {mistakes:?}");
            assert!(mistakes[0].starts_with(&expected) && !mistakes[0].contains("secret"), "{text}: {mistakes:?}");
        }
        let (_, mistakes) = check_in(&format!("{servers}endpoint = \"a:1\""), None);
        assert_eq!(mistakes.len(), 1);
        assert!(mistakes[0].ends_with("remove it, or add listen"), "{mistakes:?}");
    }
}
