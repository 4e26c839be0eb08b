//! Starts a plug-in, which may be in any language, and calls its functions. The connection has no name: only the
//! plug-in can use it, and it ends with it.
//!
//! Run `cargo run --example plugin_host -- python crates/parlour-python/examples/plugin.py`. Each line of the input is
//! a request, such as `upper hello`.

use std::io::BufRead;
use std::process::Command;
use std::time::Duration;

use parlour::{Connection, Transport};

/// The time that a plug-in may take to start, and to answer.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let mut command = Command::new(arguments.next().ok_or("the arguments are the program of the plug-in")?);
    command.args(arguments);
    let (mut plugin, mut child) = Connection::spawn(command, Transport::Shm)?;
    let ended = "the plug-in has ended";
    let functions = plugin.recv_timeout(PATIENCE)?.ok_or(ended)?;
    println!("functions: {}", String::from_utf8_lossy(&functions).escape_debug());
    for request in std::io::stdin().lock().lines() {
        plugin.send(request?.as_bytes())?;
        let answer = plugin.recv_timeout(PATIENCE)?.ok_or(ended)?;
        // A plug-in may send anything; no control character of it reaches a terminal.
        println!("{}", String::from_utf8_lossy(&answer).escape_debug());
    }
    plugin.close()?;
    println!("plug-in: {}", child.wait()?);
    Ok(())
}
