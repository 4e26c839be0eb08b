//! The first steps of docs/bridge.md, done literally: both hosts are on this one, with a base directory each.
#![cfg(feature = "program")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use parlour::{ConnectOptions, Server};

/// The time for everything.
const PATIENCE: Duration = Duration::from_secs(60);

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns the blocks of the section in this language.
fn blocks(section: &str, language: &str) -> Vec<String> {
    let mark = format!("```{language}\n");
    section.split(&mark).skip(1).map(|block| block.split("```").next().unwrap().to_owned()).collect()
}

struct Host {
    home: PathBuf,
}

impl Host {
    fn new(directory: &Path, name: &str) -> Self {
        let home = directory.join(name);
        fs::create_dir(&home).unwrap();
        Self { home }
    }

    /// Returns a command of the guide, in the home directory and with the base directory of this host.
    fn command(&self, line: &str) -> Command {
        let mut words = line.split_whitespace();
        let program = match words.next().unwrap() {
            "parlour-bridge" => env!("CARGO_BIN_EXE_parlour-bridge"),
            other => other,
        };
        let mut command = Command::new(program);
        command.args(words).current_dir(&self.home).env("PARLOUR_DIR", self.home.join("base"));
        command
    }

    fn run(&self, line: &str) {
        let output = self.command(line).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn start(&self, line: &str) -> Process {
        Process(self.command(line).spawn().unwrap())
    }
}

#[test]
fn two_hosts_talk_after_the_first_steps_of_the_guide() {
    let guide = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/bridge.md")).unwrap();
    let section = guide.split("\n## ").find(|section| section.starts_with("Two hosts in five minutes")).unwrap();
    let (commands, configurations) = (blocks(section, "sh"), blocks(section, "toml"));
    let [_, certificates, copy, start, ..] = &commands[..] else { panic!("{commands:?}") };
    let [of_a, of_b] = &configurations[..] else { panic!("{configurations:?}") };

    let directory = tempfile::tempdir().unwrap();
    let (a, b) = (Host::new(directory.path(), "a"), Host::new(directory.path(), "b"));
    certificates.lines().for_each(|line| a.run(line));
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    assert!(of_a.contains("0.0.0.0:7477") && of_b.contains("192.0.2.1:7477"));
    fs::write(a.home.join("realm/bridge.toml"), of_a.replace("0.0.0.0:7477", &free)).unwrap();
    // `ssh` and `scp` without their network.
    for line in copy.lines() {
        let line = line.replace("ssh b.example ", "").replace("scp", "cp");
        let host = if line.starts_with("cp") { &a } else { &b };
        host.run(&line.replace("b.example:realm", &b.home.join("realm").display().to_string()));
    }
    fs::write(b.home.join("realm/bridge.toml"), of_b.replace("192.0.2.1:7477", &free)).unwrap();

    let _server = {
        let server = Server::bind(a.home.join("base/wc").to_str().unwrap()).unwrap();
        std::thread::spawn(move || {
            let mut client = server.accept().unwrap();
            while let Ok(Some(message)) = client.recv() {
                let words = String::from_utf8_lossy(&message).split_whitespace().count();
                client.send(words.to_string().as_bytes()).unwrap();
            }
        })
    };
    let [check, run] = start.lines().collect::<Vec<_>>()[..] else { panic!("{start}") };
    let _bridges = [&a, &b].map(|host| {
        host.run(check);
        host.start(run)
    });
    let address = b.home.join("base/wc");
    let options = ConnectOptions::new().wait_for_server(PATIENCE);
    let mut client = options.connect(address.to_str().unwrap()).unwrap();
    client.send("one two three").unwrap();
    assert_eq!(client.recv_timeout(PATIENCE).unwrap().unwrap(), b"3");
}
