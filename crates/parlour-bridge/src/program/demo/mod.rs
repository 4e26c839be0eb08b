//! `demo`: three hosts on this machine, each with a base directory and a bridge of its own, which talk over loopback.

mod role;
mod stage;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use parlour::{ConnectOptions, Connection};
use parlour_bridge::status::{HostState, Status, text};
use rustix::process::Signal;

pub(crate) use role::{bridge, server};
use stage::Stage;

use super::signals::Signals;
use super::{Done, failed, print, status};

/// The time for each step. On a machine that does nothing else, all together take one to two seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// The pause between two looks at the status of a bridge.
const PAUSE: Duration = Duration::from_millis(20);

/// The stage, until the demo has ended or was interrupted.
type Shared = Arc<Mutex<Option<Stage>>>;

/// Runs the demo. A signal ends it early, with its processes and its directory.
pub(crate) fn run() -> Done {
    let begin = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| failed("demo", error, "raise the limits of this process"))?;
    let stage = Stage::new()?;
    let shared: Shared = Arc::new(Mutex::new(Some(stage)));
    let steps = Steps { begin, shared: Arc::clone(&shared) };
    let done = runtime.block_on(async move {
        let mut signals = Signals::to_end().map_err(|error| failed("demo", error, "try again"))?;
        tokio::select! {
            done = tokio::task::spawn_blocking(move || steps.run()) => {
                done.unwrap_or_else(|error| Err(failed("demo", error, "report this")))
            }
            _ = signals.next() => Err(failed("demo", "was interrupted", "run it again")),
        }
    });
    // Also the steps that are still waiting for something find no stage any more.
    let stage = shared.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(stage) = stage {
        if done.is_err() {
            stage.print_logs();
        }
        stage.end()?;
    }
    runtime.shutdown_background();
    done?;
    say(begin, "every process has ended, and the directory is removed")
}

/// Prints a step, with the time since the beginning.
fn say(begin: Instant, step: &str) -> Done {
    print(&format!("{:5.2} s  {step}\n", begin.elapsed().as_secs_f64()))
}

struct Steps {
    begin: Instant,
    shared: Shared,
}

impl Steps {
    fn say(&self, step: &str) -> Done {
        say(self.begin, step)
    }

    /// Calls a function with the stage, unless the demo was interrupted.
    fn stage<T>(&self, f: impl FnOnce(&mut Stage) -> Result<T, Vec<super::Finding>>) -> Result<T, Vec<super::Finding>> {
        let mut stage = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        stage.as_mut().map_or_else(|| Err(failed("demo", "was interrupted", "run it again")), f)
    }

    fn run(&self) -> Done {
        let directory = self.stage(|stage| Ok(stage.path().to_owned()))?;
        self.say(&format!("three hosts on this machine, in {}, each with a certificate", directory.display()))?;
        let server = self.stage(|stage| stage.start_host("a"))?;
        self.say(&format!("host a: the server `wc` (process {server}), and a bridge that exports it to host b"))?;
        self.stage(|stage| stage.start_bridge("b"))?;
        self.say("host b: no server, and a bridge that imports `wc` from the hosts a and c")?;

        let mut client = self.client()?;
        let (answer, took) = ask(&mut client, "hello")?;
        self.say(&format!("a client on host b connects to `wc` and sends `hello`; it gets `{answer}` in {took}"))?;
        self.expect(answer.starts_with("host a"), "the server on host a has not answered")?;

        let other = self.stage(|stage| stage.start_host("c"))?;
        let status = self.wait_for_exporters(2)?;
        let up = status.hosts.iter().filter(|host| host.state == HostState::Up).count();
        self.say(&format!(
            "host c: a second server `wc` (process {other}); the bridge on host b has links to {up} hosts"
        ))?;

        let killed = Instant::now();
        self.stage(|stage| stage.kill("server a", Signal::KILL))?;
        let end = match client.recv_timeout(PATIENCE) {
            Ok(None) => "the end of its conversation".to_owned(),
            Ok(Some(_)) => return Err(failed("demo", "the client got a message of a killed server", "report this")),
            Err(error) => format!("an error: {error}"),
        };
        let took = format!("{:.1} ms", killed.elapsed().as_secs_f64() * 1e3);
        self.say(&format!("the server on host a is killed; the client on host b is told after {took}: {end}"))?;

        drop(client);
        let mut client = self.client()?;
        let (answer, took) = ask(&mut client, "hello again")?;
        self.say(&format!("the next client on host b sends `hello again`; it gets `{answer}` in {took}"))?;
        self.expect(answer.starts_with("host c"), "the server on host c has not taken over")?;
        let status = self.wait_for_exporters(1)?;
        self.say("`parlour-bridge status` on host b prints:")?;
        print(&text::lines(&status).lines().map(|line| format!("         | {line}\n")).collect::<String>())
    }

    /// Connects as any client on host b: by the name.
    fn client(&self) -> Result<Connection, Vec<super::Finding>> {
        let address = self.stage(|stage| Ok(stage.address("b", "wc")))?;
        let client = ConnectOptions::new().wait_for_server(PATIENCE).connect(address);
        client.map_err(|error| failed("demo", error, "see the lines of the bridges"))
    }

    /// Waits until the bridge on host b knows this many exporters.
    fn wait_for_exporters(&self, count: usize) -> Result<Status, Vec<super::Finding>> {
        let (address, begin) =
            (self.stage(|stage| Ok(stage.address("b", parlour_bridge::status::NAME)))?, Instant::now());
        loop {
            let text = status::ask(&address).map_err(|error| failed("demo", error, "see the lines of the bridges"))?;
            let status = Status::parse(&text).map_err(|error| failed("demo", error, "report this"))?;
            if status.imports.iter().any(|import| import.exporters.len() == count) {
                return Ok(status);
            }
            self.expect(begin.elapsed() < PATIENCE, "the number of exporters has not become what it should be")?;
            std::thread::sleep(PAUSE);
        }
    }

    fn expect(&self, is_so: bool, problem: &str) -> Done {
        if is_so { Ok(()) } else { Err(failed("demo", problem, "see the lines of the bridges")) }
    }
}

/// Returns the answer to a message, and the time that it took.
fn ask(client: &mut Connection, message: &str) -> Result<(String, String), Vec<super::Finding>> {
    let begin = Instant::now();
    let answer = client.send(message).and_then(|()| client.recv_timeout(PATIENCE));
    let answer = answer.map_err(|error| failed("demo", error, "see the lines of the bridges"))?;
    let answer = answer.ok_or_else(|| failed("demo", "the server has ended", "see the lines of the bridges"))?;
    let took = format!("{:.2} ms", begin.elapsed().as_secs_f64() * 1e3);
    Ok((String::from_utf8_lossy(&answer).into_owned(), took))
}
