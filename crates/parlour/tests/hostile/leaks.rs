//! Tests of the test support: everything that a trial leaves behind is found, for every kind of resource that is
//! checked.
#![allow(unsafe_code)]

use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::ptr;
use std::thread;
use std::time::Duration;

use parlour::{Server, Transport};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap};

use crate::by_hand::place::client_files;
use crate::support::base::leaves_files;
use crate::support::{Base, alone, trials};

/// A leak of a trial: its name, the function that causes it, and the expected report.
type Leak = (&'static str, fn(), &'static str);

const LEAKS: &[Leak] = &[
    ("nothing", || drop(room()), ""),
    ("a_descriptor", descriptor, "the resources of process"),
    ("a_thread", running_thread, "the resources of process"),
    ("a_mapping", mapping, "the resources of process"),
    ("a_child", child, "the resources of process"),
    ("a_child_of_a_child", grandchild, "the trial left processes"),
    ("a_file_of_a_client", file_of_a_client, "files are left"),
    ("a_socket", socket, "files are left"),
    ("a_file_that_no_server_removes", foreign_file, "files are left"),
    ("a_server", server, "is still held"),
];

trials! {
    everything_that_a_trial_leaves_behind_is_found,
    a_trial_that_leaves_leak_behind(leak in leaks()),
}

const LEAKY: &str = "a_trial_that_leaves_";

/// Returns all leaks in a process that runs one of them, and otherwise none, because they are not trials of the
/// library.
fn leaks() -> &'static [Leak] {
    if alone::wanted().is_some_and(|name| name.starts_with(LEAKY)) { LEAKS } else { &[] }
}

fn a_trial_that_leaves_leak_behind((_, leak, _): Leak) {
    leak();
}

fn everything_that_a_trial_leaves_behind_is_found() {
    thread::scope(|scope| {
        for (name, _, expected) in LEAKS {
            scope.spawn(move || {
                let name = format!("{LEAKY}{name}_behind");
                let said = alone::start(&name, Duration::from_secs(30)).err().unwrap_or_default();
                assert!(said.contains(expected) && said.is_empty() == expected.is_empty(), "{name}: {said:?}");
            });
        }
    });
}

fn room() -> (Server, Base) {
    let base = Base::new();
    (Server::bind(base.address(Transport::Unix, "leaky")).unwrap(), base)
}

fn descriptor() {
    std::mem::forget(File::open("/dev/null").unwrap());
}

fn running_thread() {
    thread::spawn(thread::park);
}

fn mapping() {
    let memory = memfd_create("parlour-leak", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&memory, 4096).unwrap();
    // SAFETY: creates a mapping at an address that the kernel chooses, which overlaps no existing mapping. No code
    // accesses it.
    unsafe { mmap(ptr::null_mut(), 4096, ProtFlags::READ, MapFlags::SHARED, &memory, 0) }.unwrap();
}

fn child() {
    std::mem::forget(Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap());
}

fn grandchild() {
    // The shell exits immediately. The grandchild inherits no output descriptor of this process.
    let mut shell = Command::new("sh");
    shell.args(["-c", "sleep 60 >/dev/null 2>&1 &"]);
    assert!(shell.status().unwrap().success());
}

fn file_of_a_client() {
    let (server, _base) = room();
    fs::write(server.path().join("c/left"), "").unwrap();
    assert_eq!(client_files(server.path()), ["left"]);
}

fn socket() {
    let (server, _base) = room();
    let socket = server.path().join("unix");
    let kept = server.path().join("kept");
    fs::rename(&socket, &kept).unwrap();
    drop(server);
    fs::rename(kept, socket).unwrap();
}

fn foreign_file() {
    leaves_files();
    let (server, _base) = room();
    fs::write(server.path().join("left"), "").unwrap();
}

fn server() {
    let (server, _base) = room();
    leaves_files();
    std::mem::forget(server);
}
