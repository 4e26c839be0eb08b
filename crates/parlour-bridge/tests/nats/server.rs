//! A NATS server on loopback, with a directory of its own.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::hosts::own_address;

/// Returns the program, if there is one.
fn program() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("PARLOUR_NATS_SERVER") {
        return Some(path.into());
    }
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&paths).map(|directory| directory.join("nats-server"));
    let target = std::env::current_exe().ok()?;
    let in_target = target.ancestors().map(|directory| directory.join("nats/bin/nats-server"));
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    in_target.chain([manifest.join("../../target/nats/bin/nats-server")]).chain(in_path).find(|path| path.is_file())
}

/// Returns the reason why there is no server.
pub(crate) fn missing() -> Option<String> {
    let Some(program) = program() else {
        return Some("nats-server is not installed (PARLOUR_NATS_SERVER names it)".to_owned());
    };
    let output = match Command::new(&program).arg("--version").output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(error) => return Some(format!("{} does not run: {error}", program.display())),
    };
    // Such as `nats-server: v2.15.1`.
    let version = output.trim().rsplit('v').next().unwrap_or_default();
    let mut numbers = version.split('.').map_while(|number| number.parse::<u32>().ok());
    let is_new = (numbers.next(), numbers.next()) >= (Some(2), Some(11));
    (!is_new).then(|| format!("{} is older than 2.11: {}", program.display(), output.trim()))
}

/// Returns a port of 127.0.0.1 that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Writes a secret.
pub(crate) fn secret(directory: &Path, name: &str, text: &str) {
    let mut options = fs::File::options();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(directory.join(name)).unwrap();
    std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
}

/// A server that is killed at the end of the test.
pub(crate) struct NatsServer {
    address: SocketAddr,
    directory: tempfile::TempDir,
    process: Option<Child>,
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

impl NatsServer {
    /// Starts a server with these lines of a configuration.
    pub(crate) fn start(more: &str) -> Self {
        let mut server = Self::prepare(more);
        server.restart();
        server
    }

    /// Prepares a server that does not run yet.
    pub(crate) fn prepare(more: &str) -> Self {
        Self::prepare_at(own_address(), more)
    }

    fn prepare_at(address: SocketAddr, more: &str) -> Self {
        Self::prepare_with(address, |store| {
            format!("listen: '{address}'\njetstream {{ store_dir: '{store}' }}\n{more}")
        })
    }

    /// Starts a server with a whole configuration, for this address. The argument of the function is the directory for
    /// its contents.
    pub(crate) fn start_with(address: SocketAddr, text: impl FnOnce(&str) -> String) -> Self {
        let mut server = Self::prepare_with(address, text);
        server.restart();
        server
    }

    fn prepare_with(address: SocketAddr, text: impl FnOnce(&str) -> String) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let text = text(&directory.path().join("store").display().to_string());
        fs::write(directory.path().join("server.conf"), text).unwrap();
        Self { address, directory, process: None }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts the server that was killed, with its contents.
    pub(crate) fn restart(&mut self) {
        self.kill();
        let mut command = Command::new(program().unwrap());
        command.arg("-c").arg(self.directory.path().join("server.conf"));
        self.process = Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Removes the contents of a server that was killed.
    pub(crate) fn empty(&self) {
        fs::remove_dir_all(self.directory.path().join("store")).unwrap();
    }

    /// Stops the server, with SIGSTOP.
    pub(crate) fn stop(&self) {
        self.signal(Signal::STOP);
    }

    pub(crate) fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.process.as_ref().unwrap().id()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }
}
