//! The configuration of a bridge, in TOML.
//!
//! ```
//! use std::path::Path;
//! use parlour_bridge::files::config::Config;
//!
//! let text = r#"
//!     host = "a.example"
//!     listen = "0.0.0.0:7477"
//!     lease = "5s"
//!
//!     [tls]
//!     authority = "ca.pem"
//!     certificate = "a.example.pem"
//!     key = "a.example.key"
//!
//!     [peers]
//!     "b.example" = "192.0.2.2:7477"
//!
//!     [[export]]
//!     name = "wc"
//!     to = ["b.example"]
//!
//!     [[import]]
//!     name = "printer"
//!     from = ["b.example"]
//! "#;
//! let config = Config::parse(text, Path::new("/etc/parlour")).unwrap();
//! assert_eq!(config.tls.key, Path::new("/etc/parlour/a.example.key"));
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parlour::Transport;
use serde::Deserialize;

use super::discovery::{self, Discovery};
use super::finding::{Finding, unreadable};
use super::nats::Surroundings;
use crate::identity::{Host, Name};
use crate::importer::Import;
use crate::limits::Limits;
use crate::link::{LEASE_DEFAULT, LEASE_MAX, LEASE_MIN};
use crate::status;
use crate::wire::control::Endpoint;

/// The default of `message_max`, in bytes: that of the library.
const MESSAGE_MAX_DEFAULT: u32 = 16 * 1024 * 1024;

/// The largest `message_max`: lengths have 31 bits.
const MESSAGE_MAX_MAX: u32 = i32::MAX as u32;

/// The default of `transports`. A client that names none prefers `unix` to `fifo`, and the other ones to both.
const TRANSPORTS_DEFAULT: [Transport; 2] = [Transport::Unix, Transport::Fifo];

/// The default of `mode`, also that of the library: the user of the bridge, and root.
const MODE_DEFAULT: u32 = 0o600;

/// The configuration of a bridge. Every value is valid by itself and together with the others. Whether the files are
/// good is for [`check`](super::check::check).
#[derive(Clone, Debug)]
pub struct Config {
    /// `host`: the name of this host.
    pub host: Host,
    /// `listen`: the address for importers, if there is one.
    pub listen: Option<SocketAddr>,
    /// `lease`: the time of silence after which another host counts as lost. From 1 s to 5 min. Default: 5 s.
    pub lease: Duration,
    /// `[tls]`: the files.
    pub tls: TlsFiles,
    /// `[peers]`: the endpoint of each host, as `host:port`.
    pub peers: BTreeMap<Host, Endpoint>,
    /// `[discovery]`: the way in which the other hosts are found.
    pub discovery: Discovery,
    /// `[[export]]`: the names, and the hosts that may reach them.
    pub exports: BTreeMap<Name, BTreeSet<Host>>,
    /// `[[export]] server_uid`: the users whose servers are exported under a name, instead of those of the user of the
    /// bridge and of root.
    pub server_uids: BTreeMap<Name, u32>,
    /// `[[import]]`: the names, and the hosts that may have their servers.
    pub imports: BTreeMap<Name, Import>,
    /// `[limits]`.
    pub limits: Limits,
}

/// The files for TLS. A path that is not absolute is relative to the directory of the configuration.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// `authority`: the certificates that sign those of all hosts.
    pub authority: PathBuf,
    /// `certificate`: the certificate of this host, with those between it and the authority.
    pub certificate: PathBuf,
    /// `key`: the private key of the certificate.
    pub key: PathBuf,
}

/// The configuration as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    host: String,
    listen: Option<String>,
    lease: Option<String>,
    tls: WrittenTls,
    #[serde(default)]
    peers: BTreeMap<String, String>,
    #[serde(default)]
    discovery: discovery::Written,
    #[serde(default, rename = "export")]
    exports: Vec<WrittenExport>,
    #[serde(default, rename = "import")]
    imports: Vec<WrittenImport>,
    #[serde(default)]
    limits: WrittenLimits,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenTls {
    authority: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenExport {
    name: String,
    to: Vec<String>,
    server_uid: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenImport {
    name: String,
    from: Vec<String>,
    message_max: Option<u32>,
    mode: Option<String>,
    transports: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenLimits {
    conversations: Option<usize>,
    conversations_per_host: Option<usize>,
    opens_per_second: Option<u32>,
}

impl Config {
    /// Reads and parses a file.
    ///
    /// # Errors
    ///
    /// Every mistake, as [`parse`](Self::parse) finds them, or that the file cannot be read.
    pub fn read(path: &Path) -> Result<Self, Vec<Finding>> {
        let text = fs::read_to_string(path).map_err(|error| {
            let remedy = unreadable(&error, "create it, or name another file with --config");
            vec![Finding::mistake(path.display().to_string(), format!("cannot be read: {error}"), remedy)]
        })?;
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Self::parse_from(&text, absolute.parent().unwrap_or(Path::new("/")), &format!("{}: ", path.display()))
    }

    /// Parses a configuration. `directory` is the one for relative paths. Opens no file.
    ///
    /// # Errors
    ///
    /// Every mistake, with its remedy. If the text does not have the form of a configuration, the first one alone.
    pub fn parse(text: &str, directory: &Path) -> Result<Self, Vec<Finding>> {
        Self::parse_from(text, directory, "")
    }

    /// Parses a configuration as [`parse`](Self::parse) does. `source` precedes the number of a line in a finding.
    fn parse_from(text: &str, directory: &Path, source: &str) -> Result<Self, Vec<Finding>> {
        let written: Written = toml::from_str(text).map_err(|error| {
            let line =
                error.span().map_or(1, |span| 1 + text.get(..span.start).unwrap_or_default().matches('\n').count());
            let problem = error.message().replace('\n', ", ");
            vec![Finding::mistake(format!("{source}line {line}"), problem, "see the keys in docs/bridge.md")]
        })?;
        let mut mistakes = Vec::new();
        let config = written.check(directory, &mut mistakes);
        config.filter(|_| mistakes.is_empty()).ok_or(mistakes)
    }
}

impl Config {
    /// Finds the changes that a bridge cannot make while it runs: `host`, `listen` and `lease`.
    ///
    /// # Errors
    ///
    /// Every such change, with its remedy.
    pub fn check_change(&self, new: &Self) -> Result<(), Vec<Finding>> {
        let listen = |config: &Self| config.listen.map_or("none".to_owned(), |address| address.to_string());
        let lease = |config: &Self| humantime::format_duration(config.lease).to_string();
        let values = [
            ("host", self.host.to_string(), new.host.to_string()),
            ("listen", listen(self), listen(new)),
            ("lease", lease(self), lease(new)),
        ];
        let changed = values.into_iter().filter(|(_, old, new)| old != new);
        let mistake = |(key, old, new): (&str, String, String)| {
            let problem = format!("changes from {old} to {new}, which a bridge cannot do while it runs");
            Finding::mistake(key, problem, "restart the bridge, or restore the value")
        };
        let mistakes: Vec<Finding> = changed.map(mistake).collect();
        if mistakes.is_empty() { Ok(()) } else { Err(mistakes) }
    }
}

/// The mistakes that were found.
type Mistakes = Vec<Finding>;

impl Written {
    fn check(self, directory: &Path, mistakes: &mut Mistakes) -> Option<Config> {
        let host = parse_host("host", &self.host, mistakes);
        let listen = self.listen.as_deref().and_then(|text| parse_listen(text, mistakes));
        if self.listen.is_none() && !self.exports.is_empty() {
            let problem = "names are exported, and no other host can reach this one";
            mistakes.push(Finding::mistake("listen", problem, "add listen = \"0.0.0.0:7477\""));
        }
        let lease = self.lease.as_deref().map_or(Some(LEASE_DEFAULT), |text| parse_lease(text, mistakes));
        let peers = self.peers(host.as_ref(), mistakes);
        let around = Surroundings { directory, host: host.as_ref(), listen };
        let discovery = self.discovery.check(around, mistakes);
        let exports = self.exports(host.as_ref(), mistakes);
        let server_uids = self.server_uids(mistakes);
        let imports = self.imports(host.as_ref(), &peers, mistakes);
        for name in imports.keys().filter(|name| exports.contains_key(name)) {
            let problem = format!("{name} is exported, too: its clients would go round in circles");
            mistakes.push(Finding::mistake("[[import]] name", problem, "remove one of the two"));
        }
        if self.exports.is_empty() && self.imports.is_empty() {
            let remedy = "add an [[export]] with name and to, or an [[import]] with name and from";
            mistakes.push(Finding::mistake("[[export]], [[import]]", "nothing is exported or imported", remedy));
        }
        let limits = self.limits.check(mistakes);
        let tls = TlsFiles {
            authority: directory.join(self.tls.authority),
            certificate: directory.join(self.tls.certificate),
            key: directory.join(self.tls.key),
        };
        Some(Config {
            host: host?,
            listen,
            lease: lease?,
            tls,
            peers,
            discovery,
            exports,
            server_uids,
            imports,
            limits,
        })
    }

    fn peers(&self, own: Option<&Host>, mistakes: &mut Mistakes) -> BTreeMap<Host, Endpoint> {
        let mut peers = BTreeMap::new();
        for (text, endpoint) in &self.peers {
            let place = format!("[peers] {text}");
            let Some(host) = parse_other(&place, text, own, mistakes) else { continue };
            match Endpoint::parse_address(endpoint) {
                Some(endpoint) => drop(peers.insert(host, endpoint)),
                None => {
                    let problem = format!("{endpoint:?} is not the address of a bridge");
                    mistakes.push(Finding::mistake(place, problem, "write host:port, such as 192.0.2.2:7477"));
                }
            }
        }
        peers
    }

    fn exports(&self, own: Option<&Host>, mistakes: &mut Mistakes) -> BTreeMap<Name, BTreeSet<Host>> {
        let mut exports = BTreeMap::new();
        for export in &self.exports {
            let Some(name) = parse_name("[[export]] name", &export.name, mistakes) else { continue };
            let hosts = parse_hosts(&format!("[[export]] {name}: to"), &export.to, own, mistakes);
            if exports.insert(name.clone(), hosts).is_some() {
                let remedy = "write one [[export]] with all hosts";
                mistakes.push(Finding::mistake("[[export]] name", format!("{name} is there twice"), remedy));
            }
        }
        exports
    }

    /// Returns the users of exported names. Mistakes of the names are found with the names.
    fn server_uids(&self, mistakes: &mut Mistakes) -> BTreeMap<Name, u32> {
        let mut uids = BTreeMap::new();
        for export in &self.exports {
            let (Some(uid), Ok(name)) = (export.server_uid, Name::parse(&export.name)) else { continue };
            // That of a user that the kernel does not know.
            if uid == u32::MAX {
                let place = format!("[[export]] {name}: server_uid");
                let remedy = "write the number that `id -u USER` prints";
                mistakes.push(Finding::mistake(place, format!("{uid} is no user"), remedy));
            }
            uids.insert(name, uid);
        }
        uids
    }

    fn imports(
        &self,
        own: Option<&Host>,
        peers: &BTreeMap<Host, Endpoint>,
        mistakes: &mut Mistakes,
    ) -> BTreeMap<Name, Import> {
        let mut imports = BTreeMap::new();
        for import in &self.imports {
            let Some(name) = parse_name("[[import]] name", &import.name, mistakes) else { continue };
            let place = format!("[[import]] {name}: from");
            let from = parse_hosts(&place, &import.from, own, mistakes);
            let is_known = |host: &Host| {
                self.discovery.is_there() || peers.contains_key(host) || self.peers.contains_key(host.as_str())
            };
            for host in from.iter().filter(|host| !is_known(host)) {
                let remedy =
                    format!("add \"{host}\" = \"ADDRESS:7477\" to [peers], or add [discovery.dns] or [discovery.nats]");
                mistakes.push(Finding::mistake(&place, format!("the address of {host} is not known"), remedy));
            }
            let message_max = import.message_max.unwrap_or(MESSAGE_MAX_DEFAULT);
            if message_max == 0 || message_max > MESSAGE_MAX_MAX {
                let place = format!("[[import]] {name}: message_max");
                let remedy = format!("write a number of bytes from 1 to {MESSAGE_MAX_MAX}");
                mistakes.push(Finding::mistake(place, format!("{message_max} is out of range"), remedy));
            }
            let place = format!("[[import]] {name}: mode");
            let mode = import.mode.as_deref().map_or(MODE_DEFAULT, |text| parse_mode(&place, text, mistakes));
            let place = format!("[[import]] {name}: transports");
            let transports = import.transports.as_deref();
            let transports =
                transports.map_or(TRANSPORTS_DEFAULT.into(), |words| parse_transports(&place, words, mistakes));
            if mode != MODE_DEFAULT && transports == [Transport::Fifo] {
                let problem = "\"fifo\" serves the user of the bridge only, and the mode admits other users";
                mistakes.push(Finding::mistake(place, problem, "add \"unix\", or remove the mode"));
            }
            if imports.insert(name.clone(), Import { from, message_max, mode, transports }).is_some() {
                let remedy = "write one [[import]] with all hosts";
                mistakes.push(Finding::mistake("[[import]] name", format!("{name} is there twice"), remedy));
            }
        }
        imports
    }
}

impl WrittenLimits {
    fn check(&self, mistakes: &mut Mistakes) -> Limits {
        let default = Limits::default();
        let conversations = self.conversations.unwrap_or(default.conversations);
        let limits = Limits {
            conversations,
            conversations_per_host: self
                .conversations_per_host
                .unwrap_or(default.conversations_per_host.min(conversations)),
            opens_per_second: self.opens_per_second.unwrap_or(default.opens_per_second),
        };
        let mut zero = |key: &str, is_zero: bool| {
            if is_zero {
                let remedy = "write a number above 0, or remove the line";
                mistakes.push(Finding::mistake(format!("[limits] {key}"), "0 lets nobody in", remedy));
            }
        };
        zero("conversations", limits.conversations == 0);
        zero("conversations_per_host", limits.conversations_per_host == 0);
        zero("opens_per_second", limits.opens_per_second == 0);
        if limits.conversations_per_host > limits.conversations {
            let problem = format!("is above conversations, which is {}", limits.conversations);
            let remedy = "lower it, or raise conversations";
            mistakes.push(Finding::mistake("[limits] conversations_per_host", problem, remedy));
        }
        limits
    }
}

fn parse_host(place: &str, text: &str, mistakes: &mut Mistakes) -> Option<Host> {
    Host::parse(text)
        .map_err(|problem| {
            let remedy = "write the DNS name of the certificate in lower case, such as a.example";
            mistakes.push(Finding::mistake(place, problem, remedy));
        })
        .ok()
}

/// Parses the name of another host.
fn parse_other(place: &str, text: &str, own: Option<&Host>, mistakes: &mut Mistakes) -> Option<Host> {
    let host = parse_host(place, text, mistakes)?;
    if own == Some(&host) {
        let problem = format!("{host} is this host itself");
        mistakes.push(Finding::mistake(place, problem, "name another host"));
        return None;
    }
    Some(host)
}

fn parse_hosts(place: &str, texts: &[String], own: Option<&Host>, mistakes: &mut Mistakes) -> BTreeSet<Host> {
    if texts.is_empty() {
        mistakes.push(Finding::mistake(place, "no host is named", "name at least one, or remove the entry"));
    }
    let mut hosts = BTreeSet::new();
    for text in texts {
        let Some(host) = parse_other(place, text, own, mistakes) else { continue };
        if !hosts.insert(host) {
            mistakes.push(Finding::mistake(place, format!("{text} is there twice"), "remove one of the two"));
        }
    }
    hosts
}

fn parse_name(place: &str, text: &str, mistakes: &mut Mistakes) -> Option<Name> {
    if text == status::NAME {
        let problem = format!("each bridge serves its status under the name {text}");
        mistakes.push(Finding::mistake(place, problem, "write the name of another server"));
        return None;
    }
    Name::parse(text)
        .map_err(|problem| mistakes.push(Finding::mistake(place, problem, "write a name as `parlour list` shows it")))
        .ok()
}

/// Parses the names of transports.
fn parse_transports(place: &str, words: &[String], mistakes: &mut Mistakes) -> Vec<Transport> {
    let remedy = "write one or more of \"unix\", \"fifo\", \"packet\" and \"shm\", or leave it out";
    if words.is_empty() {
        mistakes.push(Finding::mistake(place, "no client could connect", remedy));
    }
    let mut transports = Vec::new();
    for word in words {
        match word.parse() {
            Ok(transport) => transports.push(transport),
            Err(_) => mistakes.push(Finding::mistake(place, format!("{word:?} is not a transport"), remedy)),
        }
    }
    Transport::ALL.iter().copied().filter(|transport| transports.contains(transport)).collect()
}

/// Parses a mode of a socket, as octal digits. A client needs the rights to read and to write.
fn parse_mode(place: &str, text: &str, mistakes: &mut Mistakes) -> u32 {
    let is_of_digits = matches!(text.len(), 3 | 4) && text.bytes().all(|byte| byte.is_ascii_digit());
    let mode = u32::from_str_radix(text, 8).ok().filter(|_| is_of_digits);
    let lets_in = |mode: &u32| mode >> 6 == 6 && [mode >> 3 & 7, mode & 7].iter().all(|bits| matches!(bits, 0 | 6));
    mode.filter(lets_in).unwrap_or_else(|| {
        let problem = format!("{text:?} is not the mode of a socket");
        let remedy = "write \"0600\" (the user of the bridge), \"0660\" (also its group) or \"0666\" (every user)";
        mistakes.push(Finding::mistake(place, problem, remedy));
        MODE_DEFAULT
    })
}

fn parse_listen(text: &str, mistakes: &mut Mistakes) -> Option<SocketAddr> {
    let address = text.parse::<SocketAddr>().ok().filter(|address| address.port() != 0);
    if address.is_none() {
        let problem = format!("{text:?} is not an IP address with a port");
        mistakes.push(Finding::mistake("listen", problem, "write ADDRESS:PORT, such as 0.0.0.0:7477 or [::]:7477"));
    }
    address
}

fn parse_lease(text: &str, mistakes: &mut Mistakes) -> Option<Duration> {
    let lease = humantime::parse_duration(text).ok().filter(|lease| (LEASE_MIN..=LEASE_MAX).contains(lease));
    if lease.is_none() {
        let problem = format!("{text:?} is not a duration from 1s to 5m");
        mistakes.push(Finding::mistake("lease", problem, "write a duration such as 5s"));
    }
    lease
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
host = "a.example"
listen = "[::]:7477"
lease = "2s 500ms"

[tls]
authority = "ca.pem"
certificate = "/etc/ssl/a.pem"
key = "a.key"

[peers]
"b.example" = "b.example:7477"
"c.example" = "192.0.2.3:7477"

[[export]]
name = "wc"
to = ["b.example", "elsewhere.example"]

[[import]]
name = "printer"
from = ["b.example", "c.example"]
message_max = 1000
mode = "0660"
transports = ["shm", "unix"]

[limits]
conversations = 100
"#;

    fn parse(text: &str) -> Result<Config, Vec<Finding>> {
        Config::parse(text, Path::new("/etc/parlour"))
    }

    /// The mistakes of the good text with a part of it replaced.
    fn mistakes(from: &str, to: &str) -> Vec<String> {
        assert!(GOOD.contains(from), "{from}");
        let found = parse(&GOOD.replacen(from, to, 1)).map_err(|found| found.iter().map(Finding::to_string).collect());
        found.map(|_| Vec::new()).unwrap_or_else(|mistakes| mistakes)
    }

    #[test]
    fn a_configuration_is_read_with_its_defaults() {
        let config = parse(GOOD).unwrap();
        assert_eq!((config.host.as_str(), config.lease), ("a.example", Duration::from_millis(2500)));
        assert_eq!(config.tls.authority, Path::new("/etc/parlour/ca.pem"));
        assert_eq!(config.tls.certificate, Path::new("/etc/ssl/a.pem"));
        assert_eq!(config.limits, Limits { conversations: 100, conversations_per_host: 100, opens_per_second: 500 });
        assert_eq!((config.exports.len(), config.peers.len()), (1, 2));
        let import = config.imports.values().next().unwrap();
        assert_eq!((import.from.len(), import.message_max, import.mode), (2, 1000, 0o660));
        assert_eq!(import.transports, [Transport::Shm, Transport::Unix]);
        let values =
            ["lease = \"2s 500ms\"", "message_max = 1000", "mode = \"0660\"", "transports = [\"shm\", \"unix\"]"];
        let plain = parse(&values.iter().fold(GOOD.to_owned(), |text, value| text.replace(value, ""))).unwrap();
        let import = plain.imports.values().next().unwrap();
        assert_eq!((plain.lease, import.message_max, import.mode), (LEASE_DEFAULT, 16 << 20, 0o600));
        assert_eq!(import.transports, TRANSPORTS_DEFAULT);
    }

    #[test]
    fn a_mistake_is_told_with_its_place_and_its_remedy() {
        let cases = [
            ("host = \"a.example\"", "host = \"A\"", "host: the name of a host must not contain 'A'"),
            ("[::]:7477", "7477", "listen: \"7477\" is not an IP address with a port; write ADDRESS:PORT"),
            ("[::]:7477", "[::]:0", "listen: "),
            ("listen = \"[::]:7477\"", "", "listen: names are exported, and no other host can reach this one"),
            ("2s 500ms", "999ms", "lease: \"999ms\" is not a duration from 1s to 5m"),
            ("2s 500ms", "301s", "lease: "),
            ("\"b.example:7477\"", "\"b.example\"", "[peers] b.example: \"b.example\" is not the address of a bridge"),
            ("\"b.example:7477\"", "\"b.example:99999\"", "[peers] b.example: "),
            ("\"b.example\" = ", "\"a.example\" = ", "[peers] a.example: a.example is this host itself"),
            ("name = \"wc\"", "name = \"w c\"", "[[export]] name: "),
            ("to = [\"b.example\", ", "to = [\"a.example\", ", "[[export]] wc: to: a.example is this host itself"),
            ("to = [\"b.example\", \"elsewhere.example\"]", "to = []", "[[export]] wc: to: no host is named"),
            ("name = \"wc\"", "name = \"parlour-bridge\"", "[[export]] name: each bridge serves its status under"),
            ("name = \"printer\"", "name = \"wc\"", "[[import]] name: wc is exported, too"),
            (
                "\"c.example\" = \"192.0.2.3:7477\"",
                "",
                "[[import]] printer: from: the address of c.example is not known; add",
            ),
            ("message_max = 1000", "message_max = 0", "[[import]] printer: message_max: 0 is out of range"),
            ("\"0660\"", "\"0668\"", "[[import]] printer: mode: \"0668\" is not the mode of a socket; write \"0600\""),
            ("\"0660\"", "\"+660\"", "[[import]] printer: mode: "),
            ("\"0660\"", "\"4600\"", "[[import]] printer: mode: "),
            ("\"0660\"", "\"066\"", "[[import]] printer: mode: "),
            ("\"0660\"", "\"0644\"", "[[import]] printer: mode: "),
            ("\"0660\"", "660", "line 23: invalid type"),
            ("[\"shm\", \"unix\"]", "[]", "[[import]] printer: transports: no client could connect; write one or more"),
            ("\"shm\"", "\"tcp\"", "[[import]] printer: transports: \"tcp\" is not a transport; write one or more of"),
            (
                "\"shm\", \"unix\"",
                "\"fifo\"",
                "[[import]] printer: transports: \"fifo\" serves the user of the bridge only",
            ),
            ("conversations = 100", "conversations_per_host = 5000", "[limits] conversations_per_host: is above"),
            ("conversations = 100", "opens_per_second = 0", "[limits] opens_per_second: 0 lets nobody in"),
            ("host = ", "hots = ", "line 2: unknown field `hots`"),
            ("conversations = 100", "conversations = \"many\"", "line 27: invalid type"),
            ("[tls]", "[tls", "line 6: "),
            ("key = \"a.key\"", "", "line 6: missing field `key`"),
        ];
        for (from, to, expected) in cases {
            let found = mistakes(from, to);
            assert!(found.iter().any(|found| found.starts_with(expected)), "{to}: {found:#?}");
        }
        let twice = mistakes("[limits]", "[[export]]\nname = \"wc\"\nto = [\"b.example\"]\n[limits]");
        assert_eq!(twice, ["[[export]] name: wc is there twice; write one [[export]] with all hosts"]);
    }

    #[test]
    fn a_change_that_needs_a_restart_is_told() {
        let old = parse(GOOD).unwrap();
        let changed = GOOD.replace("\"b.example\", \"elsewhere.example\"", "\"c.example\"").replace("= 1000", "= 2000");
        old.check_change(&parse(&changed).unwrap()).unwrap();
        let changed = parse(&changed.replace("2s 500ms", "3s").replace("[::]:7477", "[::]:7478")).unwrap();
        let told: Vec<_> = old.check_change(&changed).unwrap_err().iter().map(Finding::to_string).collect();
        assert!(told[0].starts_with("listen: changes from [::]:7477 to [::]:7478, which"), "{told:?}");
        assert!(told[1].starts_with("lease: changes from 2s 500ms to 3s, which"), "{told:?}");
        assert_eq!(told.len(), 2);
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let text = GOOD
            .replace("a.example\"", "A\"")
            .replace("2s 500ms", "soon")
            .replace("message_max = 1000", "message_max = 0");
        assert_eq!(parse(&text).unwrap_err().len(), 3);
    }

    #[test]
    fn a_configuration_without_names_is_a_mistake() {
        let text = "host = \"a\"\n[tls]\nauthority = \"x\"\ncertificate = \"x\"\nkey = \"x\"\n";
        assert!(parse(text).unwrap_err()[0].problem.contains("nothing is exported or imported"));
    }
}
