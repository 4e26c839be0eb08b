//! Tests of `parlour top`: the text of `--once`, and the live view in a terminal.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod common;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use common::{DEADLINE, Home, Killed, Running, restore_interrupts, text, wait_until_readable};
use parlour::hub::{Event, HubOptions, SlowClientPolicy};
use parlour::{ConnectOptions, Connection, ErrorKind, ServerOptions, WaitReason, inspect};
use rustix::io::ioctl_fionread;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Action, LocalModes, Winsize, tcflow, tcgetattr, tcsetwinsize};

/// The timeout of a wait beside a thousand clients, on a machine that does other work as well.
const LONG: Duration = Duration::from_secs(120);

/// Runs a step again and again until it returns something.
#[track_caller]
fn until<T>(what: &str, mut step: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LONG;
    loop {
        if let Some(found) = step() {
            return found;
        }
        assert!(Instant::now() < deadline, "timed out: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A server of the name `room` that echoes, with three clients: this process, which does not read and so is stuck, one
/// that is stopped, and one that is idle.
struct Room {
    home: Home,
    server: Running,
    _stuck: Connection,
    stopped: Killed,
    _idle: Connection,
}

impl Room {
    fn new() -> Room {
        let home = Home::new();
        let server = home.serve(&["room", "--on", "unix", "--echo"]);
        let address = home.name("room").to_str().unwrap().to_owned();
        let stopped = Killed(home.command(&["connect", "room", "--receive"]).stdin(Stdio::piped()).spawn().unwrap());
        let clients = || inspect::stats(&address).unwrap().clients;
        until("a client", || (clients().len() == 1).then_some(()));
        kill_process(Pid::from_child(&stopped.0), Signal::STOP).unwrap();
        let idle = Connection::connect(&address).unwrap();
        let mut stuck = Connection::connect(&address).unwrap();
        // The server sends each message back, until the channel is full.
        while stuck.send_timeout(&[7; 32 * 1024][..], Duration::from_millis(50)).is_ok() {
            if clients().iter().any(|client| client.stuck().is_some_and(|waiting| !waiting.time.is_zero())) {
                break;
            }
        }
        let is_stuck = |client: &parlour::ClientStats| {
            client.stuck().is_some_and(|waiting| waiting.reason == WaitReason::Space && waiting.time.as_secs() >= 1)
        };
        until("a client that is stuck", || clients().iter().any(is_stuck).then_some(()));
        Room { home, server, _stuck: stuck, stopped, _idle: idle }
    }
}

#[test]
fn once_prints_who_is_stuck_and_who_is_stopped() {
    let room = Room::new();
    let printed = room.home.stdout(&["top", "room", "--once", "--interval", "100ms"], b"");
    let me = std::process::id();
    let lines: Vec<&str> = printed.lines().collect();
    assert!(
        lines[0].starts_with("room   live   up ") && lines[0].contains(&format!("pid {}, uid ", room.server.pid())),
        "{printed}"
    );
    assert!(lines[1].starts_with("3 clients (1 stuck)  in "), "{printed}");
    assert!(lines[2].contains(&format!(": the server waits for the client to read, pid {me} (")), "{printed}");
    assert!(lines[3].trim_start().starts_with("PID"), "{printed}");
    let row = |pid: u32| lines[4..].iter().find(|line| line.split_whitespace().next() == Some(&*pid.to_string()));
    assert!(row(room.stopped.0.id()).unwrap().contains("stopped, idle"), "{printed}");
    // Two clients are of this process, and the one that is stuck comes first.
    assert!(row(me).unwrap().contains("stuck") && row(me).unwrap().contains("not reading"), "{printed}");
    assert_eq!(lines.len(), 7, "{printed}");
    let filtered = room.home.stdout(
        &[
            "top",
            "room",
            "--once",
            "--interval",
            "100ms",
            "--sort",
            "pid",
            "--filter",
            &room.stopped.0.id().to_string(),
        ],
        b"",
    );
    assert!(filtered.lines().last().unwrap().contains("stopped"), "{filtered}");
    let names = room.home.stdout(&["top", "--once", "--interval", "100ms"], b"");
    assert!(names.starts_with("parlour   1 names   3 clients   1 stuck\nroom: stuck for "), "{names}");
    assert!(names.contains("\nroom "), "{names}");
}

#[test]
fn names_without_servers_and_wrong_options_are_told() {
    let home = Home::new();
    let empty = home.stdout(&["top", "--once", "--interval", "100ms"], b"");
    assert_eq!(empty, "parlour   0 names   0 clients   0 stuck\n");
    for (args, code, part) in [
        (&["top", "nobody", "--once"][..], 3, "nobody"),
        (&["top"], 2, "use --once"),
        (&["top", "--once", "--sort", "pid"], 2, "names cannot be sorted in this order"),
        (&["top", "--once", "--interval", "1ms"], 2, "100ms"),
        (&["top", "no/name", "--once"], 2, "no/name"),
    ] {
        let output = home.run(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains(part) && output.stdout.is_empty(), "{}", text(&output.stderr));
    }
}

/// A terminal without a program that draws it, and `parlour top` in it.
struct Terminal {
    controller: File,
    user: File,
    top: Killed,
    shown: Vec<u8>,
}

impl Terminal {
    fn new(home: &Home, args: &[&str]) -> Terminal {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&controller).unwrap();
        unlockpt(&controller).unwrap();
        let path = ptsname(&controller, Vec::new()).unwrap();
        let user = File::options().read(true).write(true).open(path.to_str().unwrap()).unwrap();
        tcsetwinsize(&user, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let mut command = home.command(args);
        command.stdin(user.try_clone().unwrap()).stdout(user.try_clone().unwrap()).stderr(Stdio::piped());
        let top = Killed(command.spawn().unwrap());
        Terminal { controller: File::from(controller), user, top, shown: Vec::new() }
    }

    /// Reads until the terminal has got this text.
    #[track_caller]
    fn wait_for(&mut self, part: &str) {
        let deadline = Instant::now() + DEADLINE;
        while !text(&self.shown).contains(part) {
            // The view is drawn again and again.
            assert!(Instant::now() < deadline, "the terminal never shows {part:?}");
            wait_until_readable(&self.controller);
            let mut bytes = [0; 4096];
            let count = self.controller.read(&mut bytes).unwrap();
            self.shown.extend(&bytes[..count]);
        }
    }

    /// Waits for the end of the program, which must leave the terminal as it was.
    #[track_caller]
    fn ends(mut self) {
        self.wait_for("\x1b[?1049l");
        let status = Running::wait_for(&mut self.top.0);
        let mut said = String::new();
        self.top.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!((status.code(), &*said), (Some(0), ""));
        assert!(text(&self.shown).contains("\x1b[?25h"), "the cursor is shown");
        let modes = tcgetattr(&self.user).unwrap().local_modes;
        assert!(modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG), "{modes:?}");
    }
}

#[test]
fn a_key_and_a_signal_end_the_view_and_the_terminal_is_as_before() {
    let home = Home::new();
    let _server = home.serve(&["room", "--echo"]);
    for key in [&b"q"[..], b"\x03"] {
        let mut terminal = Terminal::new(&home, &["top"]);
        terminal.wait_for("q quit");
        terminal.controller.write_all(key).unwrap();
        terminal.ends();
    }
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let mut terminal = Terminal::new(&home, &["top", "room"]);
        terminal.wait_for("q quit");
        kill_process(Pid::from_child(&terminal.top.0), signal).unwrap();
        terminal.ends();
    }
}

#[test]
fn the_view_ends_with_its_terminal_and_while_that_takes_no_output() {
    let home = Home::new();
    let _server = home.serve(&["room", "--echo"]);
    let mut terminal = Terminal::new(&home, &["top"]);
    terminal.wait_for("q quit");
    let Terminal { controller, user, mut top, .. } = terminal;
    drop((controller, user));
    assert_eq!(Running::wait_for(&mut top.0).code(), Some(0));

    // The terminal stops its output, as Ctrl-S does. Ctrl-L draws the screen anew.
    let mut terminal = Terminal::new(&home, &["top"]);
    terminal.wait_for("q quit");
    tcflow(&terminal.user, Action::OOff).unwrap();
    terminal.controller.write_all(b"\x0c").unwrap();
    until("the key is read", || (ioctl_fionread(&terminal.user).unwrap() == 0).then_some(()));
    kill_process(Pid::from_child(&terminal.top.0), Signal::TERM).unwrap();
    assert_eq!(Running::wait_for(&mut terminal.top.0).code(), Some(0));
}

/// A server of tmux(1) of its own, with one window.
struct Tmux {
    socket: PathBuf,
}

impl Tmux {
    /// Starts a shell in a terminal of this size. Returns `None` without tmux.
    fn new(home: &Home, size: [&str; 2]) -> Option<Tmux> {
        let tmux = Tmux { socket: home.path().join(".tmux") };
        let mut command = tmux.command(&["new-session", "-d", "-x", size[0], "-y", size[1], "env PS1='$ ' sh"]);
        command.env("PARLOUR_DIR", home.path()).env("LC_ALL", "C.UTF-8").env_remove("TMUX");
        restore_interrupts(&mut command);
        match command.status() {
            Ok(status) if status.success() => Some(tmux),
            other => {
                println!("skipped: tmux does not run here ({other:?})");
                None
            }
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(&self.socket).args(["-f", "/dev/null"]).args(args).stderr(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> String {
        text(&self.command(args).output().unwrap().stdout)
    }

    fn keys(&self, keys: &[&str]) {
        self.run(&[&["send-keys"], keys].concat());
    }

    /// Waits until the screen fulfils this, and returns its lines.
    #[track_caller]
    fn shows(&self, what: &str, is_right: impl Fn(&[&str]) -> bool) -> String {
        until(what, || {
            let screen = self.run(&["capture-pane", "-p"]);
            is_right(&screen.lines().collect::<Vec<_>>()).then_some(screen)
        })
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        self.run(&["kill-server"]);
    }
}

#[test]
fn keys_work_in_a_terminal_of_any_size() {
    let room = Room::new();
    let _other = room.home.serve(&["quiet", "--echo"]);
    let Some(tmux) = Tmux::new(&room.home, ["80", "24"]) else { return };
    let program = env!("CARGO_BIN_EXE_parlour");
    tmux.keys(&[&format!("{program} top"), "Enter"]);
    let has = |lines: &[&str], part: &str| lines.iter().any(|line| line.contains(part));
    tmux.shows("the names", |lines| {
        lines[0] == "parlour   2 names   3 clients   1 stuck"
            && lines[3].starts_with("room ")
            && lines[4].starts_with("quiet ")
            && lines[23].starts_with("q quit")
    });
    tmux.keys(&["/", "q", "u"]);
    tmux.shows("the filter", |lines| lines[3].starts_with("quiet ") && lines[23].starts_with("filter: qu_"));
    tmux.keys(&["Escape"]);
    tmux.shows("all names", |lines| lines[3].starts_with("room "));
    tmux.keys(&["Enter"]);
    let me = std::process::id().to_string();
    tmux.shows("the clients", |lines| {
        lines[0].starts_with("room   live   up ")
            && lines[3].contains(&format!("the server waits for the client to read, pid {me} ("))
            && lines[5].trim_start().starts_with(&me)
            && lines[5].contains("stuck")
            && has(lines, "stopped, idle")
    });
    tmux.keys(&["t"]);
    tmux.shows("one client", |lines| lines[0].starts_with("room   [only stuck] ") && lines[6].is_empty());
    tmux.run(&["resize-window", "-x", "200", "-y", "60"]);
    tmux.keys(&["t", "s"]);
    tmux.shows("the wide table", |lines| {
        lines.len() >= 60 && lines[4].contains("CONNECTED") && lines[59].contains("s sort: bytes")
    });
    tmux.keys(&["Escape"]);
    tmux.shows("the names again", |lines| lines[0].starts_with("parlour   2 names"));
    tmux.keys(&["C-z"]);
    tmux.shows("the shell", |lines| has(lines, "Stopped") && !has(lines, "q quit"));
    tmux.keys(&["fg", "Enter"]);
    tmux.shows("the names after fg", |lines| lines[0].starts_with("parlour   2 names"));
    tmux.keys(&["q"]);
    tmux.shows("the shell at the end", |lines| has(lines, "$") && !has(lines, "q quit"));
    tmux.keys(&["echo ended $?", "Enter"]);
    tmux.shows("the exit code", |lines| has(lines, "ended 0"));
}

/// A process whose name would control the terminal.
fn hostile_client(home: &Home) -> Option<Child> {
    let program = home.path().join("\u{1b}]0;X\u{7}\u{202e}");
    std::fs::copy(env!("CARGO_BIN_EXE_parlour"), &program).unwrap();
    let mut command = Command::new(&program);
    command.args(["connect", "room", "--receive"]).env("PARLOUR_DIR", home.path());
    command.stdin(Stdio::piped()).spawn().ok()
}

#[test]
fn the_name_of_a_program_does_not_control_the_terminal() {
    let home = Home::new();
    let _server = home.serve(&["room", "--echo"]);
    let Some(client) = hostile_client(&home) else { return };
    let _client = Killed(client);
    let printed = until("the client", || {
        let printed = home.stdout(&["top", "room", "--once", "--interval", "100ms"], b"");
        printed.contains(r"\x1b]0;X\x07").then_some(printed)
    });
    assert!(!printed.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{printed:?}");
    let mut terminal = Terminal::new(&home, &["top", "room"]);
    terminal.wait_for(r"\x1b]0;X");
    assert!(!text(&terminal.shown).contains("\u{1b}]0;X"));
    terminal.controller.write_all(b"q").unwrap();
    terminal.ends();
}

/// A hub with a thousand clients of this process, which echoes.
struct Crowd {
    clients: Vec<Connection>,
    address: String,
    shutdown: parlour::ShutdownHandle,
    serving: Option<thread::JoinHandle<()>>,
}

impl Crowd {
    const CLIENTS: usize = 1000;

    /// Returns `None` if this process may not have as many descriptors.
    fn new(home: &Home) -> Option<Crowd> {
        // A connection takes a descriptor on each side.
        let needed = 2 * Crowd::CLIENTS as u64 + 200;
        let limit = getrlimit(Resource::Nofile);
        if limit.maximum.is_some_and(|maximum| maximum < needed) {
            println!("skipped: the hard limit on descriptors is {:?}, and {needed} are needed", limit.maximum);
            return None;
        }
        if limit.current.is_some_and(|current| current < needed) {
            setrlimit(Resource::Nofile, Rlimit { current: Some(needed), ..limit }).unwrap();
        }
        let address = home.name("room").to_str().unwrap().to_owned();
        let room = Crowd::CLIENTS + 10;
        let options = ServerOptions::new().connections_max(room).connections_per_uid_max(room);
        // A hub records the messages of all clients in one thread, so a tap loses none.
        let mut hub = HubOptions::from(options).slow_client_policy(SlowClientPolicy::Refuse).bind(&address).unwrap();
        let shutdown = hub.shutdown_handle();
        let serving = thread::spawn(move || {
            loop {
                match hub.next_event() {
                    // The client that does not read may have too much already.
                    Ok(Event::Message(client, message)) => drop(hub.send(client, &message)),
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::Shutdown => return,
                    Err(error) => panic!("{error}"),
                }
            }
        });
        let options = ConnectOptions::new().timeout(LONG);
        let clients = (0..Crowd::CLIENTS).map(|_| options.connect(&address).unwrap()).collect();
        Some(Crowd { clients, address, shutdown, serving: Some(serving) })
    }

    /// Each client makes a round trip.
    fn talk(&mut self) {
        self.clients.iter_mut().for_each(|client| client.send("load").unwrap());
        for client in &mut self.clients {
            assert_eq!(client.recv_timeout(LONG).unwrap().unwrap(), b"load");
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.shutdown.shutdown();
        let outcome = self.serving.take().unwrap().join();
        assert!(outcome.is_ok() || thread::panicking());
    }
}

#[test]
fn among_a_thousand_clients_under_load_the_one_that_does_not_read_is_named_and_its_last_message_shown() {
    let home = Home::new();
    let Some(mut crowd) = Crowd::new(&home) else { return };
    // Nobody reads the output of this client, so it does not read either.
    let mut command = home.command(&["connect", "room"]);
    let mut client = Killed(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap());
    let (pid, mut stdin) = (client.0.id(), client.0.stdin.take().unwrap());
    let address = crowd.address.clone();
    let counters = || inspect::stats(&address).unwrap().clients.into_iter().find(|client| client.pid == Some(pid));
    let tap = ["tap", "room", "--client", &pid.to_string(), "--direction", "in", "--max", "9"];
    let mut tap = Killed(home.command(&tap).stdout(Stdio::piped()).spawn().unwrap());
    let (send, tapped) = mpsc::channel();
    let mut lines = BufReader::new(tap.0.stdout.take().unwrap()).lines();
    thread::spawn(move || while lines.next().is_some_and(|line| send.send(line.unwrap()).is_ok()) {});

    // TIME PID in LENGTH TEXT. A tap begins with a message.
    let mut number = 0;
    let mut last = until("the tap begins", || {
        number += 1;
        writeln!(stdin, "{number:09}").unwrap();
        tapped.try_recv().ok()
    });
    crowd.talk();
    // The client ends with the thread's result.
    let _stdin = thread::spawn(move || {
        let long = "x".repeat(16 * 1024);
        // Their echoes are more than the channel takes, and less than the hub keeps.
        for number in number + 1..=number + 80 {
            writeln!(stdin, "{number:09} {long}")?;
        }
        std::io::Result::Ok(stdin)
    });
    let is_last = |line: &str, received: u64| line.split(' ').nth(4) == Some(&*format!("{received:09}"));
    until("the tap shows the last message", || {
        last = tapped.try_iter().last().unwrap_or_else(|| std::mem::take(&mut last));
        let client = counters().unwrap();
        let is_stuck = client.stuck().is_some_and(|waiting| waiting.reason == WaitReason::Space);
        (is_stuck && is_last(&last, client.received.messages)).then_some(())
    });
    until("the client is stuck for a second", || {
        crowd.talk();
        counters().unwrap().stuck().is_some_and(|waiting| waiting.time.as_secs() >= 1).then_some(())
    });
    let is_done = AtomicBool::new(false);
    let printed = thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                crowd.talk();
            }
        });
        let printed = home.command(&["top", "room", "--once", "--interval", "100ms"]).output();
        is_done.store(true, Ordering::Relaxed);
        text(&printed.unwrap().stdout)
    });
    let lines: Vec<&str> = printed.lines().take(5).collect();
    assert!(lines[1].starts_with("1001 clients (1 stuck)  in "), "{lines:?}");
    assert!(lines[2].starts_with("stuck for ") && lines[2].contains(&format!(", pid {pid} (parlour)")), "{lines:?}");
    assert_eq!(lines[4].split_whitespace().next(), Some(&*pid.to_string()), "it is in the first row: {lines:?}");
}
