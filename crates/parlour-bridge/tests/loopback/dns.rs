//! A DNS server on loopback, and the discovery of hosts through it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};

use parlour_bridge::status::HostState;

use crate::hosts::{Hosts, own_address};
use crate::{assert_echo, assert_lost};

/// The type codes of records.
const A: u16 = 1;
const SRV: u16 = 33;

/// The records of a name and a type, as they follow behind the time to live and the length.
type Records = BTreeMap<(String, u16), Vec<Vec<u8>>>;

/// A server that answers by UDP. Its answers are valid for the moment alone. Ends with the tests.
struct DnsServer {
    address: SocketAddr,
    records: Arc<Mutex<Records>>,
}

impl DnsServer {
    fn start() -> Self {
        let (address, records) = (own_address(), Arc::new(Mutex::new(Records::new())));
        let (socket, answers) = (UdpSocket::bind(address).unwrap(), Arc::clone(&records));
        std::thread::spawn(move || {
            let mut query = [0; 4096];
            while let Ok((len, client)) = socket.recv_from(&mut query) {
                if let Some(answer) = answer(&query[..len], &answers.lock().unwrap()) {
                    let _ = socket.send_to(&answer, client);
                }
            }
        });
        Self { address, records }
    }

    /// Replaces the records of a name and a type.
    fn set(&self, name: &str, kind: u16, records: Vec<Vec<u8>>) {
        self.records.lock().unwrap().insert((name.to_owned(), kind), records);
    }

    fn configuration(&self, more: &str) -> String {
        format!("[discovery.dns]\nservers = [\"{}\"]\n{more}", self.address)
    }
}

/// Answers a query: RFC 1035, section 4.
fn answer(query: &[u8], records: &Records) -> Option<Vec<u8>> {
    let mut labels = Vec::new();
    let mut at = 12;
    while query.get(at).is_some_and(|&len| len > 0) {
        let len = usize::from(query[at]);
        labels.push(String::from_utf8(query.get(at + 1..at + 1 + len)?.to_vec()).ok()?.to_lowercase());
        at += 1 + len;
    }
    let question = query.get(12..at + 5)?;
    let kind = u16::from_be_bytes(query.get(at + 1..at + 3)?.try_into().ok()?);
    let name = labels.join(".");
    let found = records.get(&(name.clone(), kind)).cloned().unwrap_or_default();
    let exists = records.keys().any(|(other, _)| *other == name);
    // An authoritative response, with recursion. 3: no such name.
    let code = if exists { 0 } else { 3 };
    let mut answer = [&query[..2], &[0x85, 0x80 | code, 0, 1], &(found.len() as u16).to_be_bytes(), &[0; 4]].concat();
    answer.extend_from_slice(question);
    for data in found {
        // The name is a pointer to that of the question; class IN, no time to live.
        answer.extend_from_slice(&[0xc0, 12]);
        answer.extend_from_slice(&kind.to_be_bytes());
        answer.extend_from_slice(&[0, 1, 0, 0, 0, 0]);
        answer.extend_from_slice(&(data.len() as u16).to_be_bytes());
        answer.extend_from_slice(&data);
    }
    Some(answer)
}

fn address_record(address: SocketAddr) -> Vec<u8> {
    let SocketAddr::V4(address) = address else { panic!("{address}") };
    address.ip().octets().to_vec()
}

fn service_record(priority: u16, port: u16, target: &str) -> Vec<u8> {
    let mut data = [priority, 0, port].map(u16::to_be_bytes).concat();
    for label in target.split('.') {
        data.push(label.len() as u8);
        data.extend_from_slice(label.as_bytes());
    }
    data.push(0);
    data
}

#[test]
fn a_host_is_found_by_the_address_of_its_name() {
    let server = DnsServer::start();
    let hosts = Hosts::start_without_peers(&["a"], |hosts| {
        let address = hosts.address("a");
        server.set("a.example", A, vec![address_record(address)]);
        server.configuration(&format!("port = {}\n", address.port()))
    });
    assert_echo(&mut hosts.client());
}

#[test]
fn a_host_is_found_by_the_service_and_looked_up_again_when_it_has_moved() {
    let server = DnsServer::start();
    let service = "_parlour-bridge._tcp.example";
    let mut hosts =
        Hosts::start_without_peers(&["a", "c"], |_| server.configuration(&format!("service = \"{service}\"\n")));
    let down = hosts.wait_for_status("b", |status| status.hosts.iter().all(|host| host.problem.is_some()));
    let problem = down.hosts[0].problem.as_ref().unwrap();
    assert!(problem.starts_with(&format!("no SRV record of {service} was found: ")), "{problem}");

    // An address that nobody has is tried in vain.
    let (a, nobody) = (hosts.address("a"), SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
    server.set("a.example", A, vec![address_record(a), address_record(nobody)]);
    server.set(service, SRV, vec![service_record(2, a.port(), "a.example"), service_record(1, 1, "a.example")]);
    let mut client = hosts.client();
    assert_echo(&mut client);
    let status = hosts.wait_for_status("b", |_| true);
    let missing = status.hosts.iter().find(|host| host.host == "c.example").unwrap();
    let problem = missing.problem.as_ref().unwrap();
    assert!(missing.state == HostState::Down && problem.contains("no SRV record"), "{problem}");

    hosts.kill("bridge a");
    assert_lost(&client.recv_timeout(crate::PATIENCE).unwrap_err());
    let moved = own_address();
    hosts.reconfigure_stopped("a", &a.to_string(), &moved.to_string());
    hosts.start_bridge("a");
    server.set("a.example", A, vec![address_record(moved)]);
    server.set(service, SRV, vec![service_record(1, moved.port(), "a.example")]);
    assert_echo(&mut hosts.client());
}

/// The server sends the bridge to another host of the realm.
#[test]
fn a_dns_server_that_lies_leads_to_no_other_host() {
    let server = DnsServer::start();
    let hosts = Hosts::start_without_peers(&["a", "c"], |hosts| {
        // Both names lead to c, whose certificate is for itself alone.
        let c = hosts.address("c");
        server.set("a.example", A, vec![address_record(c)]);
        server.set("c.example", A, vec![address_record(c)]);
        server.configuration(&format!("port = {}\n", c.port()))
    });
    for _ in 0..3 {
        let mut client = hosts.client();
        client.send("who").unwrap();
        let server = client.recv_timeout(crate::PATIENCE).unwrap().unwrap();
        assert_eq!(&server[..], hosts.path("c").join("wc").as_os_str().as_encoded_bytes());
    }
    let lied = hosts.wait_for_status("b", |status| status.hosts[0].problem.is_some());
    assert_eq!((lied.hosts[0].host.as_str(), lied.hosts[0].state), ("a.example", HostState::Down));
}
