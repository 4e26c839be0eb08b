//! Sends each line of its input as a message and prints the replies.

use std::io::{BufRead, Write};
use std::time::Duration;

use parlour::ConnectOptions;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut connection = ConnectOptions::new().wait_for_server(Duration::from_secs(10)).connect("echo")?;
    eprintln!("server: {}, over {}", connection.peer(), connection.transport());
    for line in std::io::stdin().lock().lines() {
        connection.send(line?.as_bytes())?;
        let reply = connection.recv_timeout(Duration::from_secs(5))?.ok_or("the server disconnected")?;
        std::io::stdout().write_all(&reply)?;
        println!();
    }
    connection.close()?;
    Ok(())
}
