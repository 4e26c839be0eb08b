//! Two hosts on this machine, and the processes between a client and its server.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use parlour_bench::Client;

use crate::client::BareClient;
use crate::family::Family;
use crate::kind::Kind;
use crate::relay;
use crate::server::{HELLO, NAME};

/// The time for the processes to start.
const START_LIMIT: Duration = Duration::from_secs(20);

/// The time after which a connection that does not answer is given up.
const ANSWER_LIMIT: Duration = Duration::from_millis(500);

/// The time of silence after which a bridge counts the other host as lost.
pub(crate) const LEASE: Duration = Duration::from_secs(5);

/// The directories of two hosts, and their certificates.
#[derive(Debug)]
pub(crate) struct Stage {
    place: PathBuf,
}

/// The processes between the client and the server.
#[derive(Debug)]
pub(crate) struct Running {
    /// On the host of the server.
    pub(crate) exporter: Family,
    /// On the host of the client.
    pub(crate) importer: Family,
    client_path: PathBuf,
}

impl Stage {
    /// Creates the directories.
    pub(crate) fn prepare(place: &Path) -> Result<Self> {
        for host in ["a", "b"] {
            fs::create_dir(place.join(host))?;
        }
        Ok(Self { place: place.to_owned() })
    }

    /// Returns the base directory of the host of the server.
    pub(crate) fn server_directory(&self) -> PathBuf {
        self.place.join("a")
    }

    /// Returns the socket for clients.
    pub(crate) fn client_path(place: &Path, kind: Kind) -> PathBuf {
        match kind {
            Kind::Bridge => place.join("b").join(NAME).join("unix"),
            _ => place.join("b/s"),
        }
    }

    /// Starts the processes, and waits until a message comes back through them. The server is there already, or
    /// starting. `hosts` are the commands that put the processes of a and b into their networks, with the address of
    /// a; without them, both use loopback.
    pub(crate) fn start(self, kind: Kind, hosts: Option<&Networks>) -> Result<Running> {
        let ip = hosts.map_or(Ipv4Addr::LOCALHOST, |hosts| hosts.address);
        // Free a moment ago. Nothing else on this machine takes ports of the ephemeral range by their numbers.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let address = SocketAddr::from((ip, port));
        let client_path = Self::client_path(&self.place, kind);
        let server_path = self.place.join("a").join(NAME).join("unix");
        let [exporter, importer] = match kind {
            Kind::Bridge => self.bridges(address)?,
            Kind::Relay => self.relays(address, &client_path, &server_path, None)?,
            Kind::TlsRelay => {
                self.certificates()?;
                self.relays(address, &client_path, &server_path, Some(&self.path("realm")))?
            }
            Kind::Socat => self.socats(address, &client_path, &server_path)?,
            Kind::Ssh => self.ssh(address, &client_path, &server_path)?,
        };
        let begin = |host: &str, command: Vec<String>| {
            let prefix = hosts.map(|hosts| hosts.prefix(host)).unwrap_or_default();
            let command: Vec<&str> = prefix.iter().chain(&command).map(String::as_str).collect();
            let base = self.place.join(host);
            Family::start(&command, Some(("PARLOUR_DIR", &base)), &self.place.join("log"))
        };
        let exporter = begin("a", exporter)?;
        let importer = begin("b", importer)?;
        let mut running = Running { exporter, importer, client_path };
        running.wait(&self.place.join("log")).with_context(|| format!("starting {}", kind.name()))?;
        Ok(running)
    }

    fn path(&self, name: &str) -> String {
        self.place.join(name).display().to_string()
    }

    /// Creates the certificates of both hosts with the program that is measured.
    fn certificates(&self) -> Result<String> {
        let program = std::env::current_exe()?.with_file_name("parlour-bridge");
        ensure!(program.exists(), "{} is missing: run `cargo build --release -p parlour-bridge`", program.display());
        let realm = self.path("realm");
        for what in [&["init"][..], &["host", "a.example"], &["host", "b.example"]] {
            let output = Command::new(&program).arg("cert").args(what).args(["--dir", &realm]).output()?;
            ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(program.display().to_string())
    }

    fn bridges(&self, address: SocketAddr) -> Result<[Vec<String>; 2]> {
        let program = self.certificates()?;
        let lease = LEASE.as_secs();
        let limits = "[limits]\nconversations = 2000\nconversations_per_host = 2000\nopens_per_second = 1000000\n";
        let configure = |host: &str, values: &str, tables: &str| {
            let path = self.path(&format!("realm/{host}.toml"));
            let tls =
                format!("authority = \"ca.pem\"\ncertificate = \"{host}.example.pem\"\nkey = \"{host}.example.key\"");
            let text =
                format!("host = \"{host}.example\"\nlease = \"{lease}s\"\n{values}\n[tls]\n{tls}\n{tables}\n{limits}");
            fs::write(&path, text)?;
            anyhow::Ok(vec![program.clone(), "run".to_owned(), "--config".to_owned(), path])
        };
        let export = format!("[[export]]\nname = \"{NAME}\"\nto = [\"b.example\"]");
        let import =
            format!("[peers]\n\"a.example\" = \"{address}\"\n[[import]]\nname = \"{NAME}\"\nfrom = [\"a.example\"]");
        Ok([configure("a", &format!("listen = \"{address}\""), &export)?, configure("b", "", &import)?])
    }

    /// Returns the commands of a relay, with TLS if there is a realm.
    fn relays(
        &self,
        address: SocketAddr,
        client: &Path,
        server: &Path,
        realm: Option<&str>,
    ) -> Result<[Vec<String>; 2]> {
        let this = std::env::current_exe()?.display().to_string();
        let side = |direction: &str, path: &Path| {
            let path = path.display().to_string();
            let mut command =
                vec![this.clone(), relay::ROLE.to_owned(), direction.to_owned(), address.to_string(), path];
            command.extend(realm.map(str::to_owned));
            command
        };
        Ok([side("from", server), side("to", client)])
    }

    fn socats(&self, address: SocketAddr, client: &Path, server: &Path) -> Result<[Vec<String>; 2]> {
        self.certificates()?;
        let tls = |host: &str, peer: &str| {
            let file = |name: &str| self.path(&format!("realm/{name}"));
            let (certificate, key) = (file(&format!("{host}.pem")), file(&format!("{host}.key")));
            format!("cert={certificate},key={key},cafile={},commonname={peer},verify=1,nodelay", file("ca.pem"))
        };
        let socat = |from: String, to: String| vec!["socat".to_owned(), "-b".to_owned(), "65536".to_owned(), from, to];
        let (ip, port) = (address.ip(), address.port());
        let a = tls("a.example", "b.example");
        let exporter = socat(
            format!("OPENSSL-LISTEN:{port},bind={ip},reuseaddr,fork,backlog=4096,{a}"),
            format!("UNIX-CONNECT:{}", server.display()),
        );
        let b = tls("b.example", "a.example");
        let importer =
            socat(format!("UNIX-LISTEN:{},fork,backlog=4096", client.display()), format!("OPENSSL:{ip}:{port},{b}"));
        Ok([exporter, importer])
    }

    /// Configures sshd and ssh with keys of their own. They read no file of the system or the user.
    fn ssh(&self, address: SocketAddr, client: &Path, server: &Path) -> Result<[Vec<String>; 2]> {
        let sshd = Path::new("/usr/sbin/sshd");
        ensure!(sshd.exists(), "sshd is not installed (openssh-server)");
        if rustix::process::geteuid().is_root() {
            // As the unit of the system does. sshd does not start without it.
            fs::create_dir_all("/run/sshd").context("creating the directory for privilege separation")?;
        }
        for key in ["host", "user"] {
            let file = self.path(key);
            let output = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &file]).output()?;
            ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        let public = |key: &str| fs::read_to_string(self.path(&format!("{key}.pub")));
        fs::write(self.path("authorized"), public("user")?)?;
        fs::write(self.path("known"), format!("[{}]:{} {}", address.ip(), address.port(), public("host")?))?;
        let config = format!(
            "ListenAddress {address}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\nUsePAM no\n\
             PasswordAuthentication no\nPermitRootLogin prohibit-password\n",
            self.path("host"),
            self.path("authorized")
        );
        fs::write(self.path("sshd_config"), config)?;
        let words = |text: String| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let exporter = words(format!("{} -D -e -f {}", sshd.display(), self.path("sshd_config")));
        let importer = words(format!(
            "ssh -N -F none -p {} -i {} -o UserKnownHostsFile={} -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes \
             -o IdentityAgent=none -o ExitOnForwardFailure=yes -o ConnectionAttempts=20 -L {}:{} {}",
            address.port(),
            self.path("user"),
            self.path("known"),
            client.display(),
            server.display(),
            address.ip()
        ));
        Ok([exporter, importer])
    }
}

impl Running {
    /// Opens a connection.
    pub(crate) fn client(&self) -> Result<BareClient> {
        BareClient::connect(&self.client_path)
    }

    /// Waits until a message comes back.
    fn wait(&mut self, log: &Path) -> Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let answered = self.client().and_then(|mut client| {
                client.limit(ANSWER_LIMIT)?;
                client.round_trip(HELLO, &mut Vec::new())
            });
            let Err(error) = answered else { return Ok(()) };
            let has_ended = self.exporter.has_ended()? || self.importer.has_ended()?;
            if has_ended || Instant::now() > deadline {
                bail!("{error:#}; {}", fs::read_to_string(log).unwrap_or_default().trim().replace('\n', "; "));
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Two networks with a cable between them.
#[derive(Debug)]
pub(crate) struct Networks {
    names: [String; 2],
    /// The address of host a.
    pub(crate) address: Ipv4Addr,
}

impl Networks {
    /// Creates them, with `ip netns`.
    pub(crate) fn new() -> Result<Self> {
        ensure!(rustix::process::geteuid().is_root(), "only root can create networks");
        let id = std::process::id();
        let names = ["a", "b"].map(|host| format!("parlour-bench-{id}-{host}"));
        let networks = Self { names, address: Ipv4Addr::new(10, 77, 0, 1) };
        let [a, b] = &networks.names;
        ip(&format!("netns add {a}"))?;
        ip(&format!("netns add {b}"))?;
        ip(&format!("-n {a} link add veth0 type veth peer name veth0 netns {b}"))?;
        for (network, address) in [(a, "10.77.0.1/24"), (b, "10.77.0.2/24")] {
            ip(&format!("-n {network} addr add {address} dev veth0"))?;
            ip(&format!("-n {network} link set veth0 up"))?;
            ip(&format!("-n {network} link set lo up"))?;
        }
        Ok(networks)
    }

    fn prefix(&self, host: &str) -> Vec<String> {
        let name = if host == "a" { &self.names[0] } else { &self.names[1] };
        ["ip", "netns", "exec", name].map(str::to_owned).to_vec()
    }

    /// Cuts the cable at the end of host a.
    pub(crate) fn cut(&self) -> Result<()> {
        ip(&format!("-n {} link set veth0 down", self.names[0]))
    }
}

impl Drop for Networks {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = ip(&format!("netns del {name}"));
        }
    }
}

fn ip(arguments: &str) -> Result<()> {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().context("running ip(8)")?;
    ensure!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
