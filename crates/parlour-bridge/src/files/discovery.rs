//! The part of the configuration that says how hosts are found which `[peers]` does not name.

use std::net::SocketAddr;

use serde::Deserialize;

use super::finding::Finding;
use super::nats::{self, Nats, Surroundings};

/// The port of a bridge, if none is configured.
pub const PORT_DEFAULT: u16 = 7477;

/// The maximum length of the name of a service, in bytes: that of any DNS name.
const SERVICE_LEN_MAX: usize = 253;

/// The way in which hosts are found that `[peers]` does not name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Discovery {
    /// None is found.
    #[default]
    Static,
    /// `[discovery.dns]`: by DNS, anew for each link.
    Dns(Dns),
    /// `[discovery.nats]`: through a NATS server, which reports them.
    Nats(Box<Nats>),
}

/// `[discovery.dns]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// The records.
    pub records: Records,
    /// `servers`: the DNS servers. Without any, those of /etc/resolv.conf.
    pub servers: Vec<SocketAddr>,
}

/// The records that lead to the bridge of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Records {
    /// `port`: the A and AAAA records of the name of the host, with this port.
    Addresses(u16),
    /// `service`: the SRV records of this name. The host is the target, which has A or AAAA records.
    Service(String),
}

/// `[discovery]` as it is written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    dns: Option<WrittenDns>,
    nats: Option<nats::Written>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenDns {
    service: Option<String>,
    port: Option<u16>,
    #[serde(default)]
    servers: Vec<String>,
}

impl Written {
    /// Returns true if hosts are to be found, even if that is configured with a mistake.
    pub(super) fn is_there(&self) -> bool {
        self.dns.is_some() || self.nats.is_some()
    }

    pub(super) fn check(&self, around: Surroundings<'_>, mistakes: &mut Vec<Finding>) -> Discovery {
        if self.dns.is_some() && self.nats.is_some() {
            let problem = "hosts are found in one way, and this is a second one";
            mistakes.push(Finding::mistake("[discovery.nats]", problem, "remove it, or remove [discovery.dns]"));
        }
        if let Some(nats) = &self.nats {
            return nats.check(around, mistakes).map_or(Discovery::Static, |nats| Discovery::Nats(Box::new(nats)));
        }
        let Some(dns) = &self.dns else { return Discovery::Static };
        let records = match (&dns.service, dns.port) {
            (Some(service), None) => {
                if let Err(problem) = check_service(service) {
                    let remedy = "write the name of SRV records, such as _parlour-bridge._tcp.example";
                    mistakes.push(Finding::mistake("[discovery.dns] service", problem, remedy));
                }
                Records::Service(service.trim_end_matches('.').to_owned())
            }
            (Some(_), Some(_)) => {
                let problem = "SRV records have the port of each host";
                mistakes.push(Finding::mistake("[discovery.dns] port", problem, "remove port, or remove service"));
                Records::Addresses(PORT_DEFAULT)
            }
            (None, port) => Records::Addresses(port.unwrap_or(PORT_DEFAULT)),
        };
        if dns.port == Some(0) {
            let remedy = "write the port at which the bridges listen, such as 7477";
            mistakes.push(Finding::mistake("[discovery.dns] port", "0 is no port", remedy));
        }
        let mut servers = Vec::new();
        for text in &dns.servers {
            match text.parse::<SocketAddr>().ok().filter(|address| address.port() != 0) {
                Some(address) => servers.push(address),
                None => {
                    let problem = format!("{text:?} is not an IP address with a port");
                    let remedy = "write ADDRESS:PORT, such as 192.0.2.53:53";
                    mistakes.push(Finding::mistake("[discovery.dns] servers", problem, remedy));
                }
            }
        }
        Discovery::Dns(Dns { records, servers })
    }
}

/// Checks the form of a DNS name, in which labels may begin with an underscore.
fn check_service(text: &str) -> Result<(), String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.len() > SERVICE_LEN_MAX {
        return Err(format!("the name has {} bytes (at most {SERVICE_LEN_MAX})", name.len()));
    }
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let is_label = |label: &str| (1..=63).contains(&label.len()) && label.chars().all(is_part);
    if name.split('.').all(is_label) { Ok(()) } else { Err(format!("{text:?} is no DNS name")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> (Discovery, Vec<String>) {
        let mut mistakes = Vec::new();
        let around = Surroundings { directory: std::path::Path::new("/"), host: None, listen: None };
        let discovery = toml::from_str::<Written>(text).unwrap().check(around, &mut mistakes);
        (discovery, mistakes.iter().map(Finding::to_string).collect())
    }

    fn dns(records: Records, servers: &[&str]) -> Discovery {
        Discovery::Dns(Dns { records, servers: servers.iter().map(|text| text.parse().unwrap()).collect() })
    }

    #[test]
    fn each_form_is_read_with_its_defaults() {
        assert_eq!(check(""), (Discovery::Static, vec![]));
        assert_eq!(check("[dns]"), (dns(Records::Addresses(7477), &[]), vec![]));
        assert_eq!(check("[dns]\nport = 80"), (dns(Records::Addresses(80), &[]), vec![]));
        let service = "[dns]\nservice = \"_x._tcp.example.\"\nservers = [\"[::1]:53\"]";
        assert_eq!(check(service), (dns(Records::Service("_x._tcp.example".into()), &["[::1]:53"]), vec![]));
    }

    #[test]
    fn a_mistake_is_told_with_its_remedy() {
        let long = format!("[dns]\nservice = \"{}\"", vec!["x".repeat(63); 4].join("."));
        for (text, expected) in [
            ("[dns]\nservice = \"a..b\"", "[discovery.dns] service: \"a..b\" is no DNS name; write"),
            ("[dns]\nservice = \"\"", "[discovery.dns] service: "),
            (&long, "[discovery.dns] service: the name has 255 bytes"),
            ("[dns]\nservice = \"a\"\nport = 1", "[discovery.dns] port: SRV records have the port"),
            ("[dns]\nport = 0", "[discovery.dns] port: 0 is no port"),
            ("[dns]\n[nats]\nservers = [\"nats://n\"]", "[discovery.nats]: hosts are found in one way, and this is a"),
            ("[dns]\nservers = [\"192.0.2.53\"]", "[discovery.dns] servers: \"192.0.2.53\" is not an IP address"),
        ] {
            let (_, mistakes) = check(text);
            assert!(mistakes.len() == 1 && mistakes[0].starts_with(expected), "{text}: {mistakes:?}");
        }
    }
}
