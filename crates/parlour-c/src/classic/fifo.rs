//! `parlour/fifo.h`: a server is a number. A connection is two FIFOs, and the part of the next message's length that
//! was read.
//!
//! The program owns the structs. A signal handler may change one while a call sleeps on it, so their fields are
//! atomic, and are loaded again after each sleep. The loads and stores are relaxed: a program that uses one struct in
//! several threads synchronises them itself.
#![allow(unsafe_code, non_camel_case_types)]

use std::io::IoSlice;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, RawFd};
use std::ptr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64};

use libc::{c_char, c_int, c_uint, c_void, size_t};
use parlour::{Connection, RawFds, Transport};
use rustix::io::{Errno as System, ReadWriteFlags, pwritev2, read, writev};

use super::errno::{self, Errno, explained};
use super::frame::{self, HEADER_LEN};
use super::listen;
use super::servers::{self, FileId, Handle, borrow};
use super::signals::{self, Blocked};
use super::sleepers::Direction;
use super::table;
use super::unix_sockets::pointer_errno;
use super::wait::{Call, Woken, sleep};
use crate::guard;

/// `struct server`.
#[repr(C)]
#[derive(Debug)]
pub struct server {
    fd: AtomicI32,
    state: AtomicU32,
    id: AtomicU64,
    reserved: [c_uint; 12],
}

/// `struct comm_channel`.
#[repr(C)]
#[derive(Debug)]
pub struct comm_channel {
    recv_fd: AtomicI32,
    send_fd: AtomicI32,
    state: AtomicU32,
    /// The header of the next message, of which `header_length` bytes were read.
    header: AtomicU32,
    header_length: AtomicU32,
    reserved: [c_uint; 11],
}

/// The value of `state` in a struct that was filled. Uninitialised memory is unlikely to have it by chance.
const SERVER: u32 = 0x7061_7273;
const CHANNEL: u32 = 0x7061_7263;
/// A channel whose peer does not receive any more. This is final: a process that opens the FIFO later must not get the
/// rest of the message.
const CHANNEL_BROKEN: u32 = 0x7061_7262;
const ENDED: u32 = 0;

/// True once the kernel has rejected `RWF_NOSIGNAL`. `--cfg parlour_sigpipe_mask` starts with true.
static MASK_INSTEAD: AtomicBool = AtomicBool::new(cfg!(parlour_sigpipe_mask));

/// Linux 6.18; `include/uapi/linux/fs.h`.
const RWF_NOSIGNAL: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x100);

/// `new_server`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_fifo_new_server(name: *const c_char, server: *mut server) -> c_int {
    errno::call(|| {
        // SAFETY: the caller passes NULL or a string.
        let name = unsafe { guard::text(name) }.map_err(|_| Errno(pointer_errno(name)))?;
        check(server)?;
        let (fd, id) = listen::bind(name, Transport::Fifo)?;
        let filled = self::server { fd: fd.into(), state: SERVER.into(), id: id.into(), reserved: [0; 12] };
        // SAFETY: `check` found it not NULL, so the caller passes a writable pointer.
        unsafe { ptr::write(server, filled) };
        Ok(0)
    })
}

/// `destroy_server`. Async-signal-safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_fifo_destroy_server(server: *mut server) {
    errno::call_quietly(|| {
        // SAFETY: the caller passes NULL or a struct, whose fields are atomic.
        let Some(server) = (unsafe { server.as_ref() }) else { return };
        if let Ok(id) = server.id() {
            listen::destroy(Handle::Fifo(id));
            server.state.store(ENDED, Relaxed);
        }
    });
}

/// `accept_client`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_fifo_accept_client(server: *mut server, channel: *mut comm_channel) -> c_int {
    errno::call(|| {
        check(channel)?;
        // SAFETY: the caller passes NULL or a struct, whose fields are atomic.
        let server = unsafe { server.as_ref() }.ok_or(Errno(libc::EFAULT))?;
        let fds = listen::accept(Handle::Fifo(server.id()?), |fds| match fds {
            RawFds::Fifo { recv, .. } => recv.as_raw_fd(),
            _ => -1,
        })?;
        // SAFETY: `check` found it not NULL, so the caller passes a writable pointer.
        unsafe { fill(channel, fds) }
    })
}

/// `connect_to`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_fifo_connect_to(name: *const c_char, channel: *mut comm_channel) -> c_int {
    errno::call(|| {
        // SAFETY: the caller passes NULL or a string.
        let name = unsafe { guard::text(name) }.map_err(|_| Errno(pointer_errno(name)))?;
        check(channel)?;
        let address = servers::address(name, Transport::Fifo)?;
        let connection = Connection::connect(address).map_err(|error| explained(&error))?;
        let fds = connection.into_raw_parts().map_err(|failed| explained(&failed.error))?.fds;
        // SAFETY: `check` found it not NULL, so the caller passes a writable pointer.
        unsafe { fill(channel, fds) }
    })
}

/// `disconnect_from`. Async-signal-safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_fifo_disconnect_from(channel: *mut comm_channel) {
    errno::call_quietly(|| {
        let blocked = Blocked::new();
        // SAFETY: the caller passes NULL or a struct, whose fields are atomic.
        let Ok(channel) = Channel::new(unsafe { channel.as_ref() }, &blocked) else { return };
        channel.set_state(ENDED);
        let table = table::lock(&blocked);
        for fd in [channel.recv_fd, channel.send_fd] {
            table.sleepers.wake(fd);
            // SAFETY: the channel owns the descriptors, and it has ended, so no call uses them any more.
            unsafe { libc::close(fd) };
        }
    });
}

/// `recv_info`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_fifo_recv_info(
    channel: *mut comm_channel,
    buffer: *mut c_void,
    size: size_t,
) -> c_int {
    errno::call(|| {
        // SAFETY: the caller passes NULL or `size` writable bytes that nothing else accesses during the call.
        let buffer = unsafe { guard::bytes_mut(buffer, size) }.map_err(|_| Errno(libc::EFAULT))?;
        let blocked = Blocked::new();
        // SAFETY: the caller passes NULL or a struct, whose fields are atomic.
        let received = Channel::new(unsafe { channel.as_ref() }, &blocked)?.receive(buffer)?;
        errno::set(Errno(if received == Some(0) { libc::ENOMSG } else { 0 }));
        Ok(frame::result(received.unwrap_or(0)))
    })
}

/// `send_info`. Async-signal-safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_fifo_send_info(
    channel: *mut comm_channel,
    message: *const c_void,
    length: size_t,
) -> c_int {
    errno::call(|| {
        // SAFETY: the caller passes NULL or `length` bytes that nothing changes during the call.
        let message = unsafe { guard::bytes(message, length) }.map_err(|_| Errno(libc::EFAULT))?;
        let blocked = Blocked::new();
        // SAFETY: the caller passes NULL or a struct, whose fields are atomic.
        Channel::new(unsafe { channel.as_ref() }, &blocked)?.send(message)?;
        Ok(frame::result(length))
    })
}

fn check<T>(pointer: *mut T) -> Result<(), Errno> {
    if pointer.is_null() { Err(Errno(libc::EFAULT)) } else { Ok(()) }
}

impl server {
    /// Returns the number of a server that has not ended.
    fn id(&self) -> Result<u64, Errno> {
        match self.state.load(Relaxed) {
            SERVER => Ok(self.id.load(Relaxed)),
            _ => Err(Errno(libc::EBADF)),
        }
    }
}

/// Fills a struct of the caller.
///
/// # Safety
///
/// `channel` is writable.
unsafe fn fill(channel: *mut comm_channel, fds: RawFds) -> Result<c_int, Errno> {
    let RawFds::Fifo { recv, send } = fds else { return Err(Errno(libc::EPROTO)) };
    let (recv_fd, send_fd) = (recv.into_raw_fd(), send.into_raw_fd());
    let filled = comm_channel {
        recv_fd: recv_fd.into(),
        send_fd: send_fd.into(),
        state: CHANNEL.into(),
        header: 0.into(),
        header_length: 0.into(),
        reserved: [0; 11],
    };
    // SAFETY: writable, by the contract of this function.
    unsafe { ptr::write(channel, filled) };
    Ok(0)
}

/// A channel during a call.
struct Channel<'a> {
    channel: &'a comm_channel,
    recv_fd: RawFd,
    send_fd: RawFd,
    blocked: &'a Blocked,
}

impl<'a> Channel<'a> {
    fn new(channel: Option<&'a comm_channel>, blocked: &'a Blocked) -> Result<Self, Errno> {
        let channel = channel.ok_or(Errno(libc::EFAULT))?;
        let (recv_fd, send_fd) = (channel.recv_fd.load(Relaxed), channel.send_fd.load(Relaxed));
        let channel = Self { channel, recv_fd, send_fd, blocked };
        match channel.state() {
            CHANNEL | CHANNEL_BROKEN => Ok(channel),
            _ => Err(Errno(libc::EBADF)),
        }
    }

    fn state(&self) -> u32 {
        self.channel.state.load(Relaxed)
    }

    fn set_state(&self, state: u32) {
        self.channel.state.store(state, Relaxed);
    }

    /// Returns the header of the next message, and the number of its bytes that were read.
    fn header(&self) -> ([u8; HEADER_LEN], usize) {
        let length = self.channel.header_length.load(Relaxed) as usize;
        (self.channel.header.load(Relaxed).to_ne_bytes(), length.min(HEADER_LEN))
    }

    fn set_header(&self, header: [u8; HEADER_LEN], length: usize) {
        self.channel.header.store(u32::from_ne_bytes(header), Relaxed);
        self.channel.header_length.store(length as u32, Relaxed);
    }

    /// Sleeps until a descriptor has one of these events. Fails with `EBADF` if the channel no longer owns it.
    fn sleep(&self, call: &Call<'_>, is_amid: bool, events: libc::c_short) -> Result<(), Errno> {
        let fd = call.fd();
        let file = FileId::of(fd).ok_or(Errno(libc::EBADF))?;
        let is_there = || self.state() != ENDED && FileId::of(fd) == Some(file);
        match sleep(call, is_amid, events, None, is_there)? {
            Woken::Interrupted if !is_amid && self.blocked.is_to_interrupt() => Err(Errno(libc::EINTR)),
            Woken::Interrupted | Woken::Ready(_) => Ok(()),
        }
    }

    /// Receives a message and returns its length. Returns `None` at the end of the stream.
    fn receive(&self, buffer: &mut [u8]) -> Result<Option<usize>, Errno> {
        let fifo = borrow(self.recv_fd)?;
        let call = Call::begin(self.blocked, self.recv_fd, Direction::Receive)?;
        loop {
            let (mut header, known) = self.header();
            if known == HEADER_LEN {
                let length = frame::length(header, buffer.len())?;
                self.read(&call, fifo, &mut buffer[..length])?;
                self.set_header([0; HEADER_LEN], 0);
                return Ok(Some(length));
            }
            match read(fifo, &mut header[known..]) {
                Ok(0) if known == 0 => return Ok(None),
                Ok(0) => return Err(Errno(libc::ECONNABORTED)),
                Ok(count) => self.set_header(header, known + count),
                Err(System::AGAIN) => self.sleep(&call, false, libc::POLLIN)?,
                Err(System::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Reads a message whose header was read.
    fn read(&self, call: &Call<'_>, fifo: BorrowedFd<'_>, message: &mut [u8]) -> Result<(), Errno> {
        let mut taken = 0;
        while taken < message.len() {
            match read(fifo, &mut message[taken..]) {
                Ok(0) => return Err(Errno(libc::ECONNABORTED)),
                Ok(count) => taken += count,
                Err(System::AGAIN) => self.sleep(call, true, libc::POLLIN)?,
                Err(System::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    fn send(&self, message: &[u8]) -> Result<(), Errno> {
        let header = frame::header(message.len())?;
        let fifo = borrow(self.send_fd)?;
        let call = Call::begin(self.blocked, self.send_fd, Direction::Send)?;
        let mut sent = 0;
        while sent < HEADER_LEN + message.len() {
            if self.state() == CHANNEL_BROKEN {
                return Err(Errno(libc::EPIPE));
            }
            let of_message = &message[sent.saturating_sub(HEADER_LEN)..];
            let pieces = [IoSlice::new(&header[sent.min(HEADER_LEN)..]), IoSlice::new(of_message)];
            match self.write(fifo, &pieces) {
                Ok(count) => sent += count,
                Err(System::AGAIN) => self.sleep(&call, sent > 0, libc::POLLOUT)?,
                Err(System::INTR) => {}
                Err(System::PIPE) => self.set_state(CHANNEL_BROKEN),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// Writes without raising `SIGPIPE`. On a kernel without `RWF_NOSIGNAL` it takes the pending signal back. All
    /// signals are blocked during a call, so no handler has run for it.
    fn write(&self, fifo: BorrowedFd<'_>, pieces: &[IoSlice<'_>]) -> Result<usize, System> {
        if !MASK_INSTEAD.load(Relaxed) {
            // A FIFO has no file offset. An offset of -1 makes pwritev2(2) write at the current position.
            match pwritev2(fifo, pieces, u64::MAX, RWF_NOSIGNAL) {
                Err(System::OPNOTSUPP | System::NOSYS) => MASK_INSTEAD.store(true, Relaxed),
                result => return result,
            }
        }
        let was_pending = signals::is_pending(libc::SIGPIPE);
        let result = writev(fifo, pieces);
        if result == Err(System::PIPE) && !was_pending {
            signals::take_back(libc::SIGPIPE, self.blocked);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Programs are compiled with the sizes of the header.
    #[test]
    fn the_structs_have_the_sizes_of_the_header() {
        assert_eq!((size_of::<server>(), size_of::<comm_channel>()), (64, 64));
    }
}
