//! The check of what a configuration needs of this host: its names, its base directory, descriptors, and the addresses
//! of the other hosts.

use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::atomic::{AtomicU32, Ordering};

use parlour::inspect::{self, NameState, NameStatus};
use parlour::{ServerOptions, Transport};
use rustix::process::{Resource, getrlimit};

use super::config::Config;
use super::finding::Finding;
use super::holders;
use crate::identity::Name;
use crate::status;

/// The descriptors of one conversation over `unix`: the socket of the client or server, and the connection to the other
/// bridge.
const FDS_PER_CONVERSATION: usize = 2;

/// The same over another transport: two for the client, two for the pair that it is joined with, and the connection to
/// the other bridge. Servers without `unix` are rare, and [`check_exports`] reports them.
const FDS_PER_ADAPTED_CONVERSATION: usize = 5;

/// A generous number of descriptors for everything else.
const FDS_OTHERS: usize = 128;

/// Checks names, the base directory, and descriptors. Takes a name of its own for a moment. Everything that another
/// program may change before the bridge needs it is a warning.
#[must_use]
pub fn check(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    check_base(&mut findings);
    check_imports(config, &mut findings);
    check_exports(config, &mut findings);
    check_address(config, &mut findings);
    check_descriptors(config, &mut findings);
    check_peers(config, &mut findings);
    findings
}

/// Looks the names in `[peers]` up, which may take some seconds.
#[must_use]
pub fn resolve_peers(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (host, endpoint) in &config.peers {
        let problem = match endpoint.as_str().to_socket_addrs().map(|mut found| found.next()) {
            Ok(Some(_)) => continue,
            Ok(None) => "it has no address".to_owned(),
            Err(error) => error.to_string(),
        };
        let place = format!("[peers] {host}");
        let remedy = "correct it, write an IP address, or ask the DNS server of this host for the reason";
        findings.push(Finding::warning(place, format!("{} cannot be resolved: {problem}", endpoint.as_str()), remedy));
    }
    findings
}

/// Takes a name as the bridge does, and gives it up again.
fn check_base(findings: &mut Vec<Finding>) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("parlour-bridge-check-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let taken = ServerOptions::new().transports([Transport::Unix]).hand_over(false).bind(&name);
    if let Err(error) = taken {
        let remedy = "set PARLOUR_DIR or XDG_RUNTIME_DIR to a directory that the user of the bridge may write to";
        findings.push(Finding::mistake("the base directory", format!("no name can be taken: {error}"), remedy));
    }
}

/// Returns the state of a name on this host, with `uid` in the directories of that user.
fn holders_for(name: &Name, uid: Option<u32>) -> Vec<NameStatus> {
    holders::holders(name, uid).unwrap_or_default()
}

/// Returns the state of an exported name, of the users whose servers are exported.
fn holders_of(config: &Config, name: &Name) -> Vec<NameStatus> {
    holders_for(name, config.server_uids.get(name).copied())
}

/// Returns true if the holder of a name is a bridge, such as the one that runs with this configuration.
fn is_bridge(status: &NameStatus) -> bool {
    status.owner.as_ref().is_some_and(|owner| owner.program.file_name() == Some("parlour-bridge".as_ref()))
}

fn check_imports(config: &Config, findings: &mut Vec<Finding>) {
    for name in config.imports.keys() {
        let place = format!("[[import]] {name}");
        for status in holders_for(name, None) {
            match status.state {
                NameState::Live | NameState::Waiting if !is_bridge(&status) => {
                    let owner = status.owner.map_or_else(String::new, |owner| {
                        format!(" ({}, process {})", owner.program.display(), owner.pid)
                    });
                    let problem = format!("a server of this host has the name{owner}, and keeps it");
                    findings.push(Finding::warning(&place, problem, "end that server, or remove the import"));
                }
                NameState::Unsafe(error) => {
                    let remedy = "remove the directory, or correct its owner and mode";
                    findings.push(Finding::mistake(&place, format!("the name cannot be taken: {error}"), remedy));
                }
                _ => {}
            }
        }
    }
}

/// Checks that exported names of other users are meant, and can be reached.
fn check_owners(config: &Config, findings: &mut Vec<Finding>) {
    for name in config.exports.keys() {
        let place = format!("[[export]] {name}");
        let Some(&uid) = config.server_uids.get(name) else {
            for status in holders_of(config, name) {
                if let (NameState::Foreign, Some(uid)) = (&status.state, holders::owner(&status)) {
                    let problem = format!("{} is of the user {uid}, and is not exported", status.path.display());
                    let remedy = format!(
                        "if this is the service that you mean, write server_uid = {uid}, or run a bridge as that user; \
                         otherwise find out why the user {uid} has the name"
                    );
                    findings.push(Finding::warning(&place, problem, remedy));
                }
            }
            continue;
        };
        for status in holders_for(name, None) {
            let is_served = matches!(status.state, NameState::Live | NameState::Waiting);
            if let Some(other) = holders::owner(&status).filter(|&owner| is_served && owner != uid) {
                let problem = format!("{} is of the user {other}, and is not exported", status.path.display());
                let remedy = format!("end that server, or correct server_uid = {uid}");
                findings.push(Finding::warning(&place, problem, remedy));
            }
        }
        // The server may come later.
        for status in holders_of(config, name) {
            let problem = match status.state {
                NameState::Foreign if status.transports.is_empty() => "this user may not enter it".to_owned(),
                NameState::Unsafe(error) => error.to_string(),
                _ => continue,
            };
            let remedy = "have its server admit the user of the bridge (mode), or run a bridge as that user";
            let problem = format!("{} cannot be reached: {problem}", status.path.display());
            findings.push(Finding::warning(&place, problem, remedy));
        }
    }
}

fn check_exports(config: &Config, findings: &mut Vec<Finding>) {
    let lacks_unix = |name: &&Name| {
        holders_of(config, name)
            .iter()
            .any(|status| matches!(status.state, NameState::Live) && !status.transports.contains(&Transport::Unix))
    };
    check_owners(config, findings);
    for name in config.exports.keys().filter(lacks_unix) {
        let problem = "its server does not offer the transport unix, so that the bridge copies each message";
        let remedy = "start the server with unix among its transports";
        findings.push(Finding::warning(format!("[[export]] {name}"), problem, remedy));
    }
}

/// Returns true if a bridge of this user runs here and serves its status.
fn has_bridge() -> bool {
    let found = inspect::resolve(status::NAME).map(|resolution| resolution.candidates).unwrap_or_default();
    let mut names = found.into_iter().filter_map(|candidate| candidate.name);
    names.any(|status| matches!(status.state, NameState::Live))
}

/// Checks that the address is free, or that a bridge runs here, which may be the one that has it.
fn check_address(config: &Config, findings: &mut Vec<Finding>) {
    let Some(address) = config.listen else { return };
    if config.exports.is_empty() {
        let problem = "nothing is exported, and other hosts have no use for the address";
        findings.push(Finding::warning("listen", problem, "add an [[export]], or remove the line"));
    }
    let is_taken = TcpListener::bind(address).is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse);
    if is_taken && !has_bridge() {
        let problem = format!("another program listens at {address}");
        findings.push(Finding::warning("listen", problem, "end it (`ss -ltnp` names it), or write another port"));
    }
}

fn check_descriptors(config: &Config, findings: &mut Vec<Finding>) {
    // The program raises its limit to the hard one.
    let Some(have) = getrlimit(Resource::Nofile).maximum else { return };
    findings.extend(descriptors(config, usize::try_from(have).unwrap_or(usize::MAX)));
}

fn descriptors(config: &Config, have: usize) -> Option<Finding> {
    let is_unix_only = config.imports.values().all(|import| import.transports == [Transport::Unix]);
    let of_client = match config.imports.is_empty() {
        true => 0,
        false if is_unix_only => FDS_PER_CONVERSATION,
        false => FDS_PER_ADAPTED_CONVERSATION,
    };
    let of_server = if config.exports.is_empty() { 0 } else { FDS_PER_CONVERSATION };
    let names = config.imports.len() * 8;
    let conversations = config.limits.conversations.saturating_mul(of_client + of_server);
    let needed = conversations.saturating_add(names + FDS_OTHERS);
    (needed > have).then(|| {
        let problem = format!(
            "{} conversations need {needed} descriptors, and this process may have {have}",
            config.limits.conversations
        );
        let remedy = "raise the hard limit (LimitNOFILE= of the unit, ulimit -Hn), or lower the number";
        Finding::warning("[limits] conversations", problem, remedy)
    })
}

fn check_peers(config: &Config, findings: &mut Vec<Finding>) {
    let is_needed = |host| config.imports.values().any(|import| import.from.contains(host));
    for (host, endpoint) in &config.peers {
        let (place, address) = (format!("[peers] {host}"), endpoint.as_str());
        if !is_needed(host) {
            let problem = format!("nothing is imported from {host}");
            findings.push(Finding::warning(&place, problem, "add it to `from` of an [[import]], or remove the line"));
        }
        if config.listen.is_some() && config.listen == address.parse::<SocketAddr>().ok() {
            let problem = format!("{address} is the address of this host itself");
            findings.push(Finding::warning(&place, problem, "write the address of the other host"));
        }
        let mut others = config.peers.iter().take_while(|(other, _)| *other != host);
        if let Some((other, _)) = others.find(|(_, other)| *other == endpoint) {
            let problem = format!("{address} is the address of {other}, too");
            findings.push(Finding::warning(&place, problem, "write the address of each host"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn config(peers: &str, tables: &str) -> Config {
        let text = format!(
            "host = \"a.example\"\nlisten = \"127.0.0.1:7477\"\n[tls]\nauthority = \"ca\"\ncertificate = \"c\"\n\
             key = \"k\"\n[peers]\n{peers}\n{tables}"
        );
        Config::parse(&text, Path::new("/")).unwrap()
    }

    const IMPORT: &str = "[[import]]\nname = \"wc\"\nfrom = [\"b.example\"]\n";

    fn told(findings: &[Finding]) -> Vec<String> {
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn peers_that_cannot_be_meant_are_found() {
        let peers = "\"b.example\" = \"127.0.0.1:7477\"\n\"c.example\" = \"127.0.0.1:7477\"";
        let mut findings = Vec::new();
        check_peers(&config(peers, IMPORT), &mut findings);
        let own = "is the address of this host itself; write the address of the other host";
        assert_eq!(
            told(&findings),
            [
                format!("warning: [peers] b.example: 127.0.0.1:7477 {own}"),
                "warning: [peers] c.example: nothing is imported from c.example; add it to `from` of an [[import]], or \
                 remove the line"
                    .to_owned(),
                format!("warning: [peers] c.example: 127.0.0.1:7477 {own}"),
                "warning: [peers] c.example: 127.0.0.1:7477 is the address of b.example, too; write the address of \
                 each host"
                    .to_owned(),
            ]
        );
    }

    #[test]
    fn a_name_without_an_address_is_found() {
        // A name of the top-level domain `invalid` has no address anywhere.
        let findings = resolve_peers(&config("\"b.example\" = \"b.invalid:7477\"", IMPORT));
        let [finding] = &findings[..] else { panic!("{findings:?}") };
        let text = finding.to_string();
        assert!(text.starts_with("warning: [peers] b.example: b.invalid:7477 cannot be resolved: "), "{text}");
        assert_eq!(resolve_peers(&config("\"b.example\" = \"192.0.2.1:7477\"", IMPORT)), []);
    }

    #[test]
    fn more_conversations_than_descriptors_are_found() {
        let config = |import: &str| {
            let tables = format!("{IMPORT}{import}\n[limits]\nconversations = 1000");
            config("\"b.example\" = \"192.0.2.1:7477\"", &tables)
        };
        // A client over fifo takes more.
        let finding = descriptors(&config(""), 4096).unwrap().to_string();
        assert!(finding.contains("1000 conversations need 5136 descriptors"), "{finding}");
        let config = config("transports = [\"unix\"]");
        assert_eq!(descriptors(&config, 4096), None);
        let finding = descriptors(&config, 2000).unwrap().to_string();
        assert_eq!(
            finding,
            "warning: [limits] conversations: 1000 conversations need 2136 descriptors, and this process may have \
             2000; raise the hard limit (LimitNOFILE= of the unit, ulimit -Hn), or lower the number"
        );
    }
}
