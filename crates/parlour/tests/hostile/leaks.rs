//! The trials themselves: whatever one of them leaves behind is found, of every kind that is looked for.
#![allow(unsafe_code)]

use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::ptr;
use std::thread;
use std::time::Duration;

use libtest_mimic::Trial;
use parlour::{Server, Transport};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap};

use crate::by_hand::place::client_files;
use crate::support::base::leaves_files;
use crate::support::{Base, alone, trial};

/// A leak: the trial that makes it, and what is said of it.
type Leak = (&'static str, fn(), &'static str);

const LEAKS: &[Leak] = &[
    ("leaks::none", || drop(room()), ""),
    ("leaks::a_descriptor", descriptor, "does not hold what it held"),
    ("leaks::a_thread", running_thread, "does not hold what it held"),
    ("leaks::a_mapping", mapping, "does not hold what it held"),
    ("leaks::a_child", child, "does not hold what it held"),
    ("leaks::a_child_of_a_child", grandchild, "processes of the trial are left"),
    ("leaks::a_file_of_a_client", file_of_a_client, "files are left"),
    ("leaks::a_socket", socket, "files are left"),
    ("leaks::a_file_that_no_server_removes", foreign_file, "files are left"),
    ("leaks::a_server", server, "somebody still has the name"),
];

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![trial("whatever_a_trial_leaves_behind_is_found", all_are_found)];
    // They are no trials of anything; they are there for the one above.
    if alone::wanted().is_some_and(|name| name.starts_with("leaks::")) {
        trials.extend(LEAKS.iter().map(|&(name, leak, _)| trial(name, leak)));
    }
    trials
}

fn all_are_found() {
    thread::scope(|scope| {
        for (name, _, expected) in LEAKS {
            scope.spawn(move || {
                let said = alone::start(name, Duration::from_secs(30)).err().unwrap_or_default();
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
    // SAFETY: the kernel chooses a place where nothing is, and nobody touches it.
    unsafe { mmap(ptr::null_mut(), 4096, ProtFlags::READ, MapFlags::SHARED, &memory, 0) }.unwrap();
}

fn child() {
    std::mem::forget(Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap());
}

fn grandchild() {
    // Its parent is gone at once; none of the descriptors are ours.
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
