//! Tests of standard streams that another process has made non-blocking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod common;

use std::io::{PipeReader, Read, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

use common::{DEADLINE, Home, Running, text};
use parlour::Server;
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::{ioctl_fionbio, ioctl_fionread};

/// The smallest capacity of a pipe.
const PIPE_BYTES: usize = 4096;

/// Waits until a pipe has at least this many bytes, or `is_over` is true.
fn wait_for_bytes(reader: &PipeReader, count: u64, mut is_over: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while ioctl_fionread(reader).unwrap() < count && !is_over() {
        assert!(Instant::now() < deadline, "the pipe is never full");
        std::thread::yield_now();
    }
}

/// Runs a command whose stdout is a small non-blocking pipe, which is read only once it is full. Returns the exit code
/// and the output.
fn run(command: &mut Command) -> (Option<i32>, Vec<u8>) {
    let (mut reader, writer) = std::io::pipe().unwrap();
    rustix::pipe::fcntl_setpipe_size(&writer, PIPE_BYTES).unwrap();
    ioctl_fionbio(&writer, true).unwrap();
    let kept = writer.try_clone().unwrap();
    let mut child = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    command.stdout(Stdio::null());
    wait_for_bytes(&reader, PIPE_BYTES as u64, || child.try_wait().unwrap().is_some());
    assert!(fcntl_getfl(&kept).unwrap().contains(OFlags::NONBLOCK), "the flag of the shared description was changed");
    drop(kept);
    let mut output = Vec::new();
    reader.read_to_end(&mut output).unwrap();
    (child.wait().unwrap().code(), output)
}

#[test]
fn a_non_blocking_stdout_gets_all_output_of_every_command() {
    let home = Home::new();
    let _echo = home.serve(&["echo", "--echo"]);
    let many: Vec<_> = (0..40)
        .map(|number| Server::bind(home.name(&format!("a-name-that-is-rather-long-{number}")).to_str().unwrap()))
        .collect();
    assert!(many.iter().all(Result::is_ok));
    for args in [
        &["help", "serve"][..],
        &["man"],
        &["completions", "bash"],
        &["list"],
        &["list", "--json"],
        &["ping", "echo", "--json", "--count", "100"],
    ] {
        let (code, output) = run(home.command(args).stdin(Stdio::null()));
        assert_eq!(code, Some(0), "{args:?}");
        assert!(output.len() > PIPE_BYTES, "{args:?} prints too little for this test");
        if args[0] != "ping" {
            assert_eq!(text(&output), home.stdout(args, b""), "{args:?}");
        }
        assert!(output.ends_with(b"\n"), "{args:?}");
    }
}

#[test]
fn a_non_blocking_stdout_gets_whole_messages() {
    let home = Home::new();
    let _server = home.serve(&["echo", "--echo"]);
    let message = b"a line of a long message\n".repeat(20_000);
    let input = home.path().join("in");
    std::fs::write(&input, &message).unwrap();
    for args in [&["call", "--raw", "echo"][..], &["connect", "echo"], &["connect", "--raw", "echo"]] {
        let (code, output) = run(home.command(args).stdin(std::fs::File::open(&input).unwrap()));
        assert_eq!(code, Some(0), "{args:?}");
        assert!(output == message, "{args:?}: {} of {} bytes", output.len(), message.len());
    }
}

#[test]
fn a_non_blocking_stdin_is_read_to_its_end() {
    let home = Home::new();
    let _server = home.serve(&["echo", "--echo"]);
    for args in [&["call", "--raw", "echo"][..], &["connect", "echo"], &["demo", "--input", "-"]] {
        let (reader, mut writer) = std::io::pipe().unwrap();
        ioctl_fionbio(&reader, true).unwrap();
        let kept = reader.try_clone().unwrap();
        let mut child = Running::start(home.command(args).stdin(reader));
        writer.write_all(b"one\n").unwrap();
        // Once the first line was read, the pipe is empty and open.
        let deadline = Instant::now() + DEADLINE;
        while ioctl_fionread(&kept).unwrap() > 0 {
            assert!(Instant::now() < deadline, "{args:?} does not read");
            std::thread::yield_now();
        }
        writer.write_all(b"two\n").unwrap();
        drop((writer, kept));
        let printed = child.rest();
        assert_eq!(child.wait().code(), Some(0), "{args:?}: {}", child.stderr());
        if args[0] != "demo" {
            assert_eq!(printed, "one\ntwo\n", "{args:?}");
        }
    }
}

#[test]
fn a_non_blocking_stderr_gets_the_log() {
    let home = Home::new();
    let _server = home.serve(&["echo", "--echo"]);
    let (mut reader, writer) = std::io::pipe().unwrap();
    rustix::pipe::fcntl_setpipe_size(&writer, PIPE_BYTES).unwrap();
    ioctl_fionbio(&writer, true).unwrap();
    // The error of the command line does not fit in the pipe.
    let name = "x".repeat(3 * PIPE_BYTES);
    let mut command = home.command(&["call", "echo", "hi", "--server-uid", &name]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(writer).spawn().unwrap();
    drop(command);
    wait_for_bytes(&reader, PIPE_BYTES as u64, || child.try_wait().unwrap().is_some());
    let mut said = String::new();
    reader.read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(2));
    assert!(said.contains(&name), "{} bytes", said.len());
}
