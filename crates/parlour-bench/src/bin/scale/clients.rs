//! A process with many clients in one thread.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use parlour::{ConnectOptions, Connection};

use crate::args::Clients;
use crate::serve::RING_SIZE;
use crate::{child, descriptors};

/// The time limit for connecting, and for each answer.
const WAIT_LIMIT: Duration = Duration::from_secs(120);

/// The length of a client's message, which contains the number of the client.
const MESSAGE_LEN: usize = 64;

/// Answers commands on stdin: `connect` connects all clients, `together` sends a message from each client and then
/// receives all answers, `in-turn` makes a round trip with one client after the other. Each answer is the duration in
/// nanoseconds. Returns at the end of stdin.
pub(crate) fn run(args: &Clients) -> Result<()> {
    descriptors::make_room_for(args.count, 2).or_else(|_| descriptors::make_room_for(args.count, 1))?;
    let mut connections = Vec::with_capacity(args.count);
    let mut round = 0;
    child::obey(|line| {
        let begin = Instant::now();
        match line {
            "connect" => {
                let options = ConnectOptions::new().ring_size(RING_SIZE).timeout(WAIT_LIMIT);
                for _ in 0..args.count {
                    connections.push(options.connect(&args.address)?);
                }
            }
            "together" => together(&mut connections, round)?,
            "in-turn" => in_turn(&mut connections, round)?,
            other => bail!("unknown command {other:?}"),
        }
        round += 1;
        Ok(begin.elapsed().as_nanos().to_string())
    })
}

fn together(connections: &mut [Connection], round: usize) -> Result<()> {
    for (number, connection) in connections.iter_mut().enumerate() {
        connection.send(&question(round, number))?;
    }
    connections.iter_mut().enumerate().try_for_each(|(number, connection)| answer(connection, round, number))
}

fn in_turn(connections: &mut [Connection], round: usize) -> Result<()> {
    for (number, connection) in connections.iter_mut().enumerate() {
        connection.send(&question(round, number))?;
        answer(connection, round, number)?;
    }
    Ok(())
}

/// Returns the message of a client, which differs from the messages of all other clients of all processes.
fn question(round: usize, number: usize) -> [u8; MESSAGE_LEN] {
    let mut message = [0; MESSAGE_LEN];
    for (place, value) in message.chunks_exact_mut(8).zip([std::process::id() as usize, round, number].iter().cycle()) {
        place.copy_from_slice(&value.to_ne_bytes());
    }
    message
}

fn answer(connection: &mut Connection, round: usize, number: usize) -> Result<()> {
    let answer = connection.recv_timeout(WAIT_LIMIT)?.with_context(|| format!("client {number} was disconnected"))?;
    ensure!(answer == question(round, number)[..], "client {number} received the answer to another message");
    Ok(())
}
