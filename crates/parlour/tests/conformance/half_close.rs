use parlour::ErrorKind;

use super::api::{Setting, TrySendError, settings};
use super::link::each_way;
use crate::support::wait::Sleeper;
use crate::support::{data, trials};

trials! {
    for setting in settings() =>
        finish_ends_one_direction_and_leaves_the_other,
        finish_wakes_a_peer_that_waits;
}

fn finish_ends_one_direction_and_leaves_the_other(setting: Setting) {
    each_way(setting, |mut first, mut second| {
        first.send(data::message(1, 1000)).unwrap();
        first.feed(b"fed").unwrap();
        first.finish().unwrap();
        first.finish().unwrap();
        assert_eq!(first.send(b"too late").unwrap_err().kind(), ErrorKind::Disconnected);
        assert_eq!(first.feed(b"too late").unwrap_err().kind(), ErrorKind::Disconnected);
        assert!(matches!(first.try_send(b"too late"), Err(TrySendError::Failed(_))));

        data::check(&second.recv().unwrap().expect("the message that was sent before finish"), 1, 1000);
        assert_eq!(second.recv().unwrap().expect("the fed message"), b"fed");
        assert_eq!(second.recv().unwrap(), None);
        assert_eq!(second.recv().unwrap(), None, "end of file is permanent");

        for number in 0..100 {
            second.send(data::message(number, 500)).unwrap();
            data::check(&first.recv().unwrap().expect("a message"), number, 500);
        }
        second.finish().unwrap();
        assert_eq!(first.recv().unwrap(), None);
        first.close().unwrap();
        second.close().unwrap();
    });
}

fn finish_wakes_a_peer_that_waits(setting: Setting) {
    each_way(setting, |mut first, mut second| {
        let sleeper = Sleeper::start(move || (second.recv().unwrap(), second));
        first.finish().unwrap();
        let ((end, mut second), _) = sleeper.result();
        assert_eq!(end, None);
        second.send(b"still here").unwrap();
        assert_eq!(first.recv().unwrap().expect("a message"), b"still here");
    });
}
