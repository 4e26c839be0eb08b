//! Connecting to one name again and again.

use std::thread;

use parlour::ConnectOptions;

use super::api::{Setting, echo, settings};
use crate::support::{Base, data, trials};

trials! {
    for setting in settings() =>
        a_connector_reaches_one_server_after_another;
}

fn a_connector_reaches_one_server_after_another(setting: Setting) {
    let base = Base::new();
    let address = setting.address(&base, "again");
    let connector = ConnectOptions::new().connector(&address).unwrap();
    for round in 0..3 {
        let server = setting.bind(&address).unwrap();
        for length in [0, 5, 70_000] {
            thread::scope(|scope| {
                scope.spawn(|| echo(server.accept().unwrap()));
                let mut connection = setting.connect_through(&connector).unwrap();
                connection.send(data::message(round, length)).unwrap();
                data::check(&connection.recv().unwrap().expect("a reply"), round, length);
                connection.close().unwrap();
            });
        }
    }
}
