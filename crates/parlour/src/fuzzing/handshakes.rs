//! Whole handshakes with a peer that does anything: a server and a hostile client, and a client and a hostile server.
//! The input is a program of operations. The peer uses real sockets, FIFOs and files, in a directory of its own.
//!
//! Each operation takes its arguments from the input. The hostile side mixes valid greetings, valid greetings with a
//! changed byte, and arbitrary bytes, with and without descriptors, and interleaves them with steps of the honest side.

use std::fs;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create, mkfifoat, open};
use rustix::io::{pwrite, read};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, SocketAddrUnix, SocketFlags,
    accept_with, bind, connect, listen, sendmsg, shutdown, socket_with,
};

use crate::connect::Connecting;
use crate::connection::Connection;
use crate::options::{ConnectOptions, ServerOptions};
use crate::server::Server;
use crate::shm::hostile::Input;
use crate::sys::no_sigpipe;
use crate::transport::Transport;
use crate::wire::client_file::{ClientFile, ClientId};
use crate::wire::hello::{self, Answer, Reason};
use crate::wire::nonce::Nonce;
use crate::wire::request;
use crate::wire::shm_hello::{Greeting, RING_SIZE_MIN};

/// The maximum number of operations, so that an execution stays short.
const OPERATIONS_MAX: usize = 64;
/// The maximum number of descriptors that the hostile side keeps.
const KEPT_MAX: usize = 8;
/// The time that an honest client may need, whatever the hostile one did.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Serves a hostile client, and then an honest one: one byte of transport, then the operations.
pub fn hostile_client(data: &[u8]) {
    let descriptors = count_descriptors();
    let mut hostile = Hostile::new(data);
    let address = hostile.address();
    let server = ServerOptions::new().bind(&address).expect("the directory is new");
    let mut accepted = Vec::new();
    for _ in 0..OPERATIONS_MAX {
        if hostile.input.is_empty() {
            break;
        }
        match hostile.input.byte() % 8 {
            0 => hostile.connect(),
            1 => accept_all(&server, &mut accepted),
            _ => hostile.act(),
        }
    }
    accept_all(&server, &mut accepted);
    hostile.kept.clear();
    let mut theirs = reach(&address, || accept_all(&server, &mut accepted));
    accept_all(&server, &mut accepted);
    theirs.send("honest").expect("the server has accepted this client");
    let heard = accepted.iter_mut().any(
        |connection| matches!(connection.recv_timeout(Duration::ZERO), Ok(Some(message)) if *message == *b"honest"),
    );
    assert!(heard, "the message of the honest client arrives");
    drop((theirs, accepted));
    accept_all(&server, &mut Vec::new());
    assert_eq!(server.stats().open, 0, "each connection has freed its place");
    let _ = server.close();
    drop(hostile);
    assert_eq!(count_descriptors(), descriptors, "no descriptor is kept");
}

/// Accepts all clients that have arrived, and receives from each connection what is there.
fn accept_all(server: &Server, accepted: &mut Vec<Connection>) {
    loop {
        match server.try_accept() {
            Ok(connection) => accepted.push(connection),
            Err(error) if error.is_empty() => break,
            Err(error) => panic!("no client can end the server: {error}"),
        }
    }
    // The last connection may be that of the honest client, whose message is received later.
    let others = accepted.len().saturating_sub(1);
    for connection in &mut accepted[..others] {
        let _ = connection.try_recv();
        let _ = connection.try_send("hello");
    }
}

/// Connects an honest client. `serve` advances the server.
fn reach(address: &str, mut serve: impl FnMut()) -> Connection {
    let mut connecting =
        Connecting::new(address, &ConnectOptions::new().timeout(TIMEOUT)).expect("the address is valid");
    loop {
        match connecting.step() {
            Ok(Some(connection)) => return connection,
            Ok(None) => serve(),
            Err(error) => panic!("the honest client is served: {error}"),
        }
    }
}

/// Connects a client to a hostile server: one byte of transport, then the operations.
pub fn hostile_server(data: &[u8]) {
    let descriptors = count_descriptors();
    let mut hostile = Hostile::new(data);
    hostile.listen();
    let options = ConnectOptions::new().timeout(TIMEOUT);
    let mut connecting = Some(Connecting::new(&hostile.address(), &options).expect("the address is valid"));
    let mut connected = None;
    for _ in 0..OPERATIONS_MAX {
        if hostile.input.is_empty() {
            break;
        }
        match hostile.input.byte() % 8 {
            0 => hostile.accept(),
            1 => match &mut connecting {
                Some(attempt) => match attempt.step() {
                    Ok(None) => {}
                    Ok(Some(connection)) => (connecting, connected) = (None, Some(connection)),
                    Err(error) => {
                        let _ = error.to_string();
                        connecting = None;
                    }
                },
                None => {
                    if let Some(connection) = &mut connected {
                        let _ = Connection::try_recv(connection);
                        let _ = connection.try_send("hello");
                    }
                }
            },
            _ => hostile.act(),
        }
    }
    let is_connected = connected.is_some();
    drop((connecting, connected));
    if !is_connected {
        let left: Vec<_> = hostile.client_files().into_iter().filter(|name| !hostile.made.contains(name)).collect();
        assert!(left.is_empty(), "an attempt that ended leaves no file: {left:?}");
    }
    drop(hostile);
    assert_eq!(count_descriptors(), descriptors, "no descriptor is kept");
}

/// Counts the descriptors of this process. Only a fuzzer is alone in its process.
fn count_descriptors() -> usize {
    if cfg!(fuzzing) { fs::read_dir("/proc/self/fd").map_or(0, Iterator::count) } else { 0 }
}

/// The hostile side.
struct Hostile<'a> {
    input: Input<'a>,
    transport: Transport,
    base: PathBuf,
    /// Sockets and FIFOs that are open.
    kept: Vec<OwnedFd>,
    listener: Option<OwnedFd>,
    /// The names of the files that it created in the directory of the clients.
    made: Vec<String>,
    id: ClientId,
}

impl<'a> Hostile<'a> {
    fn new(data: &'a [u8]) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let mut input = Input(data);
        let transport = Transport::ALL[usize::from(input.byte()) % Transport::ALL.len()];
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let base = std::env::temp_dir().join(format!("parlour-fuzz-{}-{number}", std::process::id()));
        fs::create_dir(&base).expect("the directory is new");
        let id = ClientId { pid: std::process::id(), nonce: Nonce::from_bytes([7; Nonce::LEN]) };
        Self { input, transport, base, kept: Vec::new(), listener: None, made: Vec::new(), id }
    }

    fn address(&self) -> String {
        format!("{}:{}", self.transport, self.directory().display())
    }

    fn directory(&self) -> PathBuf {
        self.base.join("hall")
    }

    fn clients(&self) -> PathBuf {
        self.directory().join("c")
    }

    fn client_files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.clients()).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    fn keep(&mut self, fd: OwnedFd) {
        if self.kept.len() < KEPT_MAX {
            self.kept.push(fd);
        }
    }

    fn path_of_transport(&self) -> PathBuf {
        self.directory().join(self.transport.file_name())
    }

    fn new_socket(&self) -> Option<OwnedFd> {
        let kind = self.transport.socket_type()?;
        socket_with(AddressFamily::UNIX, kind, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None).ok()
    }

    /// Creates the files of a server, and listens without a lock.
    fn listen(&mut self) {
        fs::create_dir_all(self.clients()).expect("the base is new");
        for directory in [self.directory(), self.clients()] {
            set_mode(&directory, 0o700);
        }
        let path = self.path_of_transport();
        match self.new_socket() {
            Some(socket) => {
                bind(&socket, &SocketAddrUnix::new(&path).expect("the path is short")).expect("the path is free");
                set_mode(&path, 0o600);
                listen(&socket, 8).expect("the socket is bound");
                self.listener = Some(socket);
            }
            None => {
                mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).expect("the path is free");
                let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
                self.listener = open(&path, flags, Mode::empty()).ok();
            }
        }
    }

    /// Accepts a client, or reads its request and opens its FIFOs.
    fn accept(&mut self) {
        let Some(listener) = &self.listener else { return };
        if self.transport != Transport::Fifo {
            if let Ok(socket) = accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                self.keep(socket);
            }
            return;
        }
        let mut bytes = [0; 4096];
        let count = read(listener, &mut bytes).unwrap_or(0);
        let mut reader = request::RequestReader::default();
        let mut last = None;
        reader.push(&bytes[..count], |request| last = request.ok());
        if let Some(id) = last {
            self.id = id;
            for file in [ClientFile::ServerToClient, ClientFile::ClientToServer] {
                self.open_fifo(&self.clients().join(id.file_name(file)), file == ClientFile::ServerToClient);
            }
        }
    }

    /// Connects to the server, with or without a client file.
    fn connect(&mut self) {
        let Some(socket) = self.new_socket() else {
            let path = self.path_of_transport();
            return self.open_fifo(&path, true);
        };
        let choice = self.input.byte();
        if choice & 1 == 1 {
            let name = self.file_name();
            if let Ok(address) = SocketAddrUnix::new(self.clients().join(&name)) {
                if bind(&socket, &address).is_ok() && choice & 2 == 2 {
                    set_mode(&self.clients().join(&name), 0o700);
                }
                self.made.push(name);
            }
        }
        if let Ok(address) = SocketAddrUnix::new(self.path_of_transport()) {
            let _ = connect(&socket, &address);
        }
        self.keep(socket);
    }

    fn open_fifo(&mut self, path: &Path, to_write: bool) {
        let direction = if to_write { OFlags::WRONLY } else { OFlags::RDONLY };
        if let Ok(fd) = open(path, direction | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()) {
            self.keep(fd);
        }
    }

    /// Returns the name of a client's file: of a kind that the input selects, and of this process or of another.
    fn file_name(&mut self) -> String {
        let choice = self.input.byte();
        let kinds = [ClientFile::Socket, ClientFile::ServerToClient, ClientFile::ClientToServer, ClientFile::Origin];
        let pid = if choice & 0x40 == 0 { self.id.pid } else { u32::from(choice) };
        let nonce = if choice & 0x80 == 0 { self.id.nonce } else { Nonce::from_bytes([choice; Nonce::LEN]) };
        ClientId { pid, nonce }.file_name(kinds[usize::from(choice) % kinds.len()])
    }

    /// One operation that both kinds of peers have.
    fn act(&mut self) {
        let operation = self.input.byte() % 8;
        if operation == 0 {
            return self.make_file();
        }
        if self.kept.is_empty() {
            return;
        }
        let number = usize::from(self.input.byte()) % self.kept.len();
        match operation {
            1 => drop(self.kept.swap_remove(number)),
            2 => {
                let _ = shutdown(&self.kept[number], Shutdown::Write);
            }
            3 => {
                let _ = read(&self.kept[number], &mut [0; 4096]);
            }
            _ => self.say(number),
        }
    }

    /// Creates or opens something in the directory of the clients.
    fn make_file(&mut self) {
        let (choice, name) = (self.input.byte(), self.file_name());
        let path = self.clients().join(&name);
        match choice % 8 {
            0 => drop(fs::File::create_new(&path)),
            1 => drop(fs::create_dir(&path)),
            2 => drop(std::os::unix::fs::symlink("nowhere", &path)),
            3 => drop(mkfifoat(CWD, &path, Mode::from_raw_mode(0o644))),
            4 => self.open_fifo(&path, true),
            5 => self.open_fifo(&path, false),
            _ => {
                let _ = mkfifoat(CWD, &path, Mode::from_raw_mode(0o600));
                self.open_fifo(&path, false);
            }
        }
        self.made.push(name);
    }

    /// Sends bytes, on a socket with or without descriptors.
    fn say(&mut self, number: usize) {
        let bytes = self.bytes();
        let fds = if self.transport == Transport::Fifo { Vec::new() } else { self.descriptors() };
        let fd = &self.kept[number];
        if self.transport == Transport::Fifo {
            let _ = no_sigpipe::write_vectored(fd, &[IoSlice::new(&bytes)]);
            return;
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        if !fds.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(&fds));
        }
        let _ = sendmsg(fd, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
    }

    /// Returns bytes to send: those of a valid step, with a changed byte if the input asks for it, or arbitrary ones.
    fn bytes(&mut self) -> Vec<u8> {
        let choice = self.input.byte();
        let mut bytes = match choice & 15 {
            0 => Greeting::Hello { ring_size: RING_SIZE_MIN }.encode().to_vec(),
            1 => Greeting::Refused(Reason::Busy).encode().to_vec(),
            2 => request::encode(&self.id),
            3 => hello::encode_ack(&self.id.nonce),
            4 => hello::encode_answer(Answer::Hello, &self.id.nonce),
            5 => hello::encode_answer(Answer::Refused(Reason::Busy), &self.id.nonce),
            6 => b"\0\0\0\x05hello".to_vec(),
            7 => b"hello\0".to_vec(),
            8 => Vec::new(),
            _ => {
                let length = usize::from(self.input.byte()).min(self.input.0.len());
                let (bytes, rest) = self.input.0.split_at(length);
                self.input.0 = rest;
                bytes.to_vec()
            }
        };
        if choice & 0x10 != 0 && !bytes.is_empty() {
            let place = usize::from(self.input.byte()) % bytes.len();
            bytes[place] ^= self.input.byte();
        }
        if choice & 0x20 != 0 {
            bytes.truncate(usize::from(self.input.byte()));
        }
        bytes
    }

    /// Returns descriptors to send.
    fn descriptors(&mut self) -> Vec<OwnedFd> {
        let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map(|(end, _)| end).ok();
        match self.input.byte() % 8 {
            0 | 1 => memory(true).into_iter().collect(),
            2 => memory(false).into_iter().collect(),
            3 => pipe().into_iter().collect(),
            4 => memory(true).into_iter().chain(memory(true)).collect(),
            5 => pipe().into_iter().chain(pipe()).chain(pipe()).collect(),
            _ => Vec::new(),
        }
    }
}

impl Drop for Hostile<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.base);
    }
}

/// Creates the memory of a ring of the smallest size: suitable, or with holes.
fn memory(is_whole: bool) -> Option<OwnedFd> {
    let length = RING_SIZE_MIN + crate::shm::mapping::CONTROL_LEN;
    let memfd = memfd_create("parlour-fuzz", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).ok()?;
    ftruncate(&memfd, length as u64).ok()?;
    if is_whole {
        pwrite(&memfd, &vec![0; length], 0).ok()?;
    }
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::FUTURE_WRITE | SealFlags::SEAL;
    fcntl_add_seals(&memfd, seals).ok()?;
    Some(memfd)
}

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    let _ = fs::set_permissions(path, fs::Permissions::from_mode(mode));
}
