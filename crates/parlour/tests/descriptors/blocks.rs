//! The properties of a shared block, and the descriptors that are rejected as blocks.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use parlour::{ErrorKind, SharedBytes};
use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags};

use crate::by_hand::shm::{memfd_with, memory_with_holes};
use crate::support::baseline::Baseline;
use crate::support::{Child, Role, data, trials};

trials! {
    a_block_has_the_bytes_that_it_was_built_from,
    no_process_can_change_a_block,
    only_a_sealed_memory_file_is_accepted_as_a_block,
    a_block_with_holes_is_refused_whatever_its_size,
    a_block_can_be_built_while_the_process_forks,
}

const SEALS: SealFlags = SealFlags::WRITE.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::SEAL);

fn a_block_has_the_bytes_that_it_was_built_from() {
    for length in [0, 1, 4095, 4096, 4097, 1 << 20] {
        let bytes = data::message(length, length);
        let copied = SharedBytes::new(bytes).unwrap();
        let built = SharedBytes::build(length, |place| {
            assert!(place.iter().all(|&byte| byte == 0), "the memory is zeroed");
            place.copy_from_slice(bytes);
        })
        .unwrap();
        for block in [copied, built] {
            assert_eq!(block[..], *bytes);
            let again = SharedBytes::try_from(block.as_fd().try_clone_to_owned().unwrap()).unwrap();
            drop(block);
            assert_eq!(again.clone()[..], *bytes, "the memory exists as long as one handle");
        }
    }
}

/// Not even the process that built the block, or any other with its descriptor.
fn no_process_can_change_a_block() {
    let block = SharedBytes::new(&[7; 8192]).unwrap();
    let file = File::from(block.as_fd().try_clone_to_owned().unwrap());
    assert!(file.write_at(b"x", 0).is_err());
    assert!((&file).write(b"x").is_err());
    assert!(file.set_len(4096).is_err() && file.set_len(10_000).is_err());
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    assert!(fallocate(&file, hole, 0, 4096).is_err());
    assert!(fcntl_add_seals(&file, SealFlags::FUTURE_WRITE).is_err(), "no seal can be added");
    let writable =
        File::options().write(true).open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file)));
    assert!(writable.and_then(|file| file.write_at(b"x", 0)).is_err(), "reopening by /proc does not give write access");
    assert!(!can_be_mapped_writable(&file));
    assert_eq!(block[..], [7; 8192]);
}

#[allow(unsafe_code)]
fn can_be_mapped_writable(file: &File) -> bool {
    let writable = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: this creates a new mapping at an address that the kernel chooses.
    unsafe { rustix::mm::mmap(std::ptr::null_mut(), 4096, writable, MapFlags::SHARED, file, 0) }.is_ok()
}

fn memory(length: u64, written: usize, seals: SealFlags) -> OwnedFd {
    let memfd = memfd_create("by-hand", MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&memfd, length).unwrap();
    let file = File::from(memfd);
    file.write_all_at(&vec![0; written], 0).unwrap();
    fcntl_add_seals(&file, seals).unwrap();
    file.into()
}

fn refuse(memfd: OwnedFd, why: &str) {
    let error = SharedBytes::try_from(memfd).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    assert!(error.to_string().contains(why), "the error {error:?} does not contain {why:?}");
}

fn only_a_sealed_memory_file_is_accepted_as_a_block() {
    SharedBytes::try_from(memory(4096, 4096, SEALS)).unwrap();
    for missing in [SealFlags::WRITE, SealFlags::SHRINK, SealFlags::GROW, SealFlags::SEAL] {
        refuse(memory(4096, 4096, SEALS - missing), "not sealed");
    }
    // No process can map this memory writable any more, but an older writable mapping may exist.
    refuse(memory(4096, 4096, (SEALS - SealFlags::WRITE) | SealFlags::FUTURE_WRITE), "not sealed");
    refuse(memory(4096, 4096, SealFlags::empty()), "not sealed");

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, [7; 4096]).unwrap();
    let file = File::open(&path).unwrap();
    // The directory for temporary files is on tmpfs on many machines.
    let is_in_memory = rustix::fs::fstatfs(&file).unwrap().f_type == libc::TMPFS_MAGIC;
    refuse(file.into(), if is_in_memory { "not sealed" } else { "memory file" });
    let mut in_memory = tempfile::tempfile_in("/dev/shm").unwrap();
    in_memory.write_all(&[7; 4096]).unwrap();
    // A file on tmpfs has the seal F_SEAL_SEAL, which prevents other seals.
    refuse(in_memory.into(), "not sealed");
    let (reader, _writer) = rustix::pipe::pipe().unwrap();
    refuse(reader, "memory file");
    refuse(File::open("/proc/self/status").unwrap().into(), "memory file");
    refuse(File::open(directory.path()).unwrap().into(), "memory file");
    refuse(std::os::unix::net::UnixStream::pair().unwrap().0.into(), "memory file");
}

/// Reading a hole allocates a page at the reader's cost, and raises a signal if there is no memory.
fn a_block_with_holes_is_refused_whatever_its_size() {
    for (length, written) in [(4096, 0), (1 << 20, 4096), (1 << 40, 0), (1 << 40, 1 << 20)] {
        refuse(memory(length, written, SEALS), "not allocated");
    }
    for length in [3 * 4096, 3 * 4096 + 1, 1 << 20] {
        for (what, memfd) in memory_with_holes(length, SEALS) {
            println!("{what}, {length} bytes");
            refuse(memfd, "not allocated");
        }
    }
    refuse(memfd_with(MemfdFlags::HUGETLB, 2 << 20, SEALS, |_| ()), "memory file");
}

/// `forked-while-building`: a forked child exists while a block is sealed. Prints `built`.
fn a_block_can_be_built_while_the_process_forks() {
    let mut child = Child::spawn("forked-while-building", &["-"]);
    child.expect("built");
    child.finish();
}

pub const FORKED: Role = Role { name: "forked-while-building", play: forked };

fn forked(_: &[String]) {
    let before = Baseline::take();
    let mut sleeper = None;
    let block = SharedBytes::build(100_000, |place| {
        place.fill(7);
        // Until it is killed, the child has copies of all mappings that a child inherits.
        sleeper = Some(fork_and_sleep());
        place[0] = 8;
    })
    .unwrap();
    assert_eq!((block[0], block[99_999]), (8, 7));
    let pid = sleeper.unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty()).unwrap();
    drop(block);
    assert_eq!(Baseline::take(), before);
    println!("built");
}

#[allow(unsafe_code)]
fn fork_and_sleep() -> rustix::process::Pid {
    // SAFETY: the child calls only async-signal-safe functions until it is killed or its alarm expires.
    match unsafe { libc::fork() } {
        0 => {
            // SAFETY: alarm(2) has no preconditions.
            unsafe { libc::alarm(30) };
            loop {
                // SAFETY: pause(2) has no preconditions.
                unsafe { libc::pause() };
            }
        }
        pid => rustix::process::Pid::from_raw(pid).unwrap(),
    }
}
