//! Servers that are replaced again and again while clients connect and send.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parlour::{ConnectOptions, Connection, Transport};

use crate::by_hand::generation::{GENERATION, ONE_AT_A_TIME};
use crate::support::{Base, Child, DEADLINE, trials};

trials! {
    for transport in Transport::ALL =>
        clients_in_a_tight_loop_lose_nothing_while_their_server_in_step_is_replaced(step in ["threads", "turns"]);
}

/// Returns the number of replacements over each transport.
fn replacements() -> usize {
    std::env::var("PARLOUR_HAND_OVERS").map_or(20, |count| count.parse().unwrap())
}

/// The number of messages of each connection that lives for a moment, and of each that outlives several servers.
const SHORT: u64 = 3;
const LONG: u64 = 400;

/// The servers have a thread for each client, or serve one client after the other.
fn clients_in_a_tight_loop_lose_nothing_while_their_server_in_step_is_replaced(transport: Transport, step: &str) {
    let role = if step == "threads" { GENERATION } else { ONE_AT_A_TIME };
    let base = Base::new();
    let address = base.address(transport, "moving");
    let next = || {
        let mut server = Child::spawn(role.name, &[&address]);
        server.expect("ready");
        server
    };
    let (done, calls) = (AtomicBool::new(false), AtomicU64::new(0));
    let talk = |messages: u64| {
        let mut slowest = Duration::ZERO;
        while !done.load(Ordering::Relaxed) {
            let begin = Instant::now();
            let mut client = ConnectOptions::new().timeout(DEADLINE).connect(&address).unwrap();
            for number in 0..messages {
                call(&mut client, number);
                calls.fetch_add(1, Ordering::Relaxed);
            }
            client.close().unwrap();
            slowest = slowest.max(begin.elapsed() / u32::try_from(messages).unwrap());
        }
        slowest
    };
    let count = replacements();
    let mut server = next();
    let slowest = thread::scope(|scope| {
        let clients: Vec<_> = [SHORT, SHORT, LONG].map(|messages| scope.spawn(move || talk(messages))).into();
        let mut ending = Vec::new();
        for _ in 0..count {
            let successor = next();
            if step == "threads" {
                server.expect("handed over");
            }
            ending.push(std::mem::replace(&mut server, successor));
        }
        done.store(true, Ordering::Relaxed);
        let slowest = clients.into_iter().map(|client| client.join().unwrap()).max().unwrap();
        // Each server has ended by itself, after its last client.
        for mut server in ending {
            assert!(server.wait().success());
        }
        slowest
    });
    server.end_input();
    server.expect("shut down");
    assert!(server.wait().success());
    let calls = calls.into_inner();
    println!("{transport}, {step}: {count} replacements, {calls} calls, slowest connection {slowest:?} a call");
    assert!(calls > 100, "{calls} calls");
}

/// Sends a message and receives its echo.
fn call(client: &mut Connection, number: u64) {
    client.send(&number.to_be_bytes()).unwrap();
    let answer = client.recv_timeout(DEADLINE).unwrap().expect("the server goes on with its clients");
    assert_eq!(*answer, number.to_be_bytes());
}
