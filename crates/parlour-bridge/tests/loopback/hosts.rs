//! Hosts on one machine: `b.example` imports `wc` from the others, each of which has a server of that name.
#![allow(dead_code, reason = "each test executable uses a part")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use parlour::{ConnectOptions, Connection};
use parlour_bridge::files::certificates;
use parlour_bridge::identity::Host;
use parlour_bridge::status::Status;
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

/// The variable with the address of the server that a process is to be.
pub(crate) const ROLE: &str = "PARLOUR_TEST_SERVE";

/// The time for everything that is not measured.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process that is killed at the end of the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The directory is removed after the processes have ended.
pub(crate) struct Hosts {
    processes: BTreeMap<String, Process>,
    addresses: BTreeMap<String, SocketAddr>,
    /// The process in the network namespace of a host, where it has one of its own.
    places: BTreeMap<String, u32>,
    lease: &'static str,
    /// A part of the configuration of each exporter.
    common: String,
    directory: tempfile::TempDir,
}

impl Hosts {
    /// Starts hosts with a server and a bridge each, and the host `b`, which imports from all of them.
    pub(crate) fn start(exporters: &[&str]) -> Self {
        Self::start_with_lease(exporters, "30s")
    }

    pub(crate) fn start_with_lease(exporters: &[&str], lease: &'static str) -> Self {
        Self::start_with(exporters, lease, Self::peers)
    }

    /// Starts hosts in network namespaces: each exporter has an address, and a process in its namespace.
    pub(crate) fn start_in(places: &[(&str, SocketAddr, u32)], lease: &'static str) -> Self {
        let mut hosts = Self::new(lease);
        hosts.places = places.iter().map(|&(host, _, place)| (host.to_owned(), place)).collect();
        hosts.addresses = places.iter().map(|&(host, address, _)| (host.to_owned(), address)).collect();
        hosts.start_all(Self::peers);
        hosts
    }

    /// Returns the part of the configuration of `b` with the addresses of the others.
    fn peers(&self) -> String {
        let peer = |(host, address)| format!("\"{host}.example\" = \"{address}\"\n");
        format!("[peers]\n{}", self.addresses.iter().map(peer).collect::<String>())
    }

    /// Starts hosts of which `b` does not know the addresses, but has this part of a configuration.
    pub(crate) fn start_without_peers(exporters: &[&str], part: impl FnOnce(&Self) -> String) -> Self {
        Self::start_with(exporters, "30s", part)
    }

    /// Starts hosts that all have this part of a configuration, and that know no addresses. `prepare` creates files in
    /// the directory of the configurations. `OWN-HOST` in the part becomes the name of the host.
    pub(crate) fn start_all_with(exporters: &[&str], part: &str, prepare: impl FnOnce(&Path)) -> Self {
        let mut hosts = Self::new("30s");
        prepare(&hosts.path("realm"));
        hosts.addresses = exporters.iter().map(|host| ((*host).to_owned(), own_address())).collect();
        hosts.common = part.to_owned();
        hosts.start_all(|_| part.to_owned());
        hosts
    }

    fn start_with(exporters: &[&str], lease: &'static str, part: impl FnOnce(&Self) -> String) -> Self {
        let mut hosts = Self::new(lease);
        hosts.addresses = exporters.iter().map(|host| ((*host).to_owned(), own_address())).collect();
        hosts.start_all(part);
        hosts
    }

    fn new(lease: &'static str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        certificates::init(&directory.path().join("realm")).unwrap();
        let (processes, addresses, places) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { processes, addresses, places, lease, common: String::new(), directory }
    }

    fn start_all(&mut self, part: impl FnOnce(&Self) -> String) {
        let exporters: Vec<String> = self.addresses.keys().cloned().collect();
        for host in &exporters {
            let listen = format!("listen = \"{}\"\n", self.addresses[host]);
            let export = "[[export]]\nname = \"wc\"\nto = [\"b.example\"]\n";
            self.configure(host, &listen, &format!("{}{export}", self.common));
        }
        let from: Vec<String> = exporters.iter().map(|host| format!("{host}.example")).collect();
        let part = part(self);
        self.configure("b", "", &format!("{part}[[import]]\nname = \"wc\"\nfrom = {from:?}\n"));
        for host in &exporters {
            self.start_server(host);
            self.start_bridge(host);
        }
        self.start_bridge("b");
    }

    /// Returns a command that runs a program on a host.
    pub(crate) fn command(&self, host: &str, program: impl AsRef<OsStr>) -> Command {
        let Some(place) = self.places.get(host) else { return Command::new(program) };
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{place}/ns/net")).arg("--").arg(program);
        command
    }

    /// Creates the certificate and the configuration of a host.
    fn configure(&self, host: &str, values: &str, tables: &str) {
        let (realm, name) = (self.path("realm"), format!("{host}.example"));
        certificates::host(&realm, &Host::parse(&name).unwrap(), certificates::HOST_VALID_DEFAULT).unwrap();
        let tls = format!("[tls]\nauthority = \"ca.pem\"\ncertificate = \"{name}.pem\"\nkey = \"{name}.key\"\n");
        let tables = tables.replace("OWN-HOST", &name);
        let text = format!("host = \"{name}\"\nlease = \"{}\"\n{values}{tls}{tables}", self.lease);
        fs::write(realm.join(format!("{host}.toml")), text).unwrap();
        fs::create_dir(self.path(host)).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Returns the address of a bridge.
    pub(crate) fn address(&self, host: &str) -> SocketAddr {
        self.addresses[host]
    }

    /// Returns a client on host `b`, by the name alone.
    pub(crate) fn client(&self) -> Connection {
        let address = self.path("b").join("wc");
        ConnectOptions::new().wait_for_server(PATIENCE).connect(address.to_str().unwrap()).unwrap()
    }

    pub(crate) fn start_server(&mut self, host: &str) {
        let command = self.command(host, std::env::current_exe().unwrap());
        self.start_server_with(host, command);
    }

    /// Starts a server of another user, who may have no access to the directory of this executable.
    pub(crate) fn start_server_as(&mut self, host: &str, uid: u32) {
        let mut command = self.command(host, "/proc/self/exe");
        command.uid(uid).gid(uid);
        self.start_server_with(host, command);
    }

    fn start_server_with(&mut self, host: &str, mut command: Command) {
        command.args(["--exact", "role", "--nocapture"]).stdin(Stdio::null()).stdout(Stdio::null());
        command.env(ROLE, self.path(host).join("wc")).env("PARLOUR_TEST_END", self.path("end"));
        self.processes.insert(format!("server {host}"), Process(command.spawn().unwrap()));
    }

    pub(crate) fn start_bridge(&mut self, host: &str) {
        let config = self.path("realm").join(format!("{host}.toml"));
        let mut command = self.command(host, env!("CARGO_BIN_EXE_parlour-bridge"));
        command.args(["run", "--config"]).arg(config).stdin(Stdio::null()).env("PARLOUR_DIR", self.path(host));
        let log = fs::File::options().create(true).append(true).open(self.path(&format!("{host}.log"))).unwrap();
        command.stderr(log);
        self.processes.insert(format!("bridge {host}"), Process(command.spawn().unwrap()));
    }

    /// Kills a process, such as `server a` or `bridge b`, with SIGKILL.
    pub(crate) fn kill(&mut self, process: &str) {
        self.processes.remove(process).unwrap();
    }

    /// Stops a process, with SIGSTOP.
    pub(crate) fn stop(&self, process: &str) {
        self.signal(process, Signal::STOP);
    }

    /// Lets a process that was stopped go on, with SIGCONT.
    pub(crate) fn go_on(&self, process: &str) {
        self.signal(process, Signal::CONT);
    }

    /// Replaces a part of the configuration of a host, and has its bridge read it again.
    pub(crate) fn reconfigure(&self, host: &str, from: &str, to: &str) {
        let path = self.path("realm").join(format!("{host}.toml"));
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(&path, text.replace(from, to)).unwrap();
        self.read_again(host);
    }

    /// Replaces a part of the configuration of a host whose bridge does not run.
    pub(crate) fn reconfigure_stopped(&self, host: &str, from: &str, to: &str) {
        let path = self.path("realm").join(format!("{host}.toml"));
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace(from, to)).unwrap();
    }

    /// Has the bridge of a host read its files again.
    pub(crate) fn read_again(&self, host: &str) {
        self.signal(&format!("bridge {host}"), Signal::HUP);
    }

    /// Creates a new certificate for a host, in the place of the former one.
    pub(crate) fn renew(&self, host: &str) {
        let (realm, name) = (self.path("realm"), format!("{host}.example"));
        for file in ["pem", "key"] {
            fs::remove_file(realm.join(format!("{name}.{file}"))).unwrap();
        }
        certificates::host(&realm, &Host::parse(&name).unwrap(), certificates::HOST_VALID_DEFAULT).unwrap();
    }

    /// Ends a process in order, with SIGTERM, and waits for its end.
    pub(crate) fn terminate(&mut self, process: &str) {
        self.signal(process, Signal::TERM);
        let status = self.processes.remove(process).unwrap().0.wait().unwrap();
        assert!(status.success(), "{status}");
    }

    fn signal(&self, process: &str, signal: Signal) {
        let pid = i32::try_from(self.processes[process].0.id()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    /// Returns the number of instances of inotify(7) of the bridge of a host, and of the directories that they watch.
    pub(crate) fn watches(&self, host: &str) -> (usize, usize) {
        let process = self.proc_of_bridge(host);
        let files = fs::read_dir(process.join("fd")).unwrap().map_while(Result::ok);
        let instances = files.filter(|file| {
            fs::read_link(file.path()).is_ok_and(|target| target.to_string_lossy().ends_with("inotify"))
        });
        let infos = instances.filter_map(|file| fs::read_to_string(process.join("fdinfo").join(file.file_name())).ok());
        infos.fold((0, 0), |(instances, directories), info| {
            (instances + 1, directories + info.lines().filter(|line| line.starts_with("inotify wd:")).count())
        })
    }

    /// Returns the number of system calls that read something of the bridge of a host, if the kernel counts them.
    pub(crate) fn reads(&self, host: &str) -> Option<u64> {
        let io = fs::read_to_string(self.proc_of_bridge(host).join("io")).ok()?;
        io.lines().find_map(|line| line.strip_prefix("syscr: "))?.parse().ok()
    }

    fn proc_of_bridge(&self, host: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}", self.processes[&format!("bridge {host}")].0.id()))
    }

    /// Sets the limit on descriptors of the bridge of a host, which keeps those that it has.
    pub(crate) fn limit_descriptors(&self, host: &str, limit: Rlimit) {
        let bridge = Pid::from_child(&self.processes[&format!("bridge {host}")].0);
        prlimit(Some(bridge), Resource::Nofile, limit).unwrap();
    }

    /// Waits until the name is given up on host `b`.
    pub(crate) fn wait_until_nobody_holds_the_name(&self) {
        let address = self.path("b").join("wc");
        wait_for(|| Connection::connect(address.to_str().unwrap()).is_err().then_some(()));
    }

    /// Runs `parlour-bridge status` on a host.
    pub(crate) fn status(&self, host: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_parlour-bridge"));
        command.arg("status").args(arguments).env("PARLOUR_DIR", self.path(host)).output().unwrap()
    }

    /// Runs `parlour-bridge check` on a host, and returns its stderr.
    pub(crate) fn check(&self, host: &str) -> String {
        let config = self.path("realm").join(format!("{host}.toml"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_parlour-bridge"));
        let output = command.args(["check", "--config"]).arg(config).env("PARLOUR_DIR", self.path(host)).output();
        String::from_utf8(output.unwrap().stderr).unwrap()
    }

    /// Waits for a status of a host that is as described.
    pub(crate) fn wait_for_status(&self, host: &str, is_so: impl Fn(&Status) -> bool) -> Status {
        wait_for(|| Status::parse(&self.status(host, &["--json"]).stdout).ok().filter(&is_so))
    }

    /// Waits until a bridge has logged a line with this text.
    pub(crate) fn wait_for_line(&self, host: &str, text: &str) {
        let path = self.path(&format!("{host}.log"));
        let found = try_wait_for(|| fs::read_to_string(&path).unwrap().contains(text).then_some(()));
        assert!(found.is_some(), "{text:?} is missing in:\n{}", fs::read_to_string(&path).unwrap());
    }

    /// Waits until the server has seen a client end in this way, and forgets it.
    pub(crate) fn assert_server_saw(&self, end: &str) {
        assert_eq!(self.server_saw(), end);
        fs::remove_file(self.path("end")).unwrap();
    }

    /// Returns how a client ended, as its server saw it.
    pub(crate) fn server_saw(&self) -> String {
        wait_for(|| fs::read_to_string(Path::new(&self.path("end"))).ok().filter(|text| !text.is_empty()))
    }
}

/// Returns an address that no other test uses: the loopback network has one for each process.
pub(crate) fn own_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(7477);
    let [_, b, c, d] = std::process::id().to_be_bytes();
    SocketAddr::from((Ipv4Addr::new(127, b | 0x40, c, d), NEXT.fetch_add(1, Ordering::Relaxed)))
}

/// Waits until there is something.
pub(crate) fn wait_for<T>(look: impl FnMut() -> Option<T>) -> T {
    try_wait_for(look).unwrap_or_else(|| panic!("nothing has happened for {PATIENCE:?}"))
}

fn try_wait_for<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(found) = look() {
            return Some(found);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    None
}
