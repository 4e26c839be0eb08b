//! The addresses of other hosts: those of `[peers]`, and those that are found.
//!
//! An address is a hint. The certificate of who answers there decides which host it is.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};

use crate::files::config::Config;
use crate::files::discovery::{Discovery, Dns, Records};
use crate::files::finding::Finding;
use crate::identity::Host;
use crate::wire::control::Endpoint;

/// The maximum number of addresses of one host that are tried for one link.
const ADDRESSES_MAX: usize = 8;

/// The time for an answer from one server.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The longest time for which an answer is used again, whatever its own time says.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// The longest time for which it is believed that there is no record. A host that is new is found soon.
const NO_ANSWER_MAX: Duration = Duration::from_secs(1);

/// Finds the addresses of hosts.
#[derive(Debug)]
pub(super) struct Directory {
    peers: BTreeMap<Host, Endpoint>,
    found: Found,
}

/// The hosts that `[peers]` does not name.
enum Found {
    None,
    Dns(Box<TokioResolver>, Records),
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Dns(_, records) => f.debug_tuple("Dns").field(records).finish_non_exhaustive(),
        }
    }
}

impl Directory {
    /// Reads /etc/resolv.conf, if DNS is used without servers of its own.
    pub(super) fn new(config: &Config) -> Result<Self, Finding> {
        let found = match &config.discovery {
            // The registry reports hosts to the desk.
            Discovery::Static | Discovery::Nats(_) => Found::None,
            Discovery::Dns(dns) => {
                let resolver = resolver(dns).map_err(|error| {
                    let remedy = "correct /etc/resolv.conf, or write servers = [\"ADDRESS:53\"]";
                    Finding::mistake("[discovery.dns]", format!("no DNS server is known: {error}"), remedy)
                })?;
                Found::Dns(Box::new(resolver), dns.records.clone())
            }
        };
        Ok(Self { peers: config.peers.clone(), found })
    }

    /// Returns the addresses of a host, the best ones first, and at least one. `registered` are the endpoints that a
    /// registry has for it.
    pub(super) async fn find(&self, host: &Host, registered: Vec<Endpoint>) -> io::Result<Vec<SocketAddr>> {
        let mut addresses: Vec<SocketAddr> = match (self.peers.get(host), &self.found) {
            (Some(endpoint), _) => tokio::net::lookup_host(endpoint.as_str()).await?.collect(),
            (None, Found::None) => resolve(&registered).await?,
            (None, Found::Dns(resolver, Records::Addresses(port))) => {
                let ips = ips(resolver, host.as_str()).await?;
                ips.into_iter().map(|ip| SocketAddr::new(ip, *port)).collect()
            }
            (None, Found::Dns(resolver, Records::Service(service))) => of_service(resolver, service, host).await?,
        };
        addresses.truncate(ADDRESSES_MAX);
        if addresses.is_empty() { Err(io::Error::other("it has no address")) } else { Ok(addresses) }
    }
}

/// Returns the addresses of endpoints, in their order. Fails with the last error if there is none.
async fn resolve(endpoints: &[Endpoint]) -> io::Result<Vec<SocketAddr>> {
    let (mut addresses, mut failed) = (Vec::new(), None);
    for endpoint in endpoints {
        match tokio::net::lookup_host(endpoint.as_str()).await {
            Ok(found) => addresses.extend(found),
            Err(error) => failed = Some(error),
        }
    }
    failed.filter(|_| addresses.is_empty()).map_or(Ok(addresses), Err)
}

fn resolver(dns: &Dns) -> io::Result<TokioResolver> {
    let mut builder = if dns.servers.is_empty() {
        TokioResolver::builder_tokio().map_err(io::Error::other)?
    } else {
        let server = |address: &SocketAddr| {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                connection.port = address.port();
                connection
            });
            NameServerConfig::new(address.ip(), true, connections.to_vec())
        };
        let servers = dns.servers.iter().map(server).collect();
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    let options = builder.options_mut();
    options.timeout = TIMEOUT;
    options.positive_max_ttl = Some(ANSWER_MAX);
    options.negative_max_ttl = Some(NO_ANSWER_MAX);
    builder.build().map_err(io::Error::other)
}

/// Returns the addresses of a name, which is absolute.
async fn ips(resolver: &TokioResolver, name: &str) -> io::Result<Vec<IpAddr>> {
    let found = resolver.lookup_ip(format!("{name}.")).await.map_err(|error| failed(name, "address", &error))?;
    Ok(found.iter().collect())
}

/// Returns the addresses of a host that is the target of SRV records: by their priorities, and then by their weights.
async fn of_service(resolver: &TokioResolver, service: &str, host: &Host) -> io::Result<Vec<SocketAddr>> {
    let found = resolver.lookup(format!("{service}."), RecordType::SRV).await;
    let found = found.map_err(|error| failed(service, "SRV record", &error))?;
    let mut records = Vec::new();
    for record in found.answers() {
        if let RData::SRV(srv) = &record.data {
            let target = srv.target.to_ascii();
            if target.trim_end_matches('.').eq_ignore_ascii_case(host.as_str()) {
                records.push((srv.priority, std::cmp::Reverse(srv.weight), srv.port));
            }
        }
    }
    records.sort();
    if records.is_empty() {
        return Err(io::Error::other(format!("no SRV record of {service} names it")));
    }
    let ips = ips(resolver, host.as_str()).await?;
    let ports = records.into_iter().map(|(.., port)| port);
    Ok(ports.flat_map(|port| ips.iter().map(move |&ip| SocketAddr::new(ip, port))).collect())
}

fn failed(name: &str, record: &str, error: &dyn fmt::Display) -> io::Error {
    io::Error::other(format!("no {record} of {name} was found: {error}"))
}
