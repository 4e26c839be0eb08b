//! The client's side of the handshake. The client creates two FIFOs: one from the client to the server, and one from
//! the server to the client.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{AtFlags, FileType, Mode, Stat, fstat, openat, statat};
use rustix::io::Errno;

use super::{FILE, Incoming, Outgoing, READ, WRITE, check_fifo, establish, has_no_reader, make_fifo, remove_pair};
use crate::backend::attempt::{Attempt, Established, Progress, private};
use crate::backend::client_file::{cannot_show_origin, nonce};
use crate::backend::config::ConnectConfig;
use crate::backend::origin_file;
use crate::backend::socket::not_served;
use crate::error::{Error, ErrorKind, Operation};
use crate::name::directory;
use crate::name::lock::{self, Holder};
use crate::name::{CLIENTS, Found};
use crate::peer::{Peer, Provenance};
use crate::sys::no_sigpipe;
use crate::sys::retry::retry_io;
use crate::wait::{Deadline, WaitSet, look};
use crate::wire::client_file::{ClientFile, ClientId};
use crate::wire::hello::{self, ANSWER_LEN_MAX, Answer};
use crate::wire::request;

/// A handshake of a client that has created its two FIFOs. Implements the handshake contract that
/// [`backend`](super::super) describes.
pub(crate) struct Handshake {
    well_known: OwnedFd,
    server_uid: u32,
    /// The read end of the FIFO from the server.
    reader: OwnedFd,
    pair: Pair,
    deadline: Deadline,
    state: State,
}

enum State {
    /// Write the request at `at`. If the FIFO is full, retry after `delay`, which doubles up to 50 ms.
    Request { at: Deadline, delay: Duration },
    /// The request was written. This part of the answer has arrived.
    Answer(Vec<u8>),
}

impl Handshake {
    /// Opens the server's FIFO and creates the client's two FIFOs. They exist before the request is written, so the
    /// server always finds them.
    pub(in crate::backend) fn begin(
        found: &Found,
        config: &ConnectConfig,
        deadline: Deadline,
    ) -> Result<Box<Self>, Attempt> {
        let path = path(found);
        if !config.accepts(Some(found.stat.st_uid)) {
            return Err(Attempt::Failed(config.refuse(&path, Some(found.stat.st_uid))));
        }
        let well_known =
            openat(&found.directory, FILE, WRITE, Mode::empty()).map_err(|errno| cannot_open(found, &path, errno))?;
        let stat = fstat(&well_known).map_err(|errno| Error::io(Operation::Connect, &*path, errno))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Fifo {
            return Err(Attempt::Failed(not_a_fifo(&path, &stat)));
        }
        if stat.st_nlink == 0 {
            return Err(restarting(found, &path));
        }
        if let Err(why) = check_fifo(&stat, stat.st_nlink) {
            let next = match stat.st_uid == rustix::process::geteuid().as_raw() {
                true => "find what changed the FIFO, and restart the server, which creates it again",
                false => "a FIFO serves only its own user; let the server offer unix",
            };
            return Err(Attempt::Failed(Error::new(ErrorKind::Unsupported, Operation::Connect, path, why).next(next)));
        }
        let (pair, reader) = Pair::make(found, config, &path)?;
        let state = State::Request { at: Deadline::after(Duration::ZERO), delay: Duration::from_millis(1) };
        Ok(Box::new(Self { well_known, server_uid: stat.st_uid, reader, pair, deadline, state }))
    }

    /// Advances the handshake.
    pub(in crate::backend) fn step(
        mut self: Box<Self>,
        found: &Found,
        config: &ConnectConfig,
    ) -> Result<Progress<Established<Outgoing, Incoming>, Box<Self>>, Attempt> {
        let path = path(found);
        let hello = match &mut self.state {
            State::Request { at, .. } if !at.earliest(self.deadline).is_over() => false,
            State::Request { .. } => self.send_request(&path)? && self.recv_hello(&path)?,
            State::Answer(_) => self.recv_hello(&path)?,
        };
        match hello {
            true => self.acknowledge(found, config, &path).map(Progress::Done),
            false => Ok(Progress::Waiting(self)),
        }
    }

    /// Returns the conditions under which to call [`step`](Self::step) again.
    pub(in crate::backend) fn wait_set(&self) -> WaitSet<'_> {
        match &self.state {
            State::Request { at, .. } => WaitSet::until(self.deadline.earliest(*at)),
            State::Answer(_) => WaitSet::until(self.deadline)
                .and(self.reader.as_fd(), PollFlags::IN)
                .and(self.well_known.as_fd(), PollFlags::empty()),
        }
    }

    /// Writes the request. The write is atomic, because it is at most `PIPE_BUF` bytes. Returns false if the FIFO is
    /// full, and schedules the next attempt. Fails with `Busy` at the deadline.
    fn send_request(&mut self, path: &str) -> Result<bool, Attempt> {
        let line = request::encode(&self.pair.id);
        match retry_io(|| no_sigpipe::write_vectored(&self.well_known, &[IoSlice::new(&line)])) {
            Ok(_) => {
                self.state = State::Answer(Vec::with_capacity(ANSWER_LEN_MAX));
                return Ok(true);
            }
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Err(Attempt::Absent(absent(path))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(Attempt::Failed(Error::io(Operation::Connect, path, error))),
        }
        if self.deadline.is_over() {
            let detail = "the queue of requests of the server is full";
            return Err(Attempt::Failed(
                Error::new(ErrorKind::Busy, Operation::Connect, path, detail)
                    .next("try again later; the server is stopped, overloaded or flooded"),
            ));
        }
        if let State::Request { at, delay } = &mut self.state {
            // Space in a FIFO with many writers is reported to all of them at the same time. Waiting for it would wake
            // all clients, and most of them would find it used. A growing delay spreads the attempts.
            *at = Deadline::after(*delay);
            *delay = (*delay * 2).min(Duration::from_millis(50));
        }
        Ok(false)
    }

    /// Checks for the server's answer, for the death of the server and for the deadline. Returns true if the answer is
    /// a hello.
    fn recv_hello(&mut self, path: &str) -> Result<bool, Attempt> {
        let failed = |error: io::Error| Attempt::Failed(Error::io(Operation::Connect, path, error));
        let broken = |detail: &'static str| {
            Attempt::Failed(
                Error::new(ErrorKind::Protocol, Operation::Connect, path, detail)
                    .next("check that the server speaks this protocol"),
            )
        };
        let Self { well_known, reader, pair, state: State::Answer(line), deadline, .. } = self else {
            return Ok(false);
        };
        loop {
            let mut fds = [PollFd::new(reader, PollFlags::IN), PollFd::new(well_known, PollFlags::empty())];
            if !look(&mut fds).map_err(failed)? {
                return match deadline.is_over() {
                    true => Err(too_late(path, "the server has the request but does not answer")),
                    false => Ok(false),
                };
            }
            let mut buffer = [0; ANSWER_LEN_MAX];
            match rustix::io::read(&*reader, &mut buffer) {
                Ok(count @ 1..) => line.extend_from_slice(&buffer[..count]),
                Ok(_) | Err(Errno::AGAIN | Errno::INTR) if has_no_reader(well_known.as_fd()) => {
                    return Err(Attempt::Absent(absent(path)));
                }
                // The server opened the FIFO and closed it again. Before it opens the FIFO, a read returns 0 as well,
                // but poll(2) reports no hang-up.
                Ok(_) if fds[0].revents().contains(PollFlags::HUP) => {
                    return Err(Attempt::Again(server_ended_handshake(path)));
                }
                Ok(_) | Err(Errno::AGAIN | Errno::INTR) => continue,
                Err(errno) => return Err(failed(errno.into())),
            }
            match line.iter().position(|&c| c == b'\n') {
                Some(end) if end + 1 == line.len() => line.truncate(end),
                None if line.len() < ANSWER_LEN_MAX => continue,
                _ => return Err(broken("the server's answer is not one line")),
            }
            return match hello::parse_answer(line, &pair.id.nonce) {
                Some(Answer::Hello) => Ok(true),
                Some(Answer::Refused(reason)) => Err(Attempt::refused(reason, path)),
                None => Err(broken("the server's answer does not belong to this request")),
            };
        }
    }

    /// Opens the FIFO to the server, and writes the acknowledgement.
    fn acknowledge(
        self,
        found: &Found,
        config: &ConnectConfig,
        path: &str,
    ) -> Result<Established<Outgoing, Incoming>, Attempt> {
        let Self { server_uid, reader, pair, .. } = self;
        let failed = |error: io::Error| Attempt::Failed(Error::io(Operation::Connect, path, error));
        let to_server = match openat(&pair.clients, pair.id.file_name(ClientFile::ClientToServer), WRITE, Mode::empty())
        {
            Ok(fifo) => fifo,
            Err(Errno::NXIO | Errno::NOENT) => return Err(Attempt::Again(server_ended_handshake(path))),
            Err(errno) => return Err(failed(errno.into())),
        };
        let acknowledgement = hello::encode_ack(&pair.id.nonce);
        // Both FIFOs are open at both ends now, and no process needs their names any more.
        drop(pair);
        match retry_io(|| no_sigpipe::write_vectored(&to_server, &[IoSlice::new(&acknowledgement)])) {
            Ok(written) if written == acknowledgement.len() => {}
            Ok(_) => return Err(failed(io::ErrorKind::WriteZero.into())),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Err(Attempt::Again(server_ended_handshake(path)));
            }
            // A new FIFO has space for the acknowledgement, so `EAGAIN` is unexpected. The next attempt creates new
            // FIFOs.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(Attempt::Again(Error::io(Operation::Connect, path, error)));
            }
            Err(error) => return Err(failed(error)),
        }
        let pid = match lock::look(&found.directory, &found.path) {
            Ok(Holder::Live(Some(owner))) => Some(owner.pid),
            _ => None,
        };
        let peer = Peer::from_file(server_uid, pid, Provenance::Claim);
        Ok(establish(reader, to_server, peer, None, config.message_max))
    }
}

/// Returns the path of the server's FIFO, for error texts.
fn path(found: &Found) -> String {
    found.path.join(FILE).display().to_string()
}

/// Classifies the error of opening the server's FIFO. For a FIFO, a non-blocking open(2) for writing fails with `ENXIO`
/// only if it has no reader.
fn cannot_open(found: &Found, path: &str, errno: Errno) -> Attempt {
    match statat(&found.directory, FILE, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::Fifo => Attempt::Failed(not_a_fifo(path, &stat)),
        Ok(stat) if errno == Errno::ACCESS => {
            let detail = format!("a FIFO serves only its own user: {}", directory::describe_file(&stat));
            Attempt::Failed(
                Error::new(ErrorKind::Denied, Operation::Connect, path, detail)
                    .because(errno)
                    .next("connect as that user, or have the server offer another transport, such as unix"),
            )
        }
        Err(Errno::ACCESS) => Attempt::Failed(private(found, path, None, errno)),
        _ if matches!(errno, Errno::NOENT | Errno::NXIO) => Attempt::Absent(absent(path)),
        _ => Attempt::Failed(Error::io(Operation::Connect, path, errno)),
    }
}

/// Returns the outcome for a client whose directory or FIFOs are removed while it connects: by the next server, which
/// sweeps the files of the clients of the last one, or with the name. Another attempt finds the next server.
fn restarting(found: &Found, path: &str) -> Attempt {
    let detail = "the server was replaced, and with it the files of this client";
    not_served(found, path, Error::new(ErrorKind::Busy, Operation::Connect, path, detail).next("try again"))
}

fn not_a_fifo(path: &str, stat: &Stat) -> Error {
    let detail = format!("it is a {}, not a FIFO", directory::describe_file(stat));
    Error::new(ErrorKind::UnsafeDirectory, Operation::Connect, path, detail)
        .next("find the process that created it, and remove it")
}

fn absent(path: &str) -> Error {
    Error::new(ErrorKind::NoServer, Operation::Connect, path, "no server reads this FIFO").next("start the server")
}

fn server_ended_handshake(path: &str) -> Error {
    let detail = "the server's handshake deadline passed, or the server ended it";
    Error::new(ErrorKind::TimedOut, Operation::Connect, path, detail)
        .next("try again; if it fails repeatedly, look at the server's log")
}

fn too_late(path: &str, detail: &'static str) -> Attempt {
    Attempt::Failed(
        Error::new(ErrorKind::TimedOut, Operation::Connect, path, detail)
            .next("try again, or raise the timeout; the server is stopped or overloaded"),
    )
}

/// The names of a client's two FIFOs. Dropping this removes them: by then the FIFOs are open at both ends, or the
/// attempt has failed.
struct Pair {
    clients: OwnedFd,
    id: ClientId,
}

impl Pair {
    /// Creates both FIFOs, and opens the server-to-client FIFO for reading. A non-blocking open(2) for reading succeeds
    /// without a writer.
    fn make(found: &Found, config: &ConnectConfig, server: &str) -> Result<(Self, OwnedFd), Attempt> {
        let path = found.path.join(CLIENTS);
        let Some((clients, stat)) = directory::walk_inside(&found.directory, CLIENTS, &path)? else {
            return Err(restarting(found, server));
        };
        directory::check_clients(&path, &stat)?;
        let failed = |errno: Errno| match errno {
            Errno::NOENT => restarting(found, server),
            errno => Attempt::Failed(Error::io(Operation::CreateFifo, path.display().to_string(), errno)),
        };
        let pair = Self { clients, id: ClientId { pid: std::process::id(), nonce: nonce(config)? } };
        if let Some(origin) = &config.origin {
            origin_file::write(&pair.clients, stat.st_uid, &pair.id, origin).map_err(|errno| match errno {
                Errno::NOENT => restarting(found, server),
                errno => Attempt::Failed(cannot_show_origin(&path, errno)),
            })?;
        }
        for file in [ClientFile::ServerToClient, ClientFile::ClientToServer] {
            make_fifo(&pair.clients, &pair.id.file_name(file)).map_err(failed)?;
        }
        let file_name = pair.id.file_name(ClientFile::ServerToClient);
        let reader = openat(&pair.clients, file_name, READ, Mode::empty()).map_err(failed)?;
        Ok((pair, reader))
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        // The attempt of a parent goes on when a forked child drops its copy.
        if self.id.pid == std::process::id() {
            remove_pair(&self.clients, &self.id);
        }
    }
}
