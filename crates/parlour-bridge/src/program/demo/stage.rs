//! The hosts of the demo: their files and their processes.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use parlour_bridge::files::certificates;
use parlour_bridge::identity::Host;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::super::{Done, Finding, failed, note};

/// The hosts. `b` imports from the others.
const HOSTS: [&str; 3] = ["a", "b", "c"];

/// The time for the processes to end in order. After that they are killed.
const END_TIMEOUT: Duration = Duration::from_secs(3);

/// The validity of the certificates.
const VALID: Duration = Duration::from_secs(24 * 3600);

/// The hosts, with their processes. Dropping it kills the processes, and removes the directory.
pub(super) struct Stage {
    processes: BTreeMap<String, Process>,
    /// Removed after the processes have ended.
    directory: TempDir,
}

/// A process that is killed when it is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn io_failed(error: io::Error) -> Vec<Finding> {
    failed("demo", error, "set TMPDIR to a directory that you may write to")
}

impl Stage {
    /// Creates the directories, certificates and configurations.
    pub(super) fn new() -> Result<Self, Vec<Finding>> {
        let directory = tempfile::Builder::new().prefix("parlour-bridge-demo-").tempdir().map_err(io_failed)?;
        let stage = Self { processes: BTreeMap::new(), directory };
        let realm = stage.path().join("realm");
        let one = |finding| vec![finding];
        certificates::init(&realm).map_err(one)?;
        let (mut peers, mut from) = (String::new(), Vec::new());
        // Two addresses at a time, so that they differ.
        let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(io_failed);
        let listeners = [free()?, free()?];
        for (host, listener) in ["a", "c"].into_iter().zip(listeners) {
            let address = listener.local_addr().map_err(io_failed)?;
            stage.configure(host, Some(address), "[[export]]\nname = \"wc\"\nto = [\"b.example\"]\n")?;
            peers += &format!("\"{host}.example\" = \"{address}\"\n");
            from.push(format!("{host}.example"));
        }
        stage.configure("b", None, &format!("[peers]\n{peers}[[import]]\nname = \"wc\"\nfrom = {from:?}\n"))?;
        for host in HOSTS {
            let name = Host::parse(&format!("{host}.example"));
            let name = name.map_err(|problem| failed("demo", problem, "report this"))?;
            certificates::host(&realm, &name, VALID).map_err(one)?;
            DirBuilder::new().mode(0o700).create(stage.path().join(host)).map_err(io_failed)?;
        }
        Ok(stage)
    }

    fn configure(&self, host: &str, listen: Option<SocketAddr>, tables: &str) -> Done {
        let listen = listen.map(|address| format!("listen = \"{address}\"\n")).unwrap_or_default();
        let tls = format!(
            "[tls]\nauthority = \"ca.pem\"\ncertificate = \"{host}.example.pem\"\nkey = \"{host}.example.key\"\n"
        );
        let text = format!("host = \"{host}.example\"\n{listen}{tls}{tables}");
        fs::write(self.path().join("realm").join(format!("{host}.toml")), text).map_err(io_failed)
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Returns the address of a name on a host.
    pub(super) fn address(&self, host: &str, name: &str) -> String {
        self.path().join(host).join(name).to_string_lossy().into_owned()
    }

    /// Starts the server and the bridge of a host, and returns the process id of the server.
    pub(super) fn start_host(&mut self, host: &str) -> Result<u32, Vec<Finding>> {
        let server = self.start(&format!("server {host}"), host, &["demo-server", host])?;
        self.start_bridge(host)?;
        Ok(server)
    }

    pub(super) fn start_bridge(&mut self, host: &str) -> Done {
        let config = self.path().join("realm").join(format!("{host}.toml"));
        self.start(&format!("bridge {host}"), host, &["demo-bridge", &config.to_string_lossy()]).map(drop)
    }

    /// Starts a process of a host, whose stdin ends with this process. Returns its id.
    fn start(&mut self, process: &str, host: &str, arguments: &[&str]) -> Result<u32, Vec<Finding>> {
        let log = File::create(self.path().join(format!("{process}.log"))).map_err(io_failed)?;
        let mut command = Command::new(std::env::current_exe().map_err(io_failed)?);
        command.args(arguments).env("PARLOUR_DIR", self.path().join(host));
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().map_err(io_failed)?;
        let pid = child.id();
        self.processes.insert(process.to_owned(), Process(child));
        Ok(pid)
    }

    /// Sends a signal to a process, which ends.
    pub(super) fn kill(&mut self, process: &str, signal: Signal) -> Done {
        let Some(Process(child)) = self.processes.get(process) else { return Ok(()) };
        let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else { return Ok(()) };
        kill_process(pid, signal).map_err(|error| io_failed(error.into()))?;
        self.processes.remove(process);
        Ok(())
    }

    /// Prints what the processes have written.
    pub(super) fn print_logs(&self) {
        for process in self.processes.keys() {
            let text = fs::read_to_string(self.path().join(format!("{process}.log"))).unwrap_or_default();
            text.lines().for_each(|line| note(format_args!("{process}: {line}")));
        }
    }

    /// Ends the processes in order, and removes the directory.
    pub(super) fn end(mut self) -> Done {
        // The end of stdin. It reaches all of them at once.
        self.processes.values_mut().for_each(|process| drop(process.0.stdin.take()));
        let deadline = Instant::now() + END_TIMEOUT;
        while Instant::now() < deadline
            && self.processes.values_mut().any(|process| matches!(process.0.try_wait(), Ok(None)))
        {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.processes.clear();
        self.directory.close().map_err(io_failed)
    }
}
