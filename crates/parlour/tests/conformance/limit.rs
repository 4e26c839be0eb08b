use std::io::IoSlice;
use std::thread;
use std::time::Duration;

use parlour::{ConnectOptions, ErrorKind, Payload, ServerOptions};

use super::api::{Connection, Setting, TryRecvError, TrySendError, settings};
use super::link::{self, directions};
use super::{ENDS, ONE_LIMIT};
use crate::support::{data, trials};

trials! {
    for setting in settings() =>
        a_message_of_the_limit_passes_and_one_byte_more_is_refused_with_nothing_sent,
        the_limit_is_16_mib_by_default,
        a_receiver_with_a_lower_limit_fails_permanently
            unless setting.is_a_hub(ENDS).or(setting.is_a_pair(ONE_LIMIT));
}

fn a_message_of_the_limit_passes_and_one_byte_more_is_refused_with_nothing_sent(setting: Setting) {
    for limit in [0, 1, 1000, 65_532, 65_536, 100_000] {
        let server = ServerOptions::new().message_max(limit);
        let (client, served) = link::ends_with(setting, &server, &ConnectOptions::new().message_max(limit));
        refuses_one_byte_more(client, served, limit);
    }
}

fn the_limit_is_16_mib_by_default(setting: Setting) {
    let (client, served) = link::ends(setting);
    refuses_one_byte_more(client, served, 16 << 20);
}

fn refuses_one_byte_more(mut client: Connection, mut served: Connection, limit: usize) {
    let too_long = data::message(0, limit + 1);
    for end in [&mut client, &mut served] {
        assert_eq!(end.capabilities().message_max, limit);
        let parts = [IoSlice::new(&too_long[..limit]), IoSlice::new(&too_long[limit..])];
        assert_eq!(end.send(too_long).unwrap_err().kind(), ErrorKind::MessageTooLong);
        assert_eq!(end.send(Payload::vectored(&parts)).unwrap_err().kind(), ErrorKind::MessageTooLong);
        assert_eq!(end.send_timeout(too_long, Duration::ZERO).unwrap_err().kind(), ErrorKind::MessageTooLong);
        assert_eq!(end.feed(too_long).unwrap_err().kind(), ErrorKind::MessageTooLong);
        let refused = end.try_send(too_long);
        assert!(
            matches!(&refused, Err(TrySendError::Failed(error)) if error.kind() == ErrorKind::MessageTooLong),
            "{refused:?}",
        );
    }
    // The refused messages left no trace: the first message that each side receives was sent afterwards.
    thread::scope(|scope| {
        for (mut sender, mut receiver) in directions(client, served) {
            scope.spawn(move || sender.send(data::message(1, limit)).unwrap());
            scope.spawn(move || {
                data::check(&receiver.recv().unwrap().expect("a message"), 1, limit);
                assert_eq!(receiver.recv().unwrap(), None);
            });
        }
    });
}

fn a_receiver_with_a_lower_limit_fails_permanently(setting: Setting) {
    let low = 1000;
    for limits in [(low, 100_000), (100_000, low)] {
        let options = (ServerOptions::new().message_max(limits.0), ConnectOptions::new().message_max(limits.1));
        let (client, served) = link::ends_with(setting, &options.0, &options.1);
        let (mut sender, mut receiver) = if limits.0 == low { (client, served) } else { (served, client) };
        sender.send(data::message(1, low)).unwrap();
        sender.send(data::message(2, low + 1)).unwrap();
        sender.send(data::message(3, 3)).unwrap();

        data::check(&receiver.recv().unwrap().expect("the message before the long one"), 1, low);
        for _ in 0..3 {
            assert_eq!(receiver.recv().unwrap_err().kind(), ErrorKind::MessageTooLong);
            let failed = receiver.try_recv();
            assert!(
                matches!(&failed, Err(TryRecvError::Failed(error)) if error.kind() == ErrorKind::MessageTooLong),
                "{failed:?}",
            );
            assert!(receiver.has_message(), "recv would return the error without blocking");
        }
        receiver.send(b"the other direction works").unwrap();
        assert_eq!(sender.recv().unwrap().expect("a message"), b"the other direction works");
    }
}
