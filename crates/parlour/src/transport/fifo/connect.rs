//! The client's side of the handshake.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{AtFlags, FileType, Mode, Stat, fstat, openat, statat};
use rustix::io::Errno;

use super::{FILE, READ, WRITE, check_fifo, has_no_reader, link, make_fifo, remove_pair};
use crate::error::{Error, ErrorKind, Result};
use crate::name::directory::{self, Trust};
use crate::name::lock::{self, Holder};
use crate::name::{CLIENTS, Found};
use crate::peer::{Peer, Voucher};
use crate::sys::no_sigpipe;
use crate::transport::{Attempt, ClientTerms, Link, random_nonce};
use crate::wait::{Deadline, pause, wait};
use crate::wire::client_file::{ClientFile, ClientId};
use crate::wire::hello::{self, ANSWER_LEN_MAX, Answer, Reason};
use crate::wire::request;

/// One attempt to connect; see the contract in [`transport`](crate::transport).
pub(in crate::transport) fn connect(found: &Found, terms: &ClientTerms, deadline: Deadline) -> Result<Link, Attempt> {
    let path = found.path.join(FILE).display().to_string();
    let failed = |error: io::Error| Error::io("connect to", &*path, error);
    if !terms.accepts(Some(found.stat.st_uid)) {
        return Err(Attempt::Failed(terms.refuse(&path, Some(found.stat.st_uid))));
    }
    let well_known =
        openat(&found.directory, FILE, WRITE, Mode::empty()).map_err(|errno| cannot_open(found, &path, errno))?;
    let stat = fstat(&well_known).map_err(|errno| failed(errno.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Fifo {
        return Err(Attempt::Failed(not_a_fifo(&path, &stat)));
    }
    if let Err(why) = check_fifo(&stat, stat.st_nlink) {
        return Err(Attempt::Failed(
            Error::new(ErrorKind::Unsupported, "connect to", &*path, why)
                .next("a FIFO serves its own user only; have the server offer unix"),
        ));
    }

    // The pair is there before the request, so that the server never looks for what does not exist.
    let (pair, reader) = Pair::make(found)?;
    send_request(&well_known, &pair.id, &path, deadline)?;
    await_hello(&well_known, &reader, &pair.id, &path, deadline)?;
    let to_server = match openat(&pair.clients, pair.id.file_name(ClientFile::ClientToServer), WRITE, Mode::empty()) {
        Ok(fifo) => fifo,
        Err(Errno::NXIO | Errno::NOENT) => return Err(Attempt::Again(gave_up(&path))),
        Err(errno) => return Err(Attempt::Failed(failed(errno.into()))),
    };
    let acknowledgement = hello::encode_ack(&pair.id.nonce);
    // Both ends of both are open now, and nobody needs the names any more.
    drop(pair);
    match no_sigpipe::write_vectored(&to_server, &[IoSlice::new(&acknowledgement)]) {
        Ok(written) if written == acknowledgement.len() => {}
        Ok(_) => return Err(Attempt::Failed(failed(io::ErrorKind::WriteZero.into()))),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            return Err(Attempt::Again(gave_up(&path)));
        }
        Err(error) => return Err(Attempt::Failed(failed(error))),
    }
    let pid = match lock::look(&found.directory, &found.path) {
        Ok(Holder::Live(Some(owner))) => Some(owner.pid),
        _ => None,
    };
    let peer = Peer::from_file(stat.st_uid, pid, Voucher::Claim);
    Ok(link(reader, to_server, peer, None, terms.message_max))
}

/// Without blocking, the only thing that keeps a FIFO from being opened is that nobody reads it; other things have other
/// reasons.
fn cannot_open(found: &Found, path: &str, errno: Errno) -> Attempt {
    match statat(&found.directory, FILE, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::Fifo => Attempt::Failed(not_a_fifo(path, &stat)),
        _ if matches!(errno, Errno::NOENT | Errno::NXIO) => Attempt::Absent(absent(path)),
        _ => Attempt::Failed(Error::io("connect to", path, errno)),
    }
}

fn not_a_fifo(path: &str, stat: &Stat) -> Error {
    let detail = format!("not a FIFO but a {}", directory::describe_file(stat));
    Error::new(ErrorKind::UnsafeDirectory, "connect to", path, detail).next("find out who put it there, and remove it")
}

fn absent(path: &str) -> Error {
    Error::new(ErrorKind::NoServer, "connect to", path, "nobody reads it").next("start the server")
}

fn gave_up(path: &str) -> Error {
    Error::new(ErrorKind::TimedOut, "connect to", path, "the server ended the handshake")
        .next("try again; if it goes on, look at the server's log")
}

fn too_late(path: &str, detail: &'static str) -> Attempt {
    Attempt::Failed(
        Error::new(ErrorKind::TimedOut, "connect to", path, detail)
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
            return Err(Error::new(ErrorKind::NoServer, "connect to", path.display().to_string(), detail));
        };
        directory::check_ours(&path, &stat, &Trust::only_self())?;
        let failed = |errno: Errno| Error::io("make a FIFO in", path.display().to_string(), errno);
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

/// Writes the request in one piece; while the FIFO is full, until the deadline.
fn send_request(well_known: &OwnedFd, id: &ClientId, path: &str, deadline: Deadline) -> Result<(), Attempt> {
    let line = request::encode(id);
    let mut delay = Duration::from_millis(1);
    loop {
        match no_sigpipe::write_vectored(well_known, &[IoSlice::new(&line)]) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Err(Attempt::Absent(absent(path)));
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(Attempt::Failed(Error::io("connect to", path, error))),
        }
        if deadline.is_over() {
            let detail = "its queue of requests is full";
            return Err(Attempt::Failed(
                Error::new(ErrorKind::Busy, "connect to", path, detail)
                    .next("the server is stopped, overloaded or flooded; try again later"),
            ));
        }
        // Room in a FIFO that many write to is announced to all of them at once, so waiting for it would only wake them
        // to find it taken; a delay that grows spreads them out.
        pause(delay, deadline).map_err(|error| Error::io("connect to", path, error))?;
        delay = (delay * 2).min(Duration::from_millis(50));
    }
}

/// Waits for the server's answer, for its death and for the deadline.
fn await_hello(
    well_known: &OwnedFd,
    reader: &OwnedFd,
    id: &ClientId,
    path: &str,
    deadline: Deadline,
) -> Result<(), Attempt> {
    let failed = |error: io::Error| Attempt::Failed(Error::io("connect to", path, error));
    let broken = |detail: &'static str| Attempt::Failed(Error::new(ErrorKind::Protocol, "connect to", path, detail));
    let mut line = Vec::with_capacity(ANSWER_LEN_MAX);
    loop {
        let mut fds = [PollFd::new(reader, PollFlags::IN), PollFd::new(well_known, PollFlags::empty())];
        if !wait(&mut fds, deadline).map_err(failed)? {
            return Err(too_late(path, "the server has the request and does not answer"));
        }
        let mut buffer = [0; ANSWER_LEN_MAX];
        match rustix::io::read(reader, &mut buffer) {
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
        return match hello::parse_answer(&line, &id.nonce) {
            Some(Answer::Hello) => Ok(()),
            Some(Answer::Refused(Reason::Denied)) => Err(Attempt::Failed(Error::new(
                ErrorKind::Refused,
                "connect to",
                path,
                "the server's policy does not let us in",
            ))),
            Some(Answer::Refused(Reason::Busy)) => Err(Attempt::Again(
                Error::new(ErrorKind::Busy, "connect to", path, "the server has all the clients that it may have")
                    .next("try again later, or raise its limits"),
            )),
            None => Err(broken("the server's answer is not one to our request")),
        };
    }
}
