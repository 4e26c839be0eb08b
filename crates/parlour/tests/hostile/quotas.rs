//! Tests of one user that takes all connections that it may have, and tries to take one more.

use parlour::{ServerOptions, Transport};

use crate::by_hand::Driver;
use crate::by_hand::place::chmod;
use crate::by_hand::user::{new_uid, no_other_users};
use crate::support::{Base, Child, eventually, trials};

trials! {
    for transport in [Transport::Shm, Transport::Packet, Transport::Unix] =>
        a_user_at_its_connection_limit_is_refused_and_another_is_served unless no_other_users();
}

const QUOTA: usize = 3;

fn reach(address: &str, uid: u32) -> Child {
    Child::spawn("reach", &[format!("address={address}"), format!("uid={uid}"), "timeout_ms=500".to_owned()])
}

fn a_user_at_its_connection_limit_is_refused_and_another_is_served(transport: Transport) {
    let base = Base::new();
    chmod(base.path(), 0o755);
    let address = base.address(transport, "shop");
    let options = ServerOptions::new().mode(0o666).connections_per_uid_max(QUOTA).allow(|_| true);
    let driver = Driver::new(options.bind(&address).unwrap());
    let (greedy, modest) = (new_uid(), new_uid());
    let mut inside = Vec::new();
    for _ in 0..QUOTA {
        let mut client = reach(&address, greedy);
        let said = client.line();
        assert!(said.starts_with("connected"), "{said}");
        inside.push((client, driver.client()));
    }
    let mut surplus = reach(&address, greedy);
    let said = surplus.line();
    if said.starts_with("connected") {
        // Where connecting does not involve the server, the first exchange reports the refusal.
        let said = surplus.ask("me too");
        assert!(said.starts_with("error busy"), "{said}");
    } else {
        assert!(said.starts_with("error busy"), "{said}");
    }
    eventually("the refusal is counted", || driver.server.stats().refused > 0);
    let reason = driver.server.stats().last_refusal.unwrap().to_string();
    assert!(reason.contains(&greedy.to_string()), "{reason}");
    let mut other = reach(&address, modest);
    let said = other.line();
    assert!(said.starts_with("connected"), "{said}");
    assert_eq!(driver.client().peer().uid(), Some(modest));
    // A connection that has ended makes room for another.
    inside.pop();
    let mut again = reach(&address, greedy);
    let said = again.line();
    assert!(said.starts_with("connected"), "{said}");
    driver.client();
}
