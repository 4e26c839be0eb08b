//! `parlour/unix_sockets.h`: a connection is a socket.
//!
//! `recv_info` peeks at the header of a message (`MSG_PEEK`) before it takes the message. So a message that does not
//! fit the buffer stays in the socket, and this library keeps no state.
#![allow(unsafe_code)]

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};

use libc::{c_char, c_int, c_void, size_t};
use parlour::{Connection, RawFds, Transport};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno as System;
use rustix::net::{RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags, recv, recvmsg, sendmsg};

use super::errno::{self, Errno, explained};
use super::frame::{self, HEADER_LEN};
use super::listen;
use super::servers::{self, FileId, Handle, borrow};
use super::signals::Blocked;
use super::sleepers::Direction;
use super::table;
use super::wait::{Call, Woken, sleep};
use crate::guard;

/// The interval at which to check for the rest of a header of which a part has arrived. poll(2) cannot report the
/// rest, because the socket is already readable. A correct sender writes a header in one piece, so the delay is
/// acceptable.
const REST_MIN_MS: u32 = 1;
const REST_MAX_MS: u32 = 50;

/// `new_server`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_unix_new_server(name: *const c_char) -> c_int {
    errno::call(|| {
        // SAFETY: the caller passes NULL or a string.
        let name = unsafe { guard::text(name) }.map_err(|_| Errno(pointer_errno(name)))?;
        Ok(listen::bind(name, Transport::Unix)?.0)
    })
}

/// `destroy_server`. Async-signal-safe.
#[unsafe(no_mangle)]
pub extern "C" fn parlour_unix_destroy_server(server: c_int) {
    errno::call_quietly(|| listen::destroy(Handle::Unix(server)));
}

/// `accept_client`.
#[unsafe(no_mangle)]
pub extern "C" fn parlour_unix_accept_client(server: c_int) -> c_int {
    errno::call(|| {
        let fds = listen::accept(Handle::Unix(server), |fds| match fds {
            RawFds::Unix(socket) => socket.as_raw_fd(),
            _ => -1,
        })?;
        socket_of(fds)
    })
}

/// `connect_to`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_unix_connect_to(name: *const c_char) -> c_int {
    errno::call(|| {
        // SAFETY: the caller passes NULL or a string.
        let name = unsafe { guard::text(name) }.map_err(|_| Errno(pointer_errno(name)))?;
        let address = servers::address(name, Transport::Unix)?;
        let connection = Connection::connect(address).map_err(|error| explained(&error))?;
        socket_of(connection.into_raw_parts().map_err(|failed| explained(&failed.error))?.fds)
    })
}

/// `recv_info`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_unix_recv_info(connection: c_int, buffer: *mut c_void, size: size_t) -> c_int {
    errno::call(|| {
        // SAFETY: the caller passes NULL or `size` writable bytes that nothing else accesses during the call.
        let buffer = unsafe { guard::bytes_mut(buffer, size) }.map_err(|_| Errno(libc::EFAULT))?;
        let received = receive(connection, buffer)?;
        errno::set(Errno(if received == Some(0) { libc::ENOMSG } else { 0 }));
        Ok(frame::result(received.unwrap_or(0)))
    })
}

/// `send_info`. Async-signal-safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_unix_send_info(connection: c_int, message: *const c_void, length: size_t) -> c_int {
    errno::call(|| {
        // SAFETY: the caller passes NULL or `length` bytes that nothing changes during the call.
        let message = unsafe { guard::bytes(message, length) }.map_err(|_| Errno(libc::EFAULT))?;
        send(connection, message)?;
        Ok(frame::result(length))
    })
}

/// `disconnect_from`. Async-signal-safe.
#[unsafe(no_mangle)]
pub extern "C" fn parlour_unix_disconnect_from(connection: c_int) {
    errno::call_quietly(|| disconnect(connection));
}

/// Returns the error number of a string that `guard::text` rejected.
pub(super) fn pointer_errno(text: *const c_char) -> c_int {
    if text.is_null() { libc::EFAULT } else { libc::EINVAL }
}

/// Returns the socket of a connection in blocking mode, as a program expects it.
fn socket_of(fds: RawFds) -> Result<c_int, Errno> {
    let RawFds::Unix(socket) = fds else { return Err(Errno(libc::EPROTO)) };
    fcntl_setfl(&socket, fcntl_getfl(&socket)? - OFlags::NONBLOCK)?;
    Ok(OwnedFd::into_raw_fd(socket))
}

fn disconnect(fd: RawFd) {
    let blocked = Blocked::new();
    let Ok(socket) = borrow(fd) else { return };
    // A descriptor that is not a socket is a mistake of the program. It must not be closed.
    if rustix::net::getsockname(socket).is_err() {
        return;
    }
    // A sleeper that wakes must find the socket closed. It cannot leave the table while this thread holds the lock.
    let table = table::lock(&blocked);
    table.sleepers.wake(fd);
    // SAFETY: the program passes a socket that it owns, and gives it up.
    unsafe { libc::close(fd) };
}

/// A socket during a call. A signal handler or another thread may close it while the call sleeps.
struct Socket<'a> {
    fd: BorrowedFd<'a>,
    blocked: Blocked,
    /// The identity of the socket, to detect that the descriptor was closed and reused.
    file: FileId,
}

impl Socket<'_> {
    fn new(fd: RawFd) -> Result<Self, Errno> {
        let file = FileId::of(fd).ok_or(Errno(libc::EBADF))?;
        Ok(Self { fd: borrow(fd)?, blocked: Blocked::new(), file })
    }

    /// Sleeps until the socket has one of these events. Fails with `EBADF` if the descriptor no longer refers to it.
    fn sleep(
        &self,
        call: &Call<'_>,
        is_amid: bool,
        events: libc::c_short,
        timeout_ms: Option<u32>,
    ) -> Result<libc::c_short, Errno> {
        let fd = self.fd.as_raw_fd();
        let file = self.file;
        let is_there = || FileId::of(fd) == Some(file);
        match sleep(call, is_amid, events, timeout_ms, is_there)? {
            Woken::Ready(events) => Ok(events),
            Woken::Interrupted if !is_amid && self.blocked.is_to_interrupt() => Err(Errno(libc::EINTR)),
            Woken::Interrupted => Ok(0),
        }
    }

    /// Fails with `EAGAIN` if the program has set `O_NONBLOCK`.
    fn check_may_wait(&self) -> Result<(), Errno> {
        match fcntl_getfl(self.fd)?.contains(OFlags::NONBLOCK) {
            true => Err(Errno(libc::EAGAIN)),
            false => Ok(()),
        }
    }
}

/// Receives a message and returns its length. Returns `None` at the end of the stream.
fn receive(fd: RawFd, buffer: &mut [u8]) -> Result<Option<usize>, Errno> {
    let socket = Socket::new(fd)?;
    let call = Call::begin(&socket.blocked, fd, Direction::Receive)?;
    let Some(header) = look_at_header(&socket, &call)? else { return Ok(None) };
    let length = frame::length(header, buffer.len())?;

    // Take the header, which was only peeked at, and the message, and no byte of the next message.
    let mut header = [0; HEADER_LEN];
    let mut taken = 0;
    while taken < HEADER_LEN + length {
        let of_message = &mut buffer[taken.saturating_sub(HEADER_LEN)..length];
        let mut spaces = [IoSliceMut::new(&mut header[taken.min(HEADER_LEN)..]), IoSliceMut::new(of_message)];
        // Without a control buffer the kernel closes the descriptors of a message.
        let mut control = RecvAncillaryBuffer::default();
        match recvmsg(socket.fd, &mut spaces, &mut control, RecvFlags::DONTWAIT) {
            Ok(received) if received.bytes == 0 => return Err(Errno(libc::ECONNABORTED)),
            Ok(received) => taken += received.bytes,
            Err(System::AGAIN) => drop(socket.sleep(&call, true, libc::POLLIN, None)?),
            Err(System::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(Some(length))
}

/// Waits for the whole header of a message and peeks at it. Returns `None` at the end of the stream.
fn look_at_header(socket: &Socket<'_>, call: &Call<'_>) -> Result<Option<[u8; HEADER_LEN]>, Errno> {
    let mut rest_ms = REST_MIN_MS;
    let mut has_hung_up = false;
    let mut has_rested = false;
    loop {
        let mut header = [0; HEADER_LEN];
        let seen = match recv(socket.fd, &mut header[..], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok((_, seen)) => seen,
            Err(System::AGAIN) => {
                socket.check_may_wait()?;
                socket.sleep(call, false, libc::POLLIN, None)?;
                continue;
            }
            Err(System::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        };
        match seen {
            0 => return Ok(None),
            HEADER_LEN => return Ok(Some(header)),
            // No header begins with the byte of a refusal.
            1 if has_hung_up => return Err(frame::refusal(header[0]).unwrap_or(Errno(libc::ECONNABORTED))),
            _ if has_hung_up => return Err(Errno(libc::ECONNABORTED)),
            _ => {
                if has_rested {
                    socket.check_may_wait()?;
                }
                // Only the end of the stream wakes this sleep. Bytes that arrived before the end are read in the next
                // round.
                let events = socket.sleep(call, false, libc::POLLRDHUP, Some(rest_ms))?;
                has_hung_up = events & (libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR) != 0;
                rest_ms = (rest_ms * 2).min(REST_MAX_MS);
                // A non-blocking socket waits one interval, too. Otherwise a poll loop would spin until the rest
                // arrives.
                has_rested = true;
            }
        }
    }
}

fn send(fd: RawFd, message: &[u8]) -> Result<(), Errno> {
    let header = frame::header(message.len())?;
    let socket = Socket::new(fd)?;
    let call = Call::begin(&socket.blocked, fd, Direction::Send)?;
    let mut sent = 0;
    while sent < HEADER_LEN + message.len() {
        let of_message = &message[sent.saturating_sub(HEADER_LEN)..];
        let pieces = [IoSlice::new(&header[sent.min(HEADER_LEN)..]), IoSlice::new(of_message)];
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        match sendmsg(socket.fd, &pieces, &mut SendAncillaryBuffer::default(), flags) {
            Ok(count) => sent += count,
            Err(System::AGAIN) => {
                if sent == 0 {
                    socket.check_may_wait()?;
                }
                socket.sleep(&call, sent > 0, libc::POLLOUT, None)?;
            }
            Err(System::INTR) => {}
            // The peer closed without reading everything. For a sender this is a disconnected peer.
            Err(System::CONNRESET) => return Err(Errno(libc::EPIPE)),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}
