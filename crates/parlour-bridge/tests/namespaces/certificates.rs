//! Certificates that are wrong, that expire, and that are read again.

use std::fs;
use std::path::Path;
use std::time::Duration;

use parlour::ConnectOptions;
use parlour_bridge::files::certificates;
use parlour_bridge::identity::Host;

use crate::hosts::Hosts;
use crate::talk::assert_talk;
use crate::{LONG, PATIENCE, assert_echo, inside, start, wait_for_link};

fn host(name: &str) -> Host {
    Host::parse(name).unwrap()
}

/// Replaces the files of the realm for a host by those of a new authority, in the directory `realm` of the hosts.
fn replace_realm(realm: &Path, host_name: &str) {
    for file in ["ca.key", "ca.pem", &format!("{host_name}.pem"), &format!("{host_name}.key")] {
        fs::remove_file(realm.join(file)).unwrap();
    }
    certificates::init(realm).unwrap();
    certificates::host(realm, &host(host_name), certificates::HOST_VALID_DEFAULT).unwrap();
}

fn assert_nobody_serves(hosts: &Hosts) {
    let address = hosts.path("b").join("wc");
    let options = ConnectOptions::new().wait_for_server(Duration::from_millis(300));
    assert!(options.connect(address.to_str().unwrap()).is_err());
}

#[test]
fn a_host_of_another_realm_is_refused_until_it_has_a_certificate_of_this_one() {
    inside("certificates::a_host_of_another_realm_is_refused_until_it_has_a_certificate_of_this_one", || {
        let (_network, mut hosts) = start(&["a"], LONG);
        assert_talk(&hosts);
        hosts.kill("bridge b");
        let (realm, kept) = (hosts.path("realm"), hosts.path("kept"));
        fs::create_dir(&kept).unwrap();
        let files = ["ca.pem", "b.example.pem", "b.example.key"];
        let copy = |from: &Path, to: &Path| {
            for file in files {
                fs::copy(from.join(file), to.join(file)).unwrap();
            }
        };
        copy(&realm, &kept);
        replace_realm(&realm, "b.example");
        hosts.start_bridge("b");
        // Both authorities have the same subject.
        hosts.wait_for_line("b", "a.example cannot be reached: 10.77.0.2:7477: invalid peer certificate: BadSignature");
        assert_nobody_serves(&hosts);
        copy(&kept, &realm);
        hosts.read_again("b");
        assert_talk(&hosts);
    });
}

#[test]
fn the_address_of_another_host_leads_to_nobody() {
    inside("certificates::the_address_of_another_host_leads_to_nobody", || {
        let (_network, mut hosts) = start(&["a", "c"], LONG);
        hosts.wait_for_status("b", |status| status.imports[0].exporters.len() == 2);
        hosts.kill("bridge b");
        hosts.reconfigure_stopped("b", "\"a.example\", \"c.example\"", "\"a.example\"");
        hosts.reconfigure_stopped("b", "\"a.example\" = \"10.77.0.2:7477\"", "\"a.example\" = \"10.77.1.2:7477\"");
        hosts.start_bridge("b");
        hosts.wait_for_line(
            "b",
            "10.77.1.2:7477: invalid peer certificate: certificate not valid for name \"a.example\"",
        );
        assert_nobody_serves(&hosts);
        hosts.reconfigure("b", "\"a.example\" = \"10.77.1.2:7477\"", "\"a.example\" = \"10.77.0.2:7477\"");
        assert_talk(&hosts);
    });
}

#[test]
fn after_its_certificate_has_expired_a_host_gets_no_conversation_until_it_has_a_new_one() {
    inside(
        "certificates::after_its_certificate_has_expired_a_host_gets_no_conversation_until_it_has_a_new_one",
        || {
            let (_network, mut hosts) = start(&["a"], LONG);
            // On a slow machine, a certificate expires before anybody has used it.
            let mut open = (2..7).find_map(|exponent| with_certificate_for(&mut hosts, 1 << exponent)).unwrap();
            let address = hosts.path("b").join("wc");
            let connected = || {
                let mut client =
                    ConnectOptions::new().wait_for_server(PATIENCE).connect(address.to_str().unwrap()).unwrap();
                client.send("hello").is_ok() && client.recv_timeout(PATIENCE).is_ok_and(|message| message.is_some())
            };
            crate::hosts::wait_for(|| (!connected()).then_some(()));
            // That which is open goes on, with its link.
            assert_echo(&mut open);
            hosts.renew("a");
            hosts.read_again("a");
            hosts.wait_for_line("a", "the configuration and the certificates were read again");
            assert_talk(&hosts);
            assert_echo(&mut open);
        },
    );
}

/// Restarts the bridge of `a` with a certificate that is valid for this number of seconds. Returns a conversation,
/// unless the time was too short.
fn with_certificate_for(hosts: &mut Hosts, seconds: u64) -> Option<parlour::Connection> {
    hosts.kill("bridge a");
    hosts.wait_until_nobody_holds_the_name();
    let realm = hosts.path("realm");
    for file in ["a.example.pem", "a.example.key"] {
        fs::remove_file(realm.join(file)).unwrap();
    }
    certificates::host(&realm, &host("a.example"), Duration::from_secs(seconds)).unwrap();
    hosts.start_bridge("a");
    let address = hosts.path("b").join("wc");
    let options = ConnectOptions::new().wait_for_server(Duration::from_secs(seconds));
    let mut client = options.connect(address.to_str().unwrap()).ok()?;
    client.send("hello").ok()?;
    client.recv_timeout(PATIENCE).ok()??;
    wait_for_link(hosts);
    Some(client)
}
