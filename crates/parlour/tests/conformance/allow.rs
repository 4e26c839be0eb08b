use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use parlour::{ErrorKind, Peer, ServerOptions};

use super::api::{Setting, settings};
use crate::support::{Base, DEADLINE, eventually, trials};

trials! {
    for setting in settings() =>
        a_client_that_the_policy_refuses_gets_an_error,
        a_panic_in_the_policy_comes_out_of_accept_and_the_server_goes_on;
}

fn a_client_that_the_policy_refuses_gets_an_error(setting: Setting) {
    let base = Base::new();
    let address = setting.address(&base, "room");
    let asked: Arc<Mutex<Vec<Peer>>> = Arc::default();
    let open = Arc::new(AtomicBool::new(false));
    let options = ServerOptions::new().allow({
        let (asked, open) = (Arc::clone(&asked), Arc::clone(&open));
        move |peer| {
            asked.lock().unwrap().push(peer.clone());
            open.load(Ordering::SeqCst)
        }
    });
    let server = setting.bind_with(&options, &address).unwrap();
    thread::scope(|scope| {
        let accepting = scope.spawn(|| server.accept_timeout(DEADLINE));
        match setting.connect(&address) {
            Err(error) => assert_eq!(error.kind(), ErrorKind::Refused, "{error}"),
            Ok(mut connection) => assert_eq!(connection.recv_timeout(DEADLINE).unwrap_err().kind(), ErrorKind::Refused),
        }
        eventually("the refusal is counted", || server.stats().refused == 1);
        let last = server.stats().last_refusal.expect("a refusal");
        assert!(last.detail.contains("policy does not admit"), "{last}");
        assert_eq!(last.transport, setting.transport);

        open.store(true, Ordering::SeqCst);
        let mut client = setting.connect(&address).unwrap();
        let mut served = accepting.join().unwrap().unwrap();
        served.send(b"welcome").unwrap();
        assert_eq!(client.recv().unwrap().expect("a message"), b"welcome");
        assert_eq!(server.stats().refused, 1);

        let asked = asked.lock().unwrap();
        assert_eq!(asked.len(), 2, "the policy is called once for each client");
        for peer in &*asked {
            assert_eq!(peer.pid(), Some(std::process::id()));
            assert_eq!(peer.uid(), Some(rustix::process::geteuid().as_raw()));
        }
    });
    drop(server);
    assert_eq!(base.files(), [""; 0]);
}

fn a_panic_in_the_policy_comes_out_of_accept_and_the_server_goes_on(setting: Setting) {
    let base = Base::new();
    let address = setting.address(&base, "room");
    let panics = Arc::new(AtomicBool::new(true));
    let options = ServerOptions::new().allow({
        let panics = Arc::clone(&panics);
        move |_| !panics.swap(false, Ordering::SeqCst) || std::panic::resume_unwind(Box::new("the policy's own"))
    });
    let server = setting.bind_with(&options, &address).unwrap();
    thread::scope(|scope| {
        let greeting = || setting.connect(&address)?.recv();
        let unlucky = scope.spawn(greeting);
        let panic = catch_unwind(AssertUnwindSafe(|| server.accept())).unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"the policy's own"));
        // The first client retries, so the server may accept it as well. One greeted client is enough.
        let next = scope.spawn(greeting);
        server.accept_timeout(DEADLINE).unwrap().send(b"welcome").unwrap();
        drop(server);
        let greeted = [unlucky, next].map(|client| client.join().unwrap()).into_iter().flatten().flatten();
        assert_eq!(greeted.map(Vec::from).collect::<Vec<_>>(), [b"welcome"]);
    });
}
