//! The contender for Python's `multiprocessing.connection`, with both ends in Python.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use parlour_bench::{Client, Contender, Outcome, Ready, Turn, Work};

/// The module of Python's standard library for the same purpose. The measurement includes the cost of the interpreter.
pub(crate) struct Python;

/// The source of both ends.
const PROGRAM: &str = include_str!("python.py");

impl Contender for Python {
    fn name(&self) -> &str {
        "python-multiprocessing"
    }

    fn version(&self) -> String {
        let said = Command::new("python3").arg("--version").output();
        said.map_or_else(|_| "no python3".to_owned(), |said| String::from_utf8_lossy(&said.stdout).trim().to_owned())
    }

    fn advice(&self) -> &str {
        "multiprocessing.connection with AF_UNIX; send_bytes and recv_bytes, which do not pickle (The Python Library \
         Reference, multiprocessing, Connection objects)"
    }

    fn supports(&self, work: Work) -> bool {
        // The function `wait` registers all connections on each call, which would dominate the measurement of a crowd.
        !matches!(work, Work::Crowd { .. } | Work::Calls { .. })
    }

    fn serve(&self, place: &Path, work: Work, _ready: Ready) -> Result<()> {
        // Python replaces this process and prints `ready` itself.
        let error = python("server", place, &serde_json::to_string(&work)?).exec();
        Err(error).context("starting python3")
    }

    fn connect(&self, _place: &Path, _work: Work) -> Result<Box<dyn Client>> {
        bail!("the client in Python runs whole turns only")
    }

    fn drive(&self, place: &Path, turn: Turn, start: &mut dyn FnMut() -> Result<()>) -> Result<Outcome> {
        let mut client = python("client", place, &serde_json::to_string(&turn)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting python3")?;
        let mut stdin = client.stdin.take().context("taking stdin of the client in Python")?;
        let mut lines = BufReader::new(client.stdout.take().context("taking stdout of the client in Python")?).lines();
        let mut line = || lines.next().context("the client in Python ended early")?.context("reading its output");
        let said = line()?;
        ensure!(said == "warm", "the client in Python printed {said:.100}");
        start()?;
        writeln!(stdin, "go")?;
        let said = line()?;
        client.wait()?;
        serde_json::from_str(&said).with_context(|| format!("the client in Python printed {said:.100}"))
    }
}

fn python(side: &str, place: &Path, what: &str) -> Command {
    let mut command = Command::new("python3");
    command.args(["-I", "-c", PROGRAM, side]).arg(place).arg(what);
    command
}
