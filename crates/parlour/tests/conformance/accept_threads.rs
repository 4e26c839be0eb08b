use std::thread;

use parlour::ErrorKind;

use super::api::{Setting, settings};
use super::link::ShutDownAtEnd;
use crate::support::{Base, data, trials};

trials! {
    for setting in settings() =>
        several_threads_accept_on_one_server;
}

const ACCEPTING: usize = 4;
const CLIENTS: usize = 48;

fn several_threads_accept_on_one_server(setting: Setting) {
    let base = Base::new();
    let address = setting.address(&base, "room");
    let server = setting.bind(&address).unwrap();
    thread::scope(|scope| {
        let _end = ShutDownAtEnd(server.shutdown_handle());
        let accepting: Vec<_> = (0..ACCEPTING)
            .map(|_| {
                scope.spawn(|| {
                    let mut seeds = Vec::new();
                    loop {
                        match server.accept() {
                            Ok(mut connection) => {
                                let message = connection.recv().unwrap().expect("a message");
                                connection.send(&message).unwrap();
                                seeds.push(message.len());
                            }
                            Err(error) => {
                                assert_eq!(error.kind(), ErrorKind::Shutdown);
                                return seeds;
                            }
                        }
                    }
                })
            })
            .collect();
        thread::scope(|scope| {
            for worker in 0..8 {
                let address = &address;
                scope.spawn(move || {
                    for number in (0..CLIENTS).filter(|number| number % 8 == worker) {
                        let mut connection = setting.connect(address).unwrap();
                        connection.send(data::message(number, number)).unwrap();
                        data::check(&connection.recv().unwrap().expect("a reply"), number, number);
                        assert_eq!(connection.recv().unwrap(), None);
                    }
                });
            }
        });
        server.shutdown_handle().shutdown();
        let mut served: Vec<usize> = accepting.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        served.sort_unstable();
        assert_eq!(served, (0..CLIENTS).collect::<Vec<_>>(), "exactly one thread accepts each client");
    });
}
