//! The client's side of the handshake.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{AtFlags, FileType, Mode, Stat, fstat, openat, statat};
use rustix::io::Errno;

use super::{FILE, Incoming, Outgoing, READ, WRITE, check_fifo, establish, has_no_reader, make_fifo, remove_pair};
use crate::backend::attempt::{Attempt, Established, Progress, failed_there};
use crate::backend::client_file::random_nonce;
use crate::backend::config::ConnectConfig;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::name::directory::{self, Trust};
use crate::name::lock::{self, Holder};
use crate::name::{CLIENTS, Found};
use crate::peer::{Peer, Provenance};
use crate::sys::no_sigpipe;
use crate::wait::{Deadline, WaitSet, look};
use crate::wire::client_file::{ClientFile, ClientId};
use crate::wire::hello::{self, ANSWER_LEN_MAX, Answer, Reason};
use crate::wire::request;

/// A client that has made its pair. See the contract in [`backend`](super::super).
pub(crate) struct Handshake {
    well_known: OwnedFd,
    server_uid: u32,
    /// The end of the pair that we read.
    reader: OwnedFd,
    pair: Pair,
    deadline: Deadline,
    state: State,
}

enum State {
    /// The request is to be written at this time; when the FIFO is full then, so much later.
    Request { at: Deadline, delay: Duration },
    /// The request is with the server; so much of the answer has come.
    Answer(Vec<u8>),
}

impl Handshake {
    /// Finds the server's FIFO and makes the pair. It is there before the request, so that the server never looks for what
    /// does not exist.
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
        if let Err(why) = check_fifo(&stat, stat.st_nlink) {
            return Err(Attempt::Failed(
                Error::new(ErrorKind::Unsupported, Operation::Connect, path, why)
                    .next("a FIFO serves its own user only; have the server offer unix"),
            ));
        }
        let (pair, reader) = Pair::make(found)?;
        let state = State::Request { at: Deadline::after(Duration::ZERO), delay: Duration::from_millis(1) };
        Ok(Box::new(Self { well_known, server_uid: stat.st_uid, reader, pair, deadline, state }))
    }

    pub(in crate::backend) fn step(
        mut self: Box<Self>,
        found: &Found,
        config: &ConnectConfig,
    ) -> Result<Progress<Established<Outgoing, Incoming>, Box<Self>>, Attempt> {
        let path = path(found);
        let hello = match &mut self.state {
            State::Request { at, .. } if !at.or(self.deadline).is_over() => false,
            State::Request { .. } => self.send_request(&path)? && self.recv_hello(&path)?,
            State::Answer(_) => self.recv_hello(&path)?,
        };
        match hello {
            true => self.acknowledge(found, config, &path).map(Progress::Done),
            false => Ok(Progress::Waiting(self)),
        }
    }

    pub(in crate::backend) fn wait_set(&self) -> WaitSet<'_> {
        match &self.state {
            State::Request { at, .. } => WaitSet::until(self.deadline.or(*at)),
            State::Answer(_) => WaitSet::until(self.deadline)
                .and(self.reader.as_fd(), PollFlags::IN)
                .and(self.well_known.as_fd(), PollFlags::empty()),
        }
    }

    /// Writes the request in one piece, when the FIFO has room for it.
    fn send_request(&mut self, path: &str) -> Result<bool, Attempt> {
        let line = request::encode(&self.pair.id);
        match no_sigpipe::write_vectored(&self.well_known, &[IoSlice::new(&line)]) {
            Ok(_) => {
                self.state = State::Answer(Vec::with_capacity(ANSWER_LEN_MAX));
                return Ok(true);
            }
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Err(Attempt::Absent(absent(path))),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(Attempt::Failed(Error::io(Operation::Connect, path, error))),
        }
        if self.deadline.is_over() {
            let detail = "its queue of requests is full";
            return Err(Attempt::Failed(
                Error::new(ErrorKind::Busy, Operation::Connect, path, detail)
                    .next("the server is stopped, overloaded or flooded; try again later"),
            ));
        }
        if let State::Request { at, delay } = &mut self.state {
            // Room in a FIFO that many write to is announced to all of them at once, so waiting for it would only wake them
            // to find it taken; a delay that grows spreads them out.
            *at = Deadline::after(*delay);
            *delay = (*delay * 2).min(Duration::from_millis(50));
        }
        Ok(false)
    }

    /// SpinBudget for the server's answer, for its death and at the deadline; `true` when it is hello.
    fn recv_hello(&mut self, path: &str) -> Result<bool, Attempt> {
        let failed = |error: io::Error| Attempt::Failed(Error::io(Operation::Connect, path, error));
        let broken =
            |detail: &'static str| Attempt::Failed(Error::new(ErrorKind::Protocol, Operation::Connect, path, detail));
        let Self { well_known, reader, pair, state: State::Answer(line), deadline, .. } = self else {
            return Ok(false);
        };
        loop {
            let mut fds = [PollFd::new(reader, PollFlags::IN), PollFd::new(well_known, PollFlags::empty())];
            if !look(&mut fds).map_err(failed)? {
                return match deadline.is_over() {
                    true => Err(too_late(path, "the server has the request and does not answer")),
                    false => Ok(false),
                };
            }
            let mut buffer = [0; ANSWER_LEN_MAX];
            match rustix::io::read(&*reader, &mut buffer) {
                Ok(count @ 1..) => line.extend_from_slice(&buffer[..count]),
                Ok(_) | Err(Errno::AGAIN | Errno::INTR) if has_no_reader(well_known.as_fd()) => {
                    return Err(Attempt::Absent(absent(path)));
                }
                // The server opened it and closed it again. Before it opens it, a read gives 0 as well, without a hang-up.
                Ok(_) if fds[0].revents().contains(PollFlags::HUP) => return Err(Attempt::Again(gave_up(path))),
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
                Some(Answer::Refused(Reason::Denied)) => Err(Attempt::Failed(Error::new(
                    ErrorKind::Refused,
                    Operation::Connect,
                    path,
                    "the server's policy does not let us in",
                ))),
                Some(Answer::Refused(Reason::Busy)) => Err(Attempt::Again(
                    Error::new(
                        ErrorKind::Busy,
                        Operation::Connect,
                        path,
                        "the server has all the clients that it may have",
                    )
                    .next("try again later, or raise its limits"),
                )),
                Some(Answer::Refused(Reason::Failed)) => Err(Attempt::Again(failed_there(path))),
                None => Err(broken("the server's answer is not one to our request")),
            };
        }
    }

    /// Opens the other end of the pair, and says that all is well.
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
            Err(Errno::NXIO | Errno::NOENT) => return Err(Attempt::Again(gave_up(path))),
            Err(errno) => return Err(failed(errno.into())),
        };
        let acknowledgement = hello::encode_ack(&pair.id.nonce);
        // Both ends of both are open now, and nobody needs the names any more.
        drop(pair);
        match no_sigpipe::write_vectored(&to_server, &[IoSlice::new(&acknowledgement)]) {
            Ok(written) if written == acknowledgement.len() => {}
            Ok(_) => return Err(failed(io::ErrorKind::WriteZero.into())),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Err(Attempt::Again(gave_up(path))),
            // Nobody has written to it before, so this passes. (The next try makes another pair.)
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
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

/// Where the server's FIFO is, for messages.
fn path(found: &Found) -> String {
    found.path.join(FILE).display().to_string()
}

/// Without blocking, the only thing that keeps a FIFO from being opened is that nobody reads it; other things have other
/// reasons.
fn cannot_open(found: &Found, path: &str, errno: Errno) -> Attempt {
    match statat(&found.directory, FILE, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::Fifo => Attempt::Failed(not_a_fifo(path, &stat)),
        _ if matches!(errno, Errno::NOENT | Errno::NXIO) => Attempt::Absent(absent(path)),
        _ => Attempt::Failed(Error::io(Operation::Connect, path, errno)),
    }
}

fn not_a_fifo(path: &str, stat: &Stat) -> Error {
    let detail = format!("not a FIFO but a {}", directory::describe_file(stat));
    Error::new(ErrorKind::UnsafeDirectory, Operation::Connect, path, detail)
        .next("find out who put it there, and remove it")
}

fn absent(path: &str) -> Error {
    Error::new(ErrorKind::NoServer, Operation::Connect, path, "nobody reads it").next("start the server")
}

fn gave_up(path: &str) -> Error {
    Error::new(ErrorKind::TimedOut, Operation::Connect, path, "the server ended the handshake")
        .next("try again; if it goes on, look at the server's log")
}

fn too_late(path: &str, detail: &'static str) -> Attempt {
    Attempt::Failed(
        Error::new(ErrorKind::TimedOut, Operation::Connect, path, detail)
            .next("the server is stopped or overloaded; try again, or allow more time"),
    )
}

/// The names of a client's two FIFOs, removed when this is dropped: by then they are open at both ends, or in vain.
struct Pair {
    clients: OwnedFd,
    id: ClientId,
}

impl Pair {
    /// Makes both and opens the one that we read, which succeeds without a writer.
    fn make(found: &Found) -> Result<(Self, OwnedFd)> {
        let path = found.path.join(CLIENTS);
        let Some((clients, stat)) = directory::walk_inside(&found.directory, CLIENTS, &path)? else {
            let detail = "the server has made no place for its clients";
            return Err(Error::new(ErrorKind::NoServer, Operation::Connect, path.display().to_string(), detail));
        };
        directory::check_ours(&path, &stat, &Trust::only_self())?;
        let failed = |errno: Errno| Error::io(Operation::CreateFifo, path.display().to_string(), errno);
        let pair = Self { clients, id: ClientId { pid: std::process::id(), nonce: random_nonce()? } };
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
        remove_pair(&self.clients, &self.id);
    }
}
