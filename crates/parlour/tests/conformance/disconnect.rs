use parlour::ErrorKind;

use super::NO_SERVER;
use super::api::{Connection, Setting, settings};
use super::link::{assert_disconnected, each_way};
use crate::support::{Base, Child, data, trials};

const CHILDREN: &str = "both sides are child processes, which use the blocking API";

trials! {
    for setting in settings() =>
        closing_ends_both_directions_after_the_last_message,
        closing_with_messages_unread_loses_nothing_that_was_sent,
        sending_to_a_disconnected_peer_raises_no_signal
            unless setting.is_not_blocking(CHILDREN).or(setting.is_a_pair(NO_SERVER));
}

fn closing_ends_both_directions_after_the_last_message(setting: Setting) {
    let closes: [fn(Connection); 2] = [|end| end.close().unwrap(), drop];
    for close in closes {
        each_way(setting, |mut first, mut second| {
            for number in 0..10 {
                first.send(data::message(number, 100)).unwrap();
            }
            close(first);
            for number in 0..10 {
                data::check(&second.recv().unwrap().expect("a message"), number, 100);
            }
            assert_eq!(second.recv().unwrap(), None);
            assert_eq!(second.recv().unwrap(), None, "end of file is permanent");
            assert!(second.has_message(), "recv would return end of file without blocking");
            assert_disconnected(|| second.send(b"too late"));
        });
    }
}

/// Only the unread messages of the other side are lost. A transport that detects this reports `Disconnected`; the
/// others report end of file.
fn closing_with_messages_unread_loses_nothing_that_was_sent(setting: Setting) {
    each_way(setting, |mut first, mut second| {
        second.send(b"never read").unwrap();
        second.send(data::message(7, 10_000)).unwrap();
        first.send(b"one").unwrap();
        first.send(b"two").unwrap();
        first.close().unwrap();
        assert_eq!(second.recv().unwrap().expect("a message"), b"one");
        assert_eq!(second.recv().unwrap().expect("a message"), b"two");
        for _ in 0..2 {
            match second.recv() {
                Ok(message) => assert_eq!(message, None),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}"),
            }
        }
        assert_disconnected(|| second.send(b"too late"));
    });
}

/// The processes use the default disposition of SIGPIPE, which terminates them, as in programs not written in Rust.
fn sending_to_a_disconnected_peer_raises_no_signal(setting: Setting) {
    let base = Base::new();
    let address = setting.address(&base, "room");
    let mut server = Child::spawn("server", &[&address]);
    server.expect("ready");
    for who_sends in ["client", "server"] {
        let mut client = Child::spawn("client", &[&address]);
        client.say("connect");
        assert!(server.ask("accept").starts_with("accepted "));
        assert!(client.line().starts_with("connected "));
        let (sender, goer) =
            if who_sends == "client" { (&mut client, &mut server) } else { (&mut server, &mut client) };
        assert_eq!(sender.ask("sigpipe-kills"), "done");
        assert_eq!(goer.ask("close"), "done");
        assert_eq!(sender.ask("recv"), "end");
        for length in ["0", "1", "100000"] {
            for command in ["send", "try-send", "feed"] {
                let answer = sender.ask(&format!("{command} {length}"));
                assert!(answer.starts_with("error disconnected: ") || answer == "fed", "{who_sends}: {answer}");
            }
            let answer = sender.ask("flush");
            assert!(answer.starts_with("error disconnected: "), "{who_sends}: {answer}");
        }
        assert_eq!(sender.ask("sigpipe"), "kills", "the disposition of SIGPIPE is unchanged");
    }
    server.finish();
}
