//! The processes of the demo: bridges and servers. Each ends when its stdin ends, so that none outlives the demo.

use std::io::Read;
use std::path::Path;

use parlour::Server;

use super::super::{Done, failed, run};

/// Runs a bridge until stdin ends.
pub(crate) fn bridge(config: &Path) -> Done {
    run::until(config, async {
        let mut stdin = tokio::task::spawn_blocking(wait_for_end);
        let _ = (&mut stdin).await;
    })
}

/// Serves `wc` until stdin ends. It answers each message with its host, its process and the message.
pub(crate) fn server(host: &str) -> Done {
    let server = Server::bind("wc").map_err(|error| failed("demo", error, "run the demo again"))?;
    let closing = server.shutdown_handle();
    std::thread::spawn(move || {
        wait_for_end();
        closing.shutdown();
    });
    for client in server.incoming() {
        let Ok(mut client) = client else { break };
        let host = host.to_owned();
        std::thread::spawn(move || {
            while let Ok(Some(message)) = client.recv() {
                let message = String::from_utf8_lossy(&message);
                let answer = format!("host {host}, process {}: {message}", std::process::id());
                if client.send(answer.as_str()).is_err() {
                    break;
                }
            }
        });
    }
    Ok(())
}

/// Returns when stdin has ended.
fn wait_for_end() {
    let mut byte = [0];
    while matches!(std::io::stdin().read(&mut byte), Ok(1)) {}
}
