use std::thread;

use super::api::{Connection, Setting, echo, settings};
use super::link::ShutDownAtEnd;
use crate::support::{Base, Child, Role, data, roles, trials};

trials! {
    for setting in settings() =>
        many_clients_at_once_each_get_their_own_replies;
}

const THREADS: usize = 32;
const PROCESSES: usize = 4;
const MESSAGES: usize = 100;

/// `chatter ADDRESS SEED`: prints `done` when each of its messages was echoed.
pub const CHATTER: Role = Role {
    name: "chatter",
    play: |arguments| {
        let connection = parlour::Connection::connect(&arguments[0]).unwrap();
        chat(Connection::Blocking(connection), arguments[1].parse().unwrap());
        println!("done");
        roles::until_end_of_input();
    },
};

fn many_clients_at_once_each_get_their_own_replies(setting: Setting) {
    let base = Base::new();
    let address = setting.address(&base, "room");
    let server = setting.bind(&address).unwrap();
    thread::scope(|scope| {
        let _end = ShutDownAtEnd(server.shutdown_handle());
        let serving = scope.spawn(|| {
            let mut served = 0;
            for connection in server.incoming() {
                let connection = connection.unwrap();
                scope.spawn(move || echo(connection));
                served += 1;
            }
            served
        });
        let mut processes: Vec<Child> = (0..PROCESSES)
            .map(|number| Child::spawn("chatter", &[&address, &(THREADS + number).to_string()]))
            .collect();
        let threads: Vec<_> = (0..THREADS)
            .map(|seed| {
                scope.spawn({
                    let address = &address;
                    move || chat(setting.connect(address).unwrap(), seed)
                })
            })
            .collect();
        let mut results: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
        for process in &mut processes {
            process.expect("done");
            process.finish();
        }
        server.shutdown_handle().shutdown();
        assert_eq!(serving.join().unwrap(), THREADS + PROCESSES);
        results.retain(Result::is_err);
        assert!(results.is_empty(), "{} of the clients failed", results.len());
    });
    assert_eq!(server.stats().refused, 0);
}

/// Sends messages that no other client sends, with several in flight, and checks that each is echoed.
fn chat(mut connection: Connection, seed: usize) {
    const AHEAD: usize = 3;
    let message = |number| (seed * MESSAGES + number, (seed * 31 + number * 257) % 9_000);
    for number in 0..MESSAGES + AHEAD {
        if number < MESSAGES {
            let (seed, length) = message(number);
            connection.send(data::message(seed, length)).unwrap();
        }
        if number >= AHEAD {
            let (seed, length) = message(number - AHEAD);
            data::check(&connection.recv().unwrap().expect("a reply"), seed, length);
        }
    }
    connection.close().unwrap();
}
