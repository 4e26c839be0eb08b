//! The worker processes of the demo: a server that echoes messages, and a client that checks the echo.

use std::io::{BufRead, Read};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use parlour::{ConnectOptions, Connection, ErrorKind, Server};
use rustix::process::{Signal, set_parent_process_death_signal};

use super::event::{Done, Event, Identity, is_a_death};
use super::text::Text;
use crate::args::{DemoClient, DemoServer};
use crate::output;

/// The number of replies after which an endless client reports [`Event::Talking`].
const TALKING_AFTER: u64 = 100;

/// Runs `parlour demo-server`: echoes messages until its stdin is at end of file.
pub(crate) fn serve(args: &DemoServer) -> anyhow::Result<()> {
    die_with_the_demo()?;
    let server = Server::bind(&args.address)?;
    tell(&Event::Ready)?;

    let handle = server.shutdown_handle();
    std::thread::spawn(move || {
        let _ = std::io::stdin().lock().read_to_end(&mut Vec::new());
        handle.shutdown();
    });
    for connection in server.incoming() {
        let connection = connection?;
        tell(&Event::Accepted { client: Identity::of(connection.peer()) })?;
        std::thread::spawn(move || {
            if let Err(error) = echo(connection)
                && error.kind() != ErrorKind::Disconnected
            {
                output::note(error);
            }
        });
    }
    server.close()?;
    Ok(())
}

fn echo(mut connection: Connection) -> parlour::Result<()> {
    let mut message = Vec::new();
    while connection.recv_into(&mut message)?.is_some() {
        connection.send(&message)?;
    }
    Ok(())
}

/// Runs `parlour demo-client`: waits for a line on stdin, then sends every line and checks every reply.
pub(crate) fn talk(args: &DemoClient) -> anyhow::Result<()> {
    die_with_the_demo()?;
    let text = Text::read(&args.input)?;
    let mut connection = ConnectOptions::new().wait_for_server(Duration::from_secs(5)).connect(&args.address)?;
    tell(&Event::Connected { server: Identity::of(connection.peer()) })?;
    std::io::stdin().lock().read_line(&mut String::new()).context("waiting for the line that starts the client")?;

    if args.endless {
        return talk_until_left(&mut connection, &text);
    }
    let done = talk_through(&mut connection, &text)?;
    connection.close()?;
    tell(&Event::Done(done))
}

fn talk_through(connection: &mut Connection, text: &Text) -> parlour::Result<Done> {
    let mut done = Done {
        messages: 0,
        bytes: 0,
        wrong_line: None,
        elapsed_ns: 0,
        round_trips_ns: Vec::with_capacity(text.lines().len()),
    };
    let mut reply = Vec::new();
    let started = Instant::now();
    for line in text.lines() {
        let sent = Instant::now();
        connection.send(line)?;
        let answered = connection.recv_into(&mut reply)?;
        done.round_trips_ns.push(u32::try_from(sent.elapsed().as_nanos()).unwrap_or(u32::MAX));
        done.messages += 1;
        done.bytes += line.len() as u64;
        if answered.is_none() || reply != *line {
            done.wrong_line = Some(done.messages);
            break;
        }
    }
    done.elapsed_ns = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
    Ok(done)
}

fn talk_until_left(connection: &mut Connection, text: &Text) -> anyhow::Result<()> {
    let mut messages = 0;
    let mut reply = Vec::new();
    let (got, as_promised) = loop {
        let Some(line) = text.lines().get(messages as usize % text.lines().len().max(1)) else {
            break ("no line to send".to_owned(), false);
        };
        match connection.send(line).and_then(|()| connection.recv_into(&mut reply)) {
            Ok(Some(_)) if reply == *line => messages += 1,
            Ok(Some(_)) => break ("a wrong reply".to_owned(), false),
            Ok(None) => break ("end of file".to_owned(), true),
            Err(error) => break (error.to_string(), is_a_death(error.kind())),
        }
        if messages == TALKING_AFTER {
            tell(&Event::Talking)?;
        }
    };
    tell(&Event::Left { messages, got, as_promised })
}

/// Asks the kernel to kill this process when the demo exits, even if SIGKILL ends the demo.
fn die_with_the_demo() -> anyhow::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("setting the parent-death signal")
}

/// Reports an event to the demo.
fn tell(event: &Event) -> anyhow::Result<()> {
    output::line(serde_json::to_string(event)?)
}
