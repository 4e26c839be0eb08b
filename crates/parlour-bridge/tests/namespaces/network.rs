//! Networks that exist for one test: its hosts are anonymous network namespaces, each joined to that of host `b` by a
//! pair of virtual Ethernet devices.
//!
//! A test runs in a process of its own, the first one of a PID namespace, in the network namespace of `b`. That process
//! ends when the test executable does, even if that is killed, and takes all others with it. The namespaces, the
//! devices and the files in [`SCRATCH`] go with the last process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The variable that tells a process that it is in the namespaces of a test.
const INSIDE: &str = "PARLOUR_TEST_IN_NAMESPACES";

/// The directory with an empty file system of the test's own.
const SCRATCH: &str = "/mnt";

/// The longest time for a test.
const TEST_MAX: Duration = Duration::from_secs(150);

/// Runs a test in namespaces of its own, or prints why it is skipped. `name` is that of the calling test.
pub(crate) fn inside(name: &str, test: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        end_with_the_executable();
        return test();
    }
    if let Some(reason) = why_not() {
        println!("skipped: {reason}");
        return;
    }
    let mut command = unshared("mount -t tmpfs -o mode=755 none /mnt && exec \"$@\"");
    command.arg("sh").arg(std::env::current_exe().unwrap()).args(["--exact", name, "--nocapture"]);
    command.env(INSIDE, "").env("TMPDIR", SCRATCH).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // The other end stays open until the test has ended.
    let stdin = child.stdin.take();
    let output = child.wait_with_output().unwrap();
    drop(stdin);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout).lines().filter(|line| line.starts_with("skipped: ")).for_each(|line| println!("{line}"));
}

/// Returns a command that runs a script of sh(1) in new namespaces.
fn unshared(script: &str) -> Command {
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--net", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", script]);
    command
}

/// Returns the reason why no such network can be made here, if there is one.
fn why_not() -> Option<String> {
    let script = "mount -t tmpfs none /mnt && ip link add one type veth peer name two && command -v nsenter >/dev/null";
    match unshared(script).stdin(Stdio::null()).output() {
        Err(error) => Some(format!("unshare(1) cannot be started: {error}")),
        Ok(output) if !output.status.success() => {
            let problem = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
            Some(format!("no network can be made here, with unshare, mount, ip and nsenter: {problem}"))
        }
        Ok(_) => None,
    }
}

/// Ends this process when the test executable has ended, and after [`TEST_MAX`].
fn end_with_the_executable() {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(1);
    });
    std::thread::spawn(|| {
        std::thread::sleep(TEST_MAX);
        eprintln!("the test has not ended after {TEST_MAX:?}");
        std::process::exit(1);
    });
}

/// The hosts beside `b`.
pub(crate) struct Network {
    hosts: Vec<(&'static str, Child)>,
}

impl Drop for Network {
    fn drop(&mut self) {
        for (_, place) in &mut self.hosts {
            let _ = place.kill();
            let _ = place.wait();
        }
    }
}

impl Network {
    /// Makes hosts, each of which reaches `b` and no other one.
    pub(crate) fn new(names: &[&'static str]) -> Self {
        ip(&mut Command::new("ip"), "link set lo up\n");
        let hosts = names.iter().enumerate().map(|(number, &name)| (name, make_host(number, name)));
        Self { hosts: hosts.collect() }
    }

    /// Returns the name, the address of the bridge, and a process in the namespace of each host.
    pub(crate) fn places(&self) -> Vec<(&'static str, SocketAddr, u32)> {
        let place = |(number, (name, place)): (usize, &(&'static str, Child))| (*name, address(number, 2), place.id());
        self.hosts.iter().enumerate().map(place).collect()
    }

    /// Cuts a host off: its device is down.
    pub(crate) fn cut(&self, name: &str) {
        self.set(name, "down");
    }

    /// Ends a cut.
    pub(crate) fn mend(&self, name: &str) {
        self.set(name, "up");
    }

    fn set(&self, name: &str, state: &str) {
        let (_, place) = self.hosts.iter().find(|(other, _)| *other == name).unwrap();
        ip(&mut ip_in(place.id()), &format!("link set eth0 {state}\n"));
    }
}

/// Returns the address of a host, or that of `b` on the way to it.
fn address(number: usize, end: u8) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(10, 77, u8::try_from(number).unwrap(), end), 7477))
}

fn make_host(number: usize, name: &str) -> Child {
    let mut place = Command::new("unshare");
    place.args(["--net", "sh", "-c", "echo; exec sleep 1000"]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut place = place.spawn().unwrap();
    // By then it is in its namespace.
    BufReader::new(place.stdout.as_mut().unwrap()).read_line(&mut String::new()).unwrap();
    let (here, there) = (address(number, 1).ip(), address(number, 2).ip());
    let pid = place.id();
    let here = format!(
        "link add to-{name} type veth peer name eth0 netns {pid}\naddress add {here}/24 dev to-{name}\n\
         link set to-{name} up\n"
    );
    ip(&mut Command::new("ip"), &here);
    ip(&mut ip_in(pid), &format!("link set lo up\naddress add {there}/24 dev eth0\nlink set eth0 up\n"));
    place
}

fn ip_in(place: u32) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/proc/{place}/ns/net")).arg("ip");
    command
}

/// Carries out commands of ip(8).
fn ip(command: &mut Command, batch: &str) {
    let mut child = command.args(["-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(batch.as_bytes()).unwrap();
    let status = child.wait().unwrap();
    assert!(status.success(), "{status}: {batch}");
}
