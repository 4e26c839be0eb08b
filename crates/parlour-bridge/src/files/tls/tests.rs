//! Handshakes in memory.

use std::io::Read;
use std::time::{Duration, SystemTime};

use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConnection, Connection, ServerConnection};

use super::*;
use crate::files::certificates::{self, HOST_VALID_DEFAULT};

/// A realm in a directory.
struct Realm(tempfile::TempDir);

impl Realm {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        certificates::init(directory.path()).unwrap();
        Self(directory)
    }

    /// Returns the files of a new host.
    fn files(&self, host: &str) -> TlsFiles {
        let created = certificates::host(self.0.path(), &host_named(host), HOST_VALID_DEFAULT).unwrap();
        TlsFiles { authority: self.0.path().join("ca.pem"), certificate: created.certificate, key: created.key }
    }

    fn tls(&self, host: &str) -> Tls {
        Tls::read(&self.files(host)).unwrap()
    }
}

fn host_named(text: &str) -> Host {
    Host::parse(text).unwrap()
}

/// A handshake with the host of this name. Returns the host that each side sees, or the first error of each.
fn shake(client: Arc<ClientConfig>, server: Arc<ServerConfig>, name: &str) -> [Result<Host, String>; 2] {
    let name = server_name(&host_named(name)).unwrap();
    let mut sides: [Connection; 2] =
        [ClientConnection::new(client, name).unwrap().into(), ServerConnection::new(server).unwrap().into()];
    let mut errors = [None, None];
    for _ in 0..8 {
        for from in 0..2 {
            let mut bytes = Vec::new();
            while sides[from].wants_write() {
                sides[from].write_tls(&mut bytes).unwrap();
            }
            let to = &mut sides[1 - from];
            let mut bytes = &bytes[..];
            while !bytes.is_empty() {
                to.read_tls(&mut bytes).unwrap();
                if let Err(error) = to.process_new_packets() {
                    errors[1 - from].get_or_insert(error.to_string());
                    break;
                }
            }
        }
    }
    let [client, server] = errors;
    let result = |error: Option<String>, side: &Connection| match error {
        Some(error) => Err(error),
        None if side.is_handshaking() => Err("not complete".to_owned()),
        None => peer(side),
    };
    [result(client, &sides[0]), result(server, &sides[1])]
}

#[test]
fn hosts_of_one_realm_know_each_other() {
    let realm = Realm::new();
    let (a, b) = (realm.tls("a.example"), realm.tls("b.example"));
    let seen = shake(a.client(), b.server(), "b.example");
    assert_eq!(seen, [Ok(host_named("b.example")), Ok(host_named("a.example"))]);
}

#[test]
fn a_host_under_another_name_is_refused() {
    let realm = Realm::new();
    let (a, b) = (realm.tls("a.example"), realm.tls("b.example"));
    let [client, _] = shake(a.client(), b.server(), "c.example");
    assert!(client.as_ref().unwrap_err().contains("not valid for name"), "{client:?}");
}

#[test]
fn a_host_of_another_realm_is_refused_in_both_roles() {
    let (realm, other) = (Realm::new(), Realm::new());
    let (a, b) = (realm.tls("a.example"), other.tls("b.example"));
    let [client, _] = shake(a.client(), b.server(), "b.example");
    assert!(client.as_ref().unwrap_err().contains("invalid peer certificate"), "{client:?}");
    // The client believes the server, and the server does not believe the client.
    let mut client = (*b.client()).clone();
    client.dangerous().set_certificate_verifier(
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots(&realm)), Arc::new(ring::default_provider()))
            .build()
            .unwrap(),
    );
    let [_, server] = shake(Arc::new(client), a.server(), "a.example");
    assert!(server.as_ref().unwrap_err().contains("invalid peer certificate"), "{server:?}");
}

fn roots(realm: &Realm) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let text = fs::read(realm.0.path().join("ca.pem")).unwrap();
    for authority in super::certificates(&text).unwrap() {
        roots.add(authority).unwrap();
    }
    roots
}

#[test]
fn a_client_without_a_certificate_is_refused() {
    let realm = Realm::new();
    let a = realm.tls("a.example");
    let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots(&realm))
        .with_no_client_auth();
    let [_, server] = shake(Arc::new(client), a.server(), "a.example");
    assert!(server.as_ref().unwrap_err().contains("no certificates"), "{server:?}");
}

#[derive(Debug)]
struct InTwoYears;

impl TimeProvider for InTwoYears {
    fn current_time(&self) -> Option<UnixTime> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        Some(UnixTime::since_unix_epoch(now + Duration::from_secs(2 * 366 * 24 * 3600)))
    }
}

#[test]
fn a_certificate_that_has_expired_is_refused_by_both_sides() {
    let realm = Realm::new();
    let (a, b) = (realm.tls("a.example"), realm.tls("b.example"));
    let mut client = (*a.client()).clone();
    client.time_provider = Arc::new(InTwoYears);
    let [client, _] = shake(Arc::new(client), b.server(), "b.example");
    assert!(client.as_ref().unwrap_err().contains("expired"), "{client:?}");
    let mut server = (*b.server()).clone();
    server.time_provider = Arc::new(InTwoYears);
    let [_, server] = shake(a.client(), Arc::new(server), "b.example");
    assert!(server.as_ref().unwrap_err().contains("expired"), "{server:?}");
}

#[test]
fn a_peer_that_speaks_another_protocol_is_refused() {
    let realm = Realm::new();
    let (a, b) = (realm.tls("a.example"), realm.tls("b.example"));
    let mut client = (*a.client()).clone();
    client.alpn_protocols = vec![b"http/1.1".to_vec()];
    let [_, server] = shake(Arc::new(client.clone()), b.server(), "b.example");
    assert!(server.is_err());
    client.alpn_protocols = Vec::new();
    let [_, server] = shake(Arc::new(client), b.server(), "b.example");
    assert!(server.as_ref().unwrap_err().contains("has not asked for the protocol"), "{server:?}");
}

#[test]
fn a_certificate_is_for_one_host() {
    let host = |names: &[&str]| {
        let key = rcgen::KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        host_of(rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap().der())
    };
    assert_eq!(host(&["a.example"]), Ok(host_named("a.example")));
    assert_eq!(host(&["a.example", "192.0.2.1"]), Ok(host_named("a.example")));
    assert!(host(&["a.example", "b.example"]).unwrap_err().contains("2 DNS names"));
    assert!(host(&["192.0.2.1"]).unwrap_err().contains("no DNS name"));
    assert!(host(&["*.example"]).is_err());
    assert!(host_of(&CertificateDer::from_slice(b"junk")).unwrap_err().contains("malformed"));
}

#[test]
fn an_end_without_close_notify_is_told_apart_from_a_clean_one() {
    let realm = Realm::new();
    let (a, b) = (realm.tls("a.example"), realm.tls("b.example"));
    for is_clean in [true, false] {
        let name = server_name(&host_named("b.example")).unwrap();
        let mut client = ClientConnection::new(a.client(), name).unwrap();
        let mut server = ServerConnection::new(b.server()).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let mut bytes = Vec::new();
            client.write_tls(&mut bytes).unwrap();
            server.read_tls(&mut &bytes[..]).unwrap();
            server.process_new_packets().unwrap();
            let mut bytes = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut bytes).unwrap();
            }
            client.read_tls(&mut &bytes[..]).unwrap();
            client.process_new_packets().unwrap();
        }
        if is_clean {
            client.send_close_notify();
            let mut bytes = Vec::new();
            client.write_tls(&mut bytes).unwrap();
            server.read_tls(&mut &bytes[..]).unwrap();
            server.process_new_packets().unwrap();
        } else {
            server.read_tls(&mut &b""[..]).unwrap();
            server.process_new_packets().unwrap();
        }
        let end = server.reader().read(&mut [0; 8]).map_err(|error| error.kind());
        assert_eq!(end, if is_clean { Ok(0) } else { Err(std::io::ErrorKind::UnexpectedEof) });
    }
}

#[test]
fn files_that_do_not_belong_together_are_refused() {
    let realm = Realm::new();
    let (a, b) = (realm.files("a.example"), realm.files("b.example"));
    let foreign = TlsFiles { key: b.key, ..a.clone() };
    assert!(Tls::read(&foreign).unwrap_err().remedy.contains("check"));
    let none = TlsFiles { authority: "/nowhere/ca.pem".into(), ..a };
    assert!(Tls::read(&none).unwrap_err().problem.contains("cannot be read"));
}
