//! A private two-way channel of messages with one peer.
#![allow(unsafe_code, non_camel_case_types)]

use std::ffi::{c_char, c_int, c_void};
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::ptr::NonNull;
use std::time::Duration;

use parlour::{Connection, Message, Payload, Peer, Receiver, Sender};

use crate::guard::{self, Failure, Timeout, run, run_unit};
use crate::message::parlour_message;
use crate::options::parlour_connect_options;
use crate::payload::{Borrowed, parlour_payload};
use crate::peer::{parlour_capabilities, parlour_origin, parlour_peer, parlour_transport};
use crate::status::parlour_status;

/// A connection, or one direction of it (parlour_connection_split). One thread at a time may use it.
pub struct parlour_connection {
    ends: Ends,
    /// A message that was longer than the buffer of the caller.
    kept: Option<Message>,
}

enum Ends {
    Both(Connection),
    Sending(Sender),
    Receiving(Receiver),
    /// The new connection of a session, during the function of the caller.
    Lent(Lent),
}

/// A connection of another owner, who does not use it while this value exists.
struct Lent(NonNull<Connection>);

impl Deref for Lent {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        // SAFETY: `parlour_connection::lent` made the pointer of a reference that outlives every use of this value.
        unsafe { self.0.as_ref() }
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut Connection {
        // SAFETY: as above. The reference was an exclusive one, and so is this.
        unsafe { self.0.as_mut() }
    }
}

/// Runs the same code on the connection or on its sending half. Both have the same functions.
macro_rules! sending {
    ($connection:expr, $end:ident => $work:expr) => {
        match &mut $connection.ends {
            Ends::Both($end) => Ok($work),
            Ends::Lent($end) => Ok($work),
            Ends::Sending($end) => Ok($work),
            Ends::Receiving(_) => Err(other_half("sends")),
        }
    };
}

/// Runs the same code on the connection or on its receiving half.
macro_rules! receiving {
    ($connection:expr, $end:ident => $work:expr) => {
        match &mut $connection.ends {
            Ends::Both($end) => Ok($work),
            Ends::Lent($end) => Ok($work),
            Ends::Receiving($end) => Ok($work),
            Ends::Sending(_) => Err(other_half("receives")),
        }
    };
}

/// Runs the same code on the connection or on either half.
macro_rules! any {
    ($connection:expr, $end:ident => $work:expr) => {
        match &$connection.ends {
            Ends::Both($end) => $work,
            Ends::Lent($end) => $work,
            Ends::Sending($end) => $work,
            Ends::Receiving($end) => $work,
        }
    };
}

fn other_half(does: &str) -> Failure {
    Failure::Here(
        parlour_status::PARLOUR_UNSUPPORTED,
        format!("the connection was split, and the other half {does}").into(),
    )
}

fn not_whole() -> Failure {
    let reason = "the connection is a half already, or belongs to a session";
    Failure::Here(parlour_status::PARLOUR_UNSUPPORTED, reason.into())
}

impl parlour_connection {
    pub(crate) fn new(connection: Connection) -> Self {
        Self { ends: Ends::Both(connection), kept: None }
    }

    /// Creates a handle for the function of a caller. The connection must not be used otherwise until the handle is
    /// gone.
    pub(crate) fn lent(connection: &mut Connection) -> Self {
        Self { ends: Ends::Lent(Lent(NonNull::from(connection))), kept: None }
    }

    /// Takes a whole connection from the caller. One that is not whole stays as it is.
    ///
    /// # Safety
    ///
    /// `connection` is NULL or a live connection. The caller does not use it after a success.
    pub(crate) unsafe fn taken(connection: *mut Self) -> Result<Connection, Failure> {
        // SAFETY: NULL or a live connection, by the contract of this function.
        if !matches!(unsafe { guard::shared(connection, "the connection") }?.ends, Ends::Both(_)) {
            return Err(not_whole());
        }
        // SAFETY: checked above not to be NULL, so a live connection, which the caller gives up.
        match unsafe { guard::taken(connection) }.map(|taken| taken.ends) {
            Some(Ends::Both(both)) => Ok(both),
            _ => Err(not_whole()),
        }
    }

    /// Returns the message that was longer than the buffer of the caller.
    pub(crate) fn into_kept(self) -> Option<Message> {
        self.kept
    }

    /// Returns the peer.
    pub(crate) fn peer(&self) -> &Peer {
        any!(self, end => end.peer())
    }

    /// Returns the side that sends.
    pub(crate) fn sending(&mut self) -> Result<Sending<'_>, Failure> {
        match &mut self.ends {
            Ends::Both(both) => Ok(Sending::Whole(both)),
            Ends::Lent(lent) => Ok(Sending::Whole(lent)),
            Ends::Sending(sender) => Ok(Sending::Half(sender)),
            Ends::Receiving(_) => Err(other_half("sends")),
        }
    }

    /// Receives one message. Returns `None` at the end of the stream.
    fn receive(&mut self, timeout: Timeout) -> Result<Option<Message>, Failure> {
        if let Some(kept) = self.kept.take() {
            return Ok(Some(kept));
        }
        match timeout {
            Timeout::Infinite => receiving!(self, end => end.recv()?),
            Timeout::Zero => receiving!(self, end => end.try_recv())?
                .map_err(|error| Failure::of_try_recv(error, "no whole message has arrived")),
            Timeout::After(duration) => receiving!(self, end => end.recv_timeout(duration)?),
        }
    }

    fn send(&mut self, payload: Payload<'_>, timeout: Timeout) -> Result<(), Failure> {
        match timeout {
            Timeout::Infinite => sending!(self, end => end.send(payload)?),
            Timeout::Zero => sending!(self, end => end.try_send(payload))?
                .map_err(|error| Failure::of_try_send(error, "the channel is full; nothing of the message was sent")),
            Timeout::After(duration) => sending!(self, end => end.send_timeout(payload, duration)?),
        }
    }

    fn feed(&mut self, message: &[u8], timeout: Timeout) -> Result<(), Failure> {
        match timeout.limit() {
            None => sending!(self, end => end.feed(message)?),
            Some(limit) => sending!(self, end => end.feed_timeout(message, limit)?),
        }
    }

    fn flush(&mut self, timeout: Timeout) -> Result<(), Failure> {
        match timeout {
            Timeout::Infinite => sending!(self, end => end.flush()?),
            Timeout::Zero => sending!(self, end => end.try_flush())?
                .map_err(|error| Failure::of_try_send(error, "the channel is full; the rest stays buffered")),
            Timeout::After(duration) => sending!(self, end => end.flush_timeout(duration)?),
        }
    }

    fn finish(&mut self, timeout: Timeout) -> Result<(), Failure> {
        match timeout.limit() {
            None => sending!(self, end => end.finish()?),
            Some(limit) => sending!(self, end => end.finish_timeout(limit)?),
        }
    }

    fn close(self, timeout: Timeout) -> Result<(), Failure> {
        match (self.ends, timeout.limit()) {
            (Ends::Both(both), None) => Ok(both.close()?),
            (Ends::Both(both), Some(limit)) => Ok(both.close_timeout(limit)?),
            (Ends::Sending(mut sender), None) => Ok(sender.finish()?),
            (Ends::Sending(mut sender), Some(limit)) => Ok(sender.finish_timeout(limit)?),
            (Ends::Receiving(_) | Ends::Lent(_), _) => Ok(()),
        }
    }
}

/// The side of a connection that sends, for functions that send in the course of something else.
pub(crate) enum Sending<'a> {
    Whole(&'a mut Connection),
    Half(&'a mut Sender),
}

impl Sending<'_> {
    /// Sends one message, and waits up to `limit` while the channel is full.
    pub(crate) fn send(&mut self, payload: Payload<'_>, limit: Option<Duration>) -> parlour::Result<()> {
        match (self, limit) {
            (Self::Whole(connection), None) => connection.send(payload),
            (Self::Whole(connection), Some(limit)) => connection.send_timeout(payload, limit),
            (Self::Half(sender), None) => sender.send(payload),
            (Self::Half(sender), Some(limit)) => sender.send_timeout(payload, limit),
        }
    }
}

/// Connects to the server that holds a name, and stores the new connection in `*connection`. Free it with
/// parlour_connection_close or parlour_connection_free.
///
/// `address` is as for parlour_server_bind. Without a transport in the address, the best one that the server offers is
/// used. Before this side sends a byte, it checks that the server runs as this user or root, or as the user of
/// parlour_connect_options_server_uid. `options` may be NULL for the defaults.
///
/// The call blocks for at most the sum of the times of parlour_connect_options_wait_for_server and
/// parlour_connect_options_timeout.
///
/// Errors:
/// - PARLOUR_INVALID_NAME: `address` is not well formed.
/// - PARLOUR_INVALID_OPTION: an option has a value outside its range.
/// - PARLOUR_NO_SERVER: no server holds the name.
/// - PARLOUR_REFUSED: the server rejected the connection. Over `unix` and `packet` connecting does not involve the
///   server: a refusal is the error of the first parlour_recv or parlour_send that finds the connection ended,
///   PARLOUR_REFUSED or PARLOUR_BUSY.
/// - PARLOUR_DENIED: the system, or the check of the server's user, does not permit the connection.
/// - PARLOUR_BUSY: the server did not accept the client before the deadline, has reached a limit, or a system call of
///   the server failed.
/// - PARLOUR_TIMED_OUT: the server did not complete the handshake before the deadline.
/// - PARLOUR_PROTOCOL: the server violated the protocol of the handshake.
/// - PARLOUR_UNSUPPORTED: the FIFO of the server is not a private FIFO of its user.
/// - PARLOUR_UNSAFE_DIRECTORY: another user could interfere with a directory of the name.
/// - PARLOUR_IO: a system call failed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_connect(
    address: *const c_char,
    options: *const parlour_connect_options,
    connection: *mut *mut parlour_connection,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a writable pointer.
        unsafe { guard::check_out(connection) }?;
        // SAFETY: the caller passes NULL or a string.
        let address = unsafe { guard::text(address) }?;
        // SAFETY: the caller passes NULL or live options.
        let options = unsafe { options.as_ref() }.map(|options| options.options.clone()).unwrap_or_default();
        let connected = options.connect(address)?;
        // SAFETY: `check_out` accepted the pointer.
        unsafe { guard::give(connection, parlour_connection::new(connected)) };
        Ok(())
    })
}

/// Sends one message: the `length` bytes at `data`. `data` may be NULL if `length` is 0.
///
/// Returns when the kernel, or the shared memory, has accepted the message; the peer may not have read it yet. Blocks
/// up to `timeout_ms` while the channel is full.
///
/// If the timeout passes, or a system call fails, after a part of the message was sent, the rest is kept and the call
/// returns PARLOUR_OK. The rest is sent before anything else: with the next send, with parlour_flush, or while a
/// receive blocks.
///
/// PARLOUR_OK means that the message was sent, or that its rest is kept and will be sent. parlour_connection_free does
/// not wait for the rest, and the peer then receives PARLOUR_TRUNCATED. parlour_flush, parlour_finish and
/// parlour_connection_close wait.
///
/// After PARLOUR_DISCONNECTED or PARLOUR_PROTOCOL a part of the message may have been sent, and this side can send no
/// more. After any other error below nothing of the message was sent, and the caller may send it again.
///
/// Errors:
/// - PARLOUR_TIMED_OUT: the channel was full until the deadline.
/// - PARLOUR_MESSAGE_TOO_LONG: the message is longer than the limit. The connection is as before.
/// - PARLOUR_DISCONNECTED: the peer does not receive any more, or parlour_finish was called. No signal is raised.
/// - PARLOUR_PROTOCOL: the peer broke the protocol.
/// - PARLOUR_UNSUPPORTED: the connection is the receiving half.
/// - PARLOUR_IO: a system call failed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_send(
    connection: *mut parlour_connection,
    data: *const c_void,
    length: usize,
    timeout_ms: i64,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a live connection that no other thread uses during the call.
        let connection = unsafe { guard::exclusive(connection, "the connection") }?;
        // SAFETY: the caller passes NULL or `length` bytes.
        let message = unsafe { guard::bytes(data, length) }?;
        connection.send(Payload::new(message), Timeout::of(timeout_ms))
    })
}

/// Sends one message as parlour_send does: bytes in one part or in several, with descriptors or shared blocks. See
/// parlour_payload.
///
/// Errors: those of parlour_send and parlour_payload, and:
/// - PARLOUR_MESSAGE_TOO_LONG: the message is longer than the limit, or has more than 253 descriptors or blocks.
/// - PARLOUR_UNSUPPORTED: the transport does not carry descriptors, or does not carry shared blocks.
/// - PARLOUR_REFUSED: the peer allows no descriptors. A kernel before Linux 6.16 cannot report this, and the
///   descriptors then end the connection. A message with more descriptors than the peer allows also ends it.
/// - PARLOUR_IO: a system call failed, for example because too many descriptors of this user were sent and not
///   received yet. They count against RLIMIT_NOFILE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_send_payload(
    connection: *mut parlour_connection,
    payload: *const parlour_payload,
    timeout_ms: i64,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a live connection that no other thread uses during the call.
        let connection = unsafe { guard::exclusive(connection, "the connection") }?;
        // SAFETY: the caller passes NULL or a payload that is as parlour_payload describes it.
        let borrowed = unsafe { Borrowed::of(payload) }?;
        connection.send(borrowed.payload(), Timeout::of(timeout_ms))
    })
}

/// Buffers one message, to be written together with the next ones. Many small messages are sent an order of magnitude
/// faster this way.
///
/// If the message does not fit in the buffer of 64 KiB, the call writes the buffer and sends the message. Only in this
/// case does it block, up to `timeout_ms`. Otherwise the buffer is written by the next parlour_send or
/// parlour_send_payload, by parlour_flush, parlour_finish or parlour_connection_close, or before a receive on this
/// connection blocks. `data` may be NULL if `length` is 0.
///
/// Errors: those of parlour_send. After PARLOUR_TIMED_OUT this message was neither buffered nor sent. Earlier messages
/// that were not written stay buffered.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_feed(
    connection: *mut parlour_connection,
    data: *const c_void,
    length: usize,
    timeout_ms: i64,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a live connection that no other thread uses during the call.
        let connection = unsafe { guard::exclusive(connection, "the connection") }?;
        // SAFETY: the caller passes NULL or `length` bytes.
        let message = unsafe { guard::bytes(data, length) }?;
        connection.feed(message, Timeout::of(timeout_ms))
    })
}

/// Writes all buffered messages. Blocks up to `timeout_ms` while the channel is full.
///
/// Errors:
/// - PARLOUR_TIMED_OUT: the channel was full until the deadline. The rest stays buffered.
/// - PARLOUR_DISCONNECTED: the peer has disconnected.
/// - PARLOUR_PROTOCOL: the peer broke the protocol.
/// - PARLOUR_UNSUPPORTED: the connection is the receiving half.
/// - PARLOUR_IO: a system call failed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_flush(connection: *mut parlour_connection, timeout_ms: i64) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a live connection that no other thread uses during the call.
        unsafe { guard::exclusive(connection, "the connection") }?.flush(Timeout::of(timeout_ms))
    })
}

/// Receives one message and stores a handle of it in `*message`. The caller owns the handle and frees it with
/// parlour_message_free.
///
/// Blocks up to `timeout_ms` until a whole message has arrived. Writes buffered messages before it blocks, because the
/// peer may wait for them. An error of this write does not end the receive; the next send returns it.
///
/// After PARLOUR_TIMED_OUT, an answer that arrives late is what the next receive returns. Put a number into each
/// request and its answer, or close the connection.
///
/// Returns PARLOUR_OK, or PARLOUR_END at the end of the stream: the peer sends no more, and all of its messages were
/// received. `*message` is then NULL.
///
/// Errors:
/// - PARLOUR_TIMED_OUT: no whole message has arrived. A partially received message is kept for the next call.
/// - PARLOUR_TRUNCATED: the peer disconnected mid-message.
/// - PARLOUR_DISCONNECTED: the peer closed without reading all that this side sent. This replaces PARLOUR_END where
///   the transport can tell (not on `fifo`). A `unix` server that rejects a client which has already sent something
///   causes it, too.
/// - PARLOUR_MESSAGE_TOO_LONG: the peer announced more bytes than the limit. Nothing was allocated, and this direction
///   has ended.
/// - PARLOUR_PROTOCOL: the peer broke the protocol.
/// - PARLOUR_UNSUPPORTED: the connection is the sending half.
/// - PARLOUR_IO: a system call failed, or the descriptor table of this process is full and the descriptors of a message
///   were lost.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_recv(
    connection: *mut parlour_connection,
    timeout_ms: i64,
    message: *mut *mut parlour_message,
) -> parlour_status {
    run(|| {
        // SAFETY: the caller passes NULL or a writable pointer.
        unsafe { guard::check_out(message) }?;
        // SAFETY: the caller passes NULL or a live connection that no other thread uses during the call.
        let connection = unsafe { guard::exclusive(connection, "the connection") }?;
        let Some(received) = connection.receive(Timeout::of(timeout_ms))? else {
            return Ok(parlour_status::PARLOUR_END);
        };
        // SAFETY: `check_out` accepted the pointer.
        unsafe { guard::give(message, parlour_message { message: received }) };
        Ok(parlour_status::PARLOUR_OK)
    })
}

/// Receives one message as parlour_recv does, into a buffer of `size` bytes. Stores the length of the message in
/// `*length`. Descriptors of the message are closed. `buffer` may be NULL if `size` is 0.
///
/// Errors: those of parlour_recv, and:
/// - PARLOUR_BUFFER_TOO_SMALL: the message is longer than `size`. `*length` is its length, the buffer is unchanged,
///   and the next receive returns the message.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_recv_into(
    connection: *mut parlour_connection,
    buffer: *mut c_void,
    size: usize,
    length: *mut usize,
    timeout_ms: i64,
) -> parlour_status {
    run(|| {
        if length.is_null() {
            return Err(Failure::null("the length"));
        }
        // SAFETY: not NULL, so the caller passes a writable pointer.
        unsafe { guard::put(length, 0) };
        // SAFETY: the caller passes NULL or a live connection that no other thread uses during the call.
        let connection = unsafe { guard::exclusive(connection, "the connection") }?;
        // SAFETY: the caller passes NULL or `size` writable bytes that nothing else accesses during the call.
        let buffer = unsafe { guard::bytes_mut(buffer, size) }?;
        let Some(received) = connection.receive(Timeout::of(timeout_ms))? else {
            return Ok(parlour_status::PARLOUR_END);
        };
        // SAFETY: not NULL, so the caller passes a writable pointer.
        unsafe { guard::put(length, received.len()) };
        match buffer.get_mut(..received.len()) {
            Some(room) => room.copy_from_slice(&received),
            None => {
                let reason = format!("the message has {} bytes, and the buffer holds {size}", received.len());
                connection.kept = Some(received);
                return Err(Failure::Here(parlour_status::PARLOUR_BUFFER_TOO_SMALL, reason.into()));
            }
        }
        Ok(parlour_status::PARLOUR_OK)
    })
}

/// Returns true if a receive would not block because data is buffered. Polling parlour_connection_recv_fd does not
/// show this: before poll(2), call this function, or receive with a timeout of 0 until PARLOUR_TIMED_OUT. Returns
/// false for NULL and for the sending half.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_has_message(connection: *const parlour_connection) -> bool {
    guard::value(false, || {
        // SAFETY: the caller passes NULL or a live connection.
        let connection = unsafe { connection.as_ref() }?;
        Some(match &connection.ends {
            _ if connection.kept.is_some() => true,
            Ends::Both(both) => both.has_message(),
            Ends::Lent(lent) => lent.has_message(),
            Ends::Receiving(receiver) => receiver.has_message(),
            Ends::Sending(_) => false,
        })
    })
}

/// Writes all buffered messages, then ends sending (half-close): the peer receives PARLOUR_END after the last message.
/// Receiving goes on. Blocks up to `timeout_ms` while the channel is full. Does nothing if sending has ended.
///
/// Errors:
/// - PARLOUR_TIMED_OUT: the channel was full until the deadline. Sending goes on, and the rest stays buffered.
/// - PARLOUR_DISCONNECTED: the peer has disconnected.
/// - PARLOUR_PROTOCOL: the peer broke the protocol.
/// - PARLOUR_UNSUPPORTED: the connection is the receiving half.
/// - PARLOUR_IO: a system call failed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_finish(connection: *mut parlour_connection, timeout_ms: i64) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a live connection that no other thread uses during the call.
        unsafe { guard::exclusive(connection, "the connection") }?.finish(Timeout::of(timeout_ms))
    })
}

/// Splits a connection into its two directions, for two threads, and stores a handle of each in `*sending` and
/// `*receiving`. `connection` is freed. From then on, freeing one half ends its direction and leaves the other one
/// open.
///
/// After PARLOUR_NULL_POINTER and PARLOUR_UNSUPPORTED, `connection` is still valid. After PARLOUR_INTERNAL it may have
/// been freed, and must not be used.
///
/// Errors:
/// - PARLOUR_UNSUPPORTED: the connection is a half already, or belongs to a session.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_connection_split(
    connection: *mut parlour_connection,
    sending: *mut *mut parlour_connection,
    receiving: *mut *mut parlour_connection,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a writable pointer.
        unsafe { guard::check_out(sending) }?;
        // SAFETY: the caller passes NULL or a writable pointer.
        unsafe { guard::check_out(receiving) }?;
        // SAFETY: the caller passes NULL or a live connection.
        if !matches!(unsafe { guard::shared(connection, "the connection") }?.ends, Ends::Both(_)) {
            return Err(not_whole());
        }
        // SAFETY: checked above not to be NULL, so the caller passes a live connection, and gives it up.
        let Some(taken) = (unsafe { guard::taken(connection) }) else { return Ok(()) };
        let parlour_connection { ends: Ends::Both(both), kept } = *taken else { return Ok(()) };
        let (sender, receiver) = both.split();
        // SAFETY: `check_out` accepted the pointer.
        unsafe { guard::give(sending, parlour_connection { ends: Ends::Sending(sender), kept: None }) };
        // SAFETY: `check_out` accepted the pointer.
        unsafe { guard::give(receiving, parlour_connection { ends: Ends::Receiving(receiver), kept }) };
        Ok(())
    })
}

/// Stores the identity of the peer in `*peer`. Does not block. `*peer` holds no resources.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_connection_peer(
    connection: *const parlour_connection,
    peer: *mut parlour_peer,
) -> parlour_status {
    run_unit(|| {
        if peer.is_null() {
            return Err(Failure::null("the peer"));
        }
        // SAFETY: the caller passes NULL or a live connection.
        let connection = unsafe { guard::shared(connection, "the connection") }?;
        let known = parlour_peer::of(connection.peer());
        // SAFETY: not NULL, so the caller passes a writable pointer.
        unsafe { guard::put(peer, known) };
        Ok(())
    })
}

/// Stores in `*origin` the host that the peer comes from, if it is a client of a bridge that runs as the user of this
/// server or as root. Otherwise `origin->host` is empty. Does not block. `*origin` holds no resources.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_connection_origin(
    connection: *const parlour_connection,
    origin: *mut parlour_origin,
) -> parlour_status {
    run_unit(|| {
        if origin.is_null() {
            return Err(Failure::null("the origin"));
        }
        // SAFETY: the caller passes NULL or a live connection.
        let connection = unsafe { guard::shared(connection, "the connection") }?;
        let known = parlour_origin::of(connection.peer().origin());
        // SAFETY: not NULL, so the caller passes a writable pointer.
        unsafe { guard::put(origin, known) };
        Ok(())
    })
}

/// Opens a pidfd of the peer's process (SO_PEERPIDFD, Linux 6.5) and stores it in `*pidfd`. It is close-on-exec. The
/// caller closes it.
///
/// The pidfd refers to that process alone, even after the process id was reused, and becomes readable when the process
/// ends. After an error, `*pidfd` is -1.
///
/// Errors:
/// - PARLOUR_UNSUPPORTED: the transport has no peer credentials of the kernel (`fifo`), the connection is a half, or
///   the kernel has no SO_PEERPIDFD (before Linux 6.5).
/// - PARLOUR_IO: a system call failed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_connection_pidfd(
    connection: *const parlour_connection,
    pidfd: *mut c_int,
) -> parlour_status {
    run_unit(|| {
        if pidfd.is_null() {
            return Err(Failure::null("the descriptor"));
        }
        // SAFETY: not NULL, so the caller passes a writable pointer.
        unsafe { guard::put(pidfd, -1) };
        // SAFETY: the caller passes NULL or a live connection.
        let both = both(unsafe { guard::shared(connection, "the connection") }?)?;
        const OPERATION: &str = "open a pidfd of the peer";
        let process = both.peer_pidfd().map_err(|error| match error.kind() {
            std::io::ErrorKind::Unsupported => {
                Failure::Here(parlour_status::PARLOUR_UNSUPPORTED, format!("cannot {OPERATION}: {error}").into())
            }
            _ => Failure::Io(OPERATION, error),
        })?;
        // SAFETY: not NULL, so the caller passes a writable pointer.
        unsafe { guard::put(pidfd, process.into_raw_fd()) };
        Ok(())
    })
}

/// Returns the connection if it was not split.
fn both(connection: &parlour_connection) -> Result<&Connection, Failure> {
    match &connection.ends {
        Ends::Both(both) => Ok(both),
        Ends::Lent(lent) => Ok(lent),
        Ends::Sending(_) | Ends::Receiving(_) => {
            let reason = "the connection was split; call this function before splitting it";
            Err(Failure::Here(parlour_status::PARLOUR_UNSUPPORTED, reason.into()))
        }
    }
}

/// Returns the transport of a connection, or PARLOUR_TRANSPORT_NONE for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_connection_transport(connection: *const parlour_connection) -> parlour_transport {
    guard::value(parlour_transport::PARLOUR_TRANSPORT_NONE, || {
        // SAFETY: the caller passes NULL or a live connection.
        let connection = unsafe { connection.as_ref() }?;
        Some(any!(connection, end => parlour_transport::of(end.transport())))
    })
}

/// Stores the capabilities of a connection in `*capabilities`.
///
/// Errors:
/// - PARLOUR_UNSUPPORTED: the connection is a half.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_connection_capabilities(
    connection: *const parlour_connection,
    capabilities: *mut parlour_capabilities,
) -> parlour_status {
    run_unit(|| {
        if capabilities.is_null() {
            return Err(Failure::null("the capabilities"));
        }
        // SAFETY: the caller passes NULL or a live connection.
        let both = both(unsafe { guard::shared(connection, "the connection") }?)?;
        // SAFETY: not NULL, so the caller passes a writable pointer.
        unsafe { guard::put(capabilities, parlour_capabilities::of(both.capabilities())) };
        Ok(())
    })
}

/// Returns a descriptor for poll(2) with POLLIN: it is readable when a receive may make progress. Before each poll,
/// call parlour_has_message, and poll only if it returns false.
///
/// The connection owns the descriptor: do not read, write or close it. It is valid until the connection is freed.
/// Returns -1 for NULL and for the sending half.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_connection_recv_fd(connection: *const parlour_connection) -> c_int {
    guard::value(-1, || {
        // SAFETY: the caller passes NULL or a live connection.
        Some(match &unsafe { connection.as_ref() }?.ends {
            Ends::Both(both) => both.recv_fd().as_raw_fd(),
            Ends::Lent(lent) => lent.recv_fd().as_raw_fd(),
            Ends::Receiving(receiver) => receiver.recv_fd().as_raw_fd(),
            Ends::Sending(_) => return None,
        })
    })
}

/// Returns a descriptor for poll(2) with POLLOUT: it is writable when a send may make progress. It reports POLLERR or
/// POLLHUP when the peer has disconnected. Before each poll, call parlour_send or parlour_flush with a timeout of 0,
/// and poll only if it returns PARLOUR_TIMED_OUT.
///
/// The connection owns the descriptor: do not read, write or close it. It is valid until the connection is freed.
/// Returns -1 for NULL, for the receiving half, and after parlour_finish.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_connection_send_fd(connection: *const parlour_connection) -> c_int {
    guard::value(-1, || {
        // SAFETY: the caller passes NULL or a live connection.
        Some(match &unsafe { connection.as_ref() }?.ends {
            Ends::Both(both) => both.send_fd()?.as_raw_fd(),
            Ends::Lent(lent) => lent.send_fd()?.as_raw_fd(),
            Ends::Sending(sender) => sender.send_fd()?.as_raw_fd(),
            Ends::Receiving(_) => return None,
        })
    })
}

/// Waits until the peer has closed the connection: it neither sends nor receives any more, because it has closed or
/// freed its end, its process has ended, or it has ended sending after this side did. Receives nothing: messages that
/// the peer sent before can still be received. Buffered messages are not written.
///
/// Errors:
/// - PARLOUR_TIMED_OUT: the peer has not closed.
/// - PARLOUR_UNSUPPORTED: `connection` is a half.
/// - PARLOUR_IO: a system call failed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_connection_wait_closed(
    connection: *const parlour_connection,
    timeout_ms: i64,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a live connection.
        let both: &Connection = match &unsafe { guard::shared(connection, "the connection") }?.ends {
            Ends::Both(both) => both,
            Ends::Lent(lent) => lent,
            Ends::Sending(_) | Ends::Receiving(_) => return Err(not_whole()),
        };
        match Timeout::of(timeout_ms).limit() {
            None => Ok(both.wait_closed()?),
            Some(limit) => Ok(both.wait_closed_timeout(limit)?),
        }
    })
}

/// Writes all buffered messages, ends the connection, and frees it in any case. Blocks up to `timeout_ms` while the
/// channel is full.
///
/// Errors:
/// - PARLOUR_TIMED_OUT: the channel was full until the deadline, and some messages were lost.
/// - PARLOUR_DISCONNECTED: messages were buffered, and the peer has disconnected.
/// - PARLOUR_PROTOCOL: messages were buffered, and the peer broke the protocol.
/// - PARLOUR_IO: messages were buffered, and a system call failed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_connection_close(
    connection: *mut parlour_connection,
    timeout_ms: i64,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a live connection, and gives it up.
        let taken = unsafe { guard::taken(connection) }.ok_or_else(|| Failure::null("the connection"))?;
        taken.close(Timeout::of(timeout_ms))
    })
}

/// Ends a connection with an error for the peer, and frees it. The peer receives PARLOUR_TRUNCATED or
/// PARLOUR_DISCONNECTED, and not PARLOUR_END, after messages that are in the channel. Buffered messages are discarded.
/// Does not block. After parlour_finish the peer has been told that it has everything, and this function is the same as
/// parlour_connection_free. Aborting the sending half leaves the other direction open. Does nothing for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_connection_abort(connection: *mut parlour_connection) {
    guard::value((), || {
        // SAFETY: the caller passes NULL or a live connection, and gives it up.
        match unsafe { guard::taken(connection) }?.ends {
            Ends::Both(both) => both.abort(),
            Ends::Sending(sender) => sender.abort(),
            Ends::Receiving(_) | Ends::Lent(_) => {}
        }
        Some(())
    });
}

/// Ends a connection without blocking, and frees it. Buffered messages that a full channel does not take are lost.
/// Does nothing for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_connection_free(connection: *mut parlour_connection) {
    // SAFETY: the caller passes NULL or a live connection, and gives it up.
    unsafe { guard::free(connection) };
}
