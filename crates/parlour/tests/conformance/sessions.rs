use std::sync::mpsc;
use std::thread;

use parlour::ErrorKind;

use super::api::session::Session;
use super::api::{Error, Server, Setting, settings};
use crate::support::{Base, DEADLINE, trials};

trials! {
    for setting in settings() =>
        the_end_of_a_server_is_reported_once_and_the_next_one_is_found,
        the_hook_runs_once_for_each_connection,
        a_session_that_is_closed_has_sent_everything;
}

/// Echoes the messages of one client, up to its end or until `count` have come back.
fn echo(server: &Server, count: usize) {
    let mut served = server.accept_timeout(DEADLINE).unwrap();
    for _ in 0..count {
        let Some(message) = served.recv().unwrap() else { return };
        served.send(&message).unwrap();
    }
    served.close().unwrap();
}

/// Sends a message and receives its echo.
fn exchange(session: &mut Session, text: &str) -> Result<(), Error> {
    session.send(text)?;
    assert_eq!(session.recv()?, text.as_bytes());
    Ok(())
}

fn the_end_of_a_server_is_reported_once_and_the_next_one_is_found(setting: Setting) {
    const RESTARTS: usize = 3;
    const EACH: usize = 5;
    let base = Base::new();
    let address = setting.address(&base, "notes");
    let mut session = setting.session(&address).unwrap();
    thread::scope(|scope| {
        let (ended, has_ended) = mpsc::channel();
        scope.spawn(|| {
            let ended = ended;
            for _ in 0..=RESTARTS {
                let server = setting.bind(&address).unwrap();
                echo(&server, EACH);
                server.close().unwrap();
                ended.send(()).unwrap();
            }
        });
        for restart in 0..=RESTARTS {
            for number in 0..EACH {
                exchange(&mut session, &format!("{restart} {number}")).unwrap();
            }
            has_ended.recv_timeout(DEADLINE).unwrap();
            if restart < RESTARTS {
                let Err(Error::Parlour(error)) = session.recv() else { panic!("no loss was reported") };
                assert_eq!(error.kind(), ErrorKind::Lost);
                let loss = error.loss().unwrap();
                assert_eq!((loss.sent(), loss.received()), (EACH as u64, EACH as u64), "{error}");
                assert_eq!((loss.sent_since_received(), loss.unread()), (0, false), "{error}");
            }
        }
    });
}

fn the_hook_runs_once_for_each_connection(setting: Setting) {
    const RESTARTS: usize = 3;
    let base = Base::new();
    let address = setting.address(&base, "notes");
    let mut session = setting.session_with_greeting(&address, b"hello from the hook").unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..=RESTARTS {
                let server = setting.bind(&address).unwrap();
                let mut served = server.accept_timeout(DEADLINE).unwrap();
                assert_eq!(served.recv().unwrap().unwrap(), b"hello from the hook");
                assert_eq!(served.recv().unwrap().unwrap(), b"a note");
                served.send(b"noted").unwrap();
                served.close().unwrap();
                server.close().unwrap();
            }
        });
        for restart in 0..=RESTARTS {
            session.send(b"a note").unwrap();
            assert_eq!(session.recv().unwrap(), b"noted");
            if restart < RESTARTS {
                assert_eq!(session.recv().unwrap_err().kind(), ErrorKind::Lost);
            }
        }
    });
}

fn a_session_that_is_closed_has_sent_everything(setting: Setting) {
    let base = Base::new();
    let address = setting.address(&base, "notes");
    let server = setting.bind(&address).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut session = setting.session(&address).unwrap();
            for number in 0..100u8 {
                session.send(&[number; 1000]).unwrap();
            }
            session.close().unwrap();
        });
        let mut served = server.accept_timeout(DEADLINE).unwrap();
        for number in 0..100u8 {
            assert_eq!(served.recv().unwrap().unwrap(), &[number; 1000]);
        }
        assert_eq!(served.recv().unwrap(), None);
    });
}
