use std::thread;

use super::api::{Connection, Setting, echo, settings};
use crate::support::{Base, Child, data, trials};

trials! {
    for setting in settings() =>
        every_message_comes_back,
        every_message_comes_back_from_another_process;
}

/// Lengths around the boundaries of frames, pipes, pages and buffers.
const LENGTHS: [usize; 17] =
    [0, 1, 3, 4, 5, 255, 256, 4095, 4096, 4097, 65_531, 65_532, 65_533, 65_535, 65_536, 65_537, 300_000];

fn every_message_comes_back(setting: Setting) {
    let base = Base::new();
    let address = setting.address(&base, "echo");
    let server = setting.bind(&address).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| echo(server.accept().unwrap()));
        converse(setting.connect(&address).unwrap());
    });
}

fn every_message_comes_back_from_another_process(setting: Setting) {
    let base = Base::new();
    let address = setting.address(&base, "echo");
    let mut server = Child::spawn("echo-server", &[&address]);
    server.expect("ready");
    converse(setting.connect(&address).unwrap());
    server.finish();
}

fn converse(mut connection: Connection) {
    for round in 0..20 {
        for length in LENGTHS {
            connection.send(data::message(round, length)).unwrap();
            data::check(&connection.recv().unwrap().expect("a reply"), round, length);
        }
    }
    connection.close().unwrap();
}
