//! A randomised, repeatable test in which clients and a server are killed and stopped at any time. It runs for five
//! seconds over each transport, or for `PARLOUR_CHAOS_SECONDS` seconds.

use std::thread;
use std::time::{Duration, Instant};

use parlour::{ConnectOptions, Connection, ErrorKind, Transport};
use rustix::process::Signal;

use crate::by_hand::rng::{Rng, seed};
use crate::support::baseline::Baseline;
use crate::support::{Base, Child, DEADLINE, Role, chaos_seconds, data, eventually, trials};

trials! {
    for transport in Transport::ALL =>
        after_chaos_everything_works_and_nothing_is_left;
}

pub const CHATTER: Role = Role { name: "chaos-client", play: chatter };

/// `chaos-client ADDRESS SEED`: connects, exchanges messages, checks the replies, closes, and starts again, until it is
/// killed. Prints only errors.
fn chatter(arguments: &[String]) {
    let mut rng = Rng::new(arguments[1].parse().unwrap());
    let options = ConnectOptions::new().timeout(DEADLINE).wait_for_server(DEADLINE);
    let mut attempt = 0;
    loop {
        let begin = Instant::now();
        match options.connect(&arguments[0]) {
            Ok(connection) => {
                if let Err(wrong) = converse(connection, &mut rng) {
                    return println!("{wrong}");
                }
            }
            Err(error) => {
                let passing = [
                    ErrorKind::NoServer,
                    ErrorKind::Disconnected,
                    ErrorKind::Busy,
                    ErrorKind::TimedOut,
                    ErrorKind::Truncated,
                ];
                if !passing.contains(&error.kind()) {
                    return println!("connect: {error:?}");
                }
            }
        }
        attempt += 1;
        if begin.elapsed() > 3 * DEADLINE {
            return println!("attempt {attempt} took {:?}", begin.elapsed());
        }
    }
}

/// Checks that each message is returned whole and in order, or that the connection ends.
fn converse(mut connection: Connection, rng: &mut Rng) -> Result<(), String> {
    for _ in 0..rng.below(20) {
        let seed = rng.below(1000) as usize;
        let length = if rng.one_in(8) { rng.below(300_000) } else { rng.below(2000) } as usize;
        let exchanged = connection
            .send_timeout(data::message(seed, length), DEADLINE)
            .and_then(|()| connection.recv_timeout(DEADLINE));
        match exchanged {
            Ok(Some(message)) if *message == *data::message(seed, length) => {}
            Ok(Some(message)) => {
                return Err(format!("{} bytes came back for a different message of {length}", message.len()));
            }
            Ok(None) => return Ok(()),
            Err(error) => {
                let passing = [ErrorKind::Disconnected, ErrorKind::Truncated, ErrorKind::TimedOut];
                return match passing.contains(&error.kind()) {
                    true => Ok(()),
                    false => Err(format!("exchange: {error:?}")),
                };
            }
        }
    }
    Ok(())
}

/// The number of killed processes above which the faults were enough to prove something.
const KILLS_MIN: u32 = 10;

fn after_chaos_everything_works_and_nothing_is_left(transport: Transport) {
    let seed = seed();
    // The output is shown if the test fails.
    println!("{transport} chaos: PARLOUR_TEST_SEED={seed}");
    let base = Base::new();
    let address = base.address(transport, "storm");
    let mut rng = Rng::new(seed);
    let serve = || {
        let mut server = Child::spawn("echo-server", std::slice::from_ref(&address));
        server.expect("ready");
        server
    };
    let client = |rng: &mut Rng| Child::spawn("chaos-client", &[address.clone(), rng.next().to_string()]);
    let mut server = serve();
    let mut clients: Vec<Child> = (0..4).map(|_| client(&mut rng)).collect();
    let (mut kills, mut stops) = (0, 0);
    let end = Instant::now() + Duration::from_secs(chaos_seconds());
    // On a slow machine it takes longer until there were enough faults.
    while Instant::now() < end || (kills <= KILLS_MIN && Instant::now() < end + 2 * DEADLINE) {
        // Paces the faults. Nothing depends on this sleep.
        thread::sleep(Duration::from_micros(rng.below(30_000)));
        let number = rng.below(4) as usize;
        match rng.below(6) {
            0 => {
                server.kill();
                assert_eq!(String::from_utf8_lossy(&server.rest()), "", "seed {seed}");
                server = serve();
                kills += 1;
            }
            1 => {
                let whom = if rng.one_in(3) { &server } else { &clients[number] };
                whom.signal(Signal::STOP);
                thread::sleep(Duration::from_micros(rng.below(20_000)));
                whom.signal(Signal::CONT);
                stops += 1;
            }
            _ => {
                clients[number].kill();
                assert_eq!(String::from_utf8_lossy(&clients[number].rest()), "", "seed {seed}");
                clients[number] = client(&mut rng);
                kills += 1;
            }
        }
    }
    println!("{transport} chaos: {kills} killed, {stops} stopped");
    assert!(kills > KILLS_MIN, "only {kills} kills: the faults were too few");
    for client in &mut clients {
        client.kill();
        assert_eq!(String::from_utf8_lossy(&client.rest()), "", "seed {seed}");
    }
    // The faults have ended. One server is left. It must serve, and hold the same resources as a new one.
    eventually("the threads of the killed clients have ended", || Baseline::of(server.pid()).threads == 2);
    let mut connection = ConnectOptions::new().timeout(DEADLINE).connect(&address).unwrap();
    connection.send(b"well?").unwrap();
    assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), b"well?");
    drop(connection);
    eventually("the thread of the last client has ended", || Baseline::of(server.pid()).threads == 2);
    let survivor = Baseline::of(server.pid());
    server.kill();
    let mut fresh = serve();
    let mut connection = ConnectOptions::new().timeout(DEADLINE).connect(&address).unwrap();
    connection.send(b"you too?").unwrap();
    assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), b"you too?");
    drop(connection);
    eventually("the client's thread has ended", || Baseline::of(fresh.pid()).threads == 2);
    let new = Baseline::of(fresh.pid());
    assert_eq!(
        survivor.descriptors.len(),
        new.descriptors.len(),
        "seed {seed}: {survivor:#?}, and a new server: {new:#?}"
    );
    assert_eq!(survivor.maps, new.maps, "seed {seed}");
    fresh.kill();
    parlour::Server::bind(&address).unwrap().close().unwrap();
    assert_eq!(base.files(), [""; 0], "seed {seed}");
}
