use std::thread;

use parlour::{ConnectOptions, ErrorKind, Origin, ServerOptions};

use super::api::{Setting, settings};
use crate::support::{Base, DEADLINE, eventually, trials};

trials! {
    for setting in settings() =>
        a_server_sees_the_origin_of_a_client_that_has_one,
        a_policy_tells_hosts_apart,
        an_origin_that_cannot_be_shown_is_an_error_of_connecting;
}

fn from(host: &str) -> ConnectOptions {
    ConnectOptions::new().origin(Origin::new(host).with_uid(1000).with_pid(4711).with_program("wc\n"))
}

fn a_server_sees_the_origin_of_a_client_that_has_one(setting: Setting) {
    let base = Base::new();
    let address = setting.address(&base, "room");
    let server = setting.bind(&address).unwrap();
    for options in [ConnectOptions::new(), from("a.example"), ConnectOptions::new()] {
        let (served, client) = thread::scope(|scope| {
            let client = scope.spawn(|| setting.connect_with(&options, &address).unwrap());
            (server.accept_timeout(DEADLINE).unwrap(), client.join().unwrap())
        });
        let shown = served.peer().origin().map(ToString::to_string);
        let expected = format!("{options:?}")
            .contains("a.example")
            .then(|| "host a.example (claims uid 1000, pid 4711, program wc\u{fffd})".to_owned());
        assert_eq!(shown, expected);
        assert_eq!(served.peer().uid(), Some(rustix::process::geteuid().as_raw()), "the user is that of the bridge");
        assert_eq!(client.peer().origin(), None);
    }
    assert!(base.files().iter().all(|file| !file.ends_with(".via")), "{:?}", base.files());
    server.close().unwrap();
    assert_eq!(base.files(), [""; 0]);
}

fn a_policy_tells_hosts_apart(setting: Setting) {
    let base = Base::new();
    let address = setting.address(&base, "room");
    let options = ServerOptions::new().allow(|peer| peer.origin().is_none_or(|origin| origin.host() == "a.example"));
    let server = setting.bind_with(&options, &address).unwrap();
    thread::scope(|scope| {
        let accepting = scope.spawn(|| server.accept_timeout(DEADLINE).unwrap());
        match setting.connect_with(&from("b.example"), &address) {
            Err(error) => assert_eq!(error.kind(), ErrorKind::Refused, "{error}"),
            Ok(mut connection) => assert_eq!(connection.recv_timeout(DEADLINE).unwrap_err().kind(), ErrorKind::Refused),
        }
        eventually("the refusal is counted", || server.stats().refused == 1);
        let last = server.stats().last_refusal.unwrap().to_string();
        assert!(last.contains("for host b.example (claims uid 1000"), "{last}");
        let client = setting.connect_with(&from("a.example"), &address).unwrap();
        let served = accepting.join().unwrap();
        assert_eq!(served.peer().origin().unwrap().host(), "a.example");
        drop(client);
    });
    server.close().unwrap();
    assert_eq!(base.files(), [""; 0]);
}

fn an_origin_that_cannot_be_shown_is_an_error_of_connecting(setting: Setting) {
    let base = Base::new();
    let address = setting.address(&base, "room");
    let server = setting.bind(&address).unwrap();
    for options in [from(""), from("a b"), from("a\n"), from(&"a".repeat(254)), from("a").client_file(false)] {
        let error = setting.connect_with(&options, &address).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOption, "{error}");
    }
    server.close().unwrap();
    let error = setting.connect_with(&from("a"), &address).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoServer, "{error}");
    assert_eq!(base.files(), [""; 0]);
}
