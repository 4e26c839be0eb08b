use super::api::{Setting, settings};
use super::link::each_way;
use crate::support::trials;

trials! {
    for setting in settings() =>
        an_empty_message_is_not_the_end;
}

fn an_empty_message_is_not_the_end(setting: Setting) {
    each_way(setting, |mut sender, mut receiver| {
        sender.send(b"").unwrap();
        sender.send(b"between").unwrap();
        sender.feed(b"").unwrap();
        sender.feed(b"").unwrap();
        sender.try_send(b"").unwrap();
        sender.close().unwrap();
        for expected in [&b""[..], b"between", b"", b"", b""] {
            assert_eq!(receiver.recv().unwrap().expect("a message"), expected);
        }
        assert_eq!(receiver.recv().unwrap(), None);
        assert_eq!(receiver.recv().unwrap(), None, "end of file is permanent");
    });
}
