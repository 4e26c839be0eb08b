use parlour::ErrorKind;

use super::api::{Setting, TryRecvError, settings};
use super::link::{CHILD_ROLES, WithChild};
use crate::support::wait::Sleeper;
use crate::support::{data, trials};

trials! {
    for setting in settings() =>
        a_message_torn_by_the_death_of_the_peer_is_truncated,
        a_message_torn_by_the_death_of_the_peer_wakes_its_receiver;
}

/// The child sends without blocking until the channel is full, so that it buffers the rest of a message. Then it is
/// killed.
fn a_message_torn_by_the_death_of_the_peer_is_truncated(setting: Setting) {
    let length = 100_003;
    for role in CHILD_ROLES {
        let WithChild { mut child, mut connection, room: _room } = WithChild::new(setting, role);
        let filled = child.ask(&format!("fill {length}"));
        let begun: usize = filled.strip_prefix("filled ").expect(&filled).parse().unwrap();
        child.kill();

        let mut whole = 0;
        let torn = loop {
            match connection.recv() {
                Ok(Some(message)) => data::check(&message, whole, length),
                Ok(None) => break None,
                Err(error) => break Some(error.kind()),
            }
            whole += 1;
        };
        match torn {
            // A kernel that preserves message boundaries takes each message whole.
            None => assert_eq!((whole, connection.capabilities().boundaries), (begun, true), "the {role} died"),
            Some(kind) => {
                assert_eq!((kind, whole), (ErrorKind::Truncated, begun - 1), "the {role} died");
                assert!(connection.has_message(), "the error is permanent, and recv would not block");
                let again = connection.try_recv();
                assert!(
                    matches!(&again, Err(TryRecvError::Failed(error)) if error.kind() == ErrorKind::Truncated),
                    "{again:?}",
                );
            }
        }
    }
}

/// This side sleeps in `recv` when the child is killed, and part of the message has already arrived.
fn a_message_torn_by_the_death_of_the_peer_wakes_its_receiver(setting: Setting) {
    let length = 4 << 20;
    for role in CHILD_ROLES {
        let WithChild { mut child, mut connection, room: _room } = WithChild::new(setting, role);
        if child.ask(&format!("try-send {length}")) != "sent" || connection.capabilities().boundaries {
            continue;
        }
        let sleeper = Sleeper::start(move || connection.recv().unwrap_err().kind());
        child.kill();
        assert_eq!(sleeper.result().0, ErrorKind::Truncated, "the {role} died");
    }
}
