//! A private two-way channel of messages with one peer.
#![allow(unsafe_code, non_camel_case_types)]

use std::ffi::{c_char, c_int, c_void};
use std::io::IoSlice;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd};

use libc::iovec;
use parlour::{Connection, Message, Receiver, Sender, SharedBytes, TryRecvError, TrySendError};

use crate::guard::{self, Failure, Timeout, array, run, run_unit};
use crate::message::parlour_message;
use crate::options::parlour_connect_options;
use crate::peer::{parlour_capabilities, parlour_peer, parlour_transport};
use crate::shared::parlour_shared;
use crate::status::parlour_status;

/// A connection, or one direction of it. One thread at a time may use it.
pub struct parlour_connection {
    ends: Ends,
    /// A message for which there was no room.
    kept: Option<Message>,
}

enum Ends {
    Both(Connection),
    Sending(Sender),
    Receiving(Receiver),
}

impl parlour_connection {
    pub(crate) fn new(connection: Connection) -> Self {
        Self { ends: Ends::Both(connection), kept: None }
    }

    fn one_way(ends: Ends) -> Self {
        Self { ends, kept: None }
    }

    /// Receives; `None` is the end.
    fn receive(&mut self, timeout: Timeout) -> Result<Option<Message>, Failure> {
        if let Some(kept) = self.kept.take() {
            return Ok(Some(kept));
        }
        let tried = |result: Result<Option<Message>, TryRecvError>| match result {
            Ok(message) => Ok(message),
            Err(TryRecvError::Empty) => Err(Failure::timed_out("no whole message has arrived yet")),
            Err(TryRecvError::Failed(error)) => Err(error.into()),
        };
        match (&mut self.ends, timeout) {
            (Ends::Both(connection), Timeout::Infinite) => Ok(connection.recv()?),
            (Ends::Both(connection), Timeout::Zero) => tried(connection.try_recv()),
            (Ends::Both(connection), Timeout::After(duration)) => Ok(connection.recv_timeout(duration)?),
            (Ends::Receiving(receiver), Timeout::Infinite) => Ok(receiver.recv()?),
            (Ends::Receiving(receiver), Timeout::Zero) => tried(receiver.try_recv()),
            (Ends::Receiving(receiver), Timeout::After(duration)) => Ok(receiver.recv_timeout(duration)?),
            (Ends::Sending(_), _) => Err(other_half("receives")),
        }
    }

    fn send(&mut self, message: &[u8], timeout: Timeout) -> Result<(), Failure> {
        let tried = |result: Result<(), TrySendError<&[u8]>>| match result {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => Err(Failure::timed_out("the channel is full; nothing was sent")),
            Err(TrySendError::Failed(error)) => Err(error.into()),
        };
        match (&mut self.ends, timeout) {
            (Ends::Both(connection), Timeout::Infinite) => Ok(connection.send(message)?),
            (Ends::Both(connection), Timeout::Zero) => tried(connection.try_send(message)),
            (Ends::Both(connection), Timeout::After(duration)) => Ok(connection.send_timeout(message, duration)?),
            (Ends::Sending(sender), Timeout::Infinite) => Ok(sender.send(message)?),
            (Ends::Sending(sender), Timeout::Zero) => tried(sender.try_send(message)),
            (Ends::Sending(sender), Timeout::After(duration)) => Ok(sender.send_timeout(message, duration)?),
            (Ends::Receiving(_), _) => Err(other_half("sends")),
        }
    }
}

fn other_half(does: &str) -> Failure {
    Failure::Here(
        parlour_status::PARLOUR_UNSUPPORTED,
        format!("the connection was split, and the other half of it {does}").into(),
    )
}

/// Runs the same on whatever sends.
macro_rules! sending {
    ($connection:expr, $end:ident => $work:expr) => {
        match &mut $connection.ends {
            Ends::Both($end) => Ok($work),
            Ends::Sending($end) => Ok($work),
            Ends::Receiving(_) => Err(other_half("sends")),
        }
    };
}

/// Runs the same on all that there is.
macro_rules! any {
    ($connection:expr, $end:ident => $work:expr) => {
        match &$connection.ends {
            Ends::Both($end) => $work,
            Ends::Sending($end) => $work,
            Ends::Receiving($end) => $work,
        }
    };
}

/// Connects to the server with this name, over the best transport on offer if the address demands none, and makes
/// sure that it runs as this user or root. `options` may be NULL: the defaults.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_connect(
    address: *const c_char,
    options: *const parlour_connect_options,
    connection: *mut *mut parlour_connection,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller's contract.
        unsafe { guard::check_out(connection) }?;
        // SAFETY: the caller's contract.
        let address = unsafe { guard::text(address) }?;
        // SAFETY: NULL, or by the caller's contract a live handle.
        let options = unsafe { options.as_ref() }.map(|options| options.options.clone()).unwrap_or_default();
        let connected = options.connect(address)?;
        // SAFETY: checked above.
        unsafe { guard::give(connection, parlour_connection::new(connected)) };
        Ok(())
    })
}

/// Sends one message. Waits up to `timeout_ms` (less than 0: for ever; 0: not at all) while the channel is full;
/// after PARLOUR_TIMED_OUT nothing of it was sent. `data` may be NULL when `length` is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_send(
    connection: *mut parlour_connection,
    data: *const c_void,
    length: usize,
    timeout_ms: i64,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller's contract.
        let connection = unsafe { guard::exclusive(connection, "the connection") }?;
        // SAFETY: the caller's contract.
        connection.send(unsafe { guard::bytes(data, length) }?, Timeout::of(timeout_ms))
    })
}

/// Sends one message that lies in parts, without copying them together. Waits for ever.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_sendv(
    connection: *mut parlour_connection,
    parts: *const iovec,
    count: usize,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller's contract.
        let connection = unsafe { guard::exclusive(connection, "the connection") }?;
        // SAFETY: the caller's contract.
        let parts: &[iovec] = unsafe { array(parts, count) }?;
        // SAFETY: the caller's contract, for each.
        let bytes = parts.iter().map(|part| unsafe { guard::bytes(part.iov_base, part.iov_len) });
        let slices: Vec<_> = bytes.map(|bytes| Ok(IoSlice::new(bytes?))).collect::<Result<_, Failure>>()?;
        sending!(connection, end => end.send_vectored(&slices)?)
    })
}

/// Sends a message with open descriptors: the receiver has copies of them, ours stay ours to close. Over unix and
/// packet, where the other side allows some.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_send_fds(
    connection: *mut parlour_connection,
    data: *const c_void,
    length: usize,
    fds: *const c_int,
    count: usize,
    timeout_ms: i64,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller's contract.
        let connection = unsafe { guard::exclusive(connection, "the connection") }?;
        // SAFETY: the caller's contract.
        let message = unsafe { guard::bytes(data, length) }?;
        // SAFETY: the caller's contract.
        let numbers: &[c_int] = unsafe { array(fds, count) }?;
        if numbers.iter().any(|&fd| fd < 0) {
            return Err(Failure::invalid("a number is not that of a descriptor"));
        }
        // SAFETY: not -1, so by the caller's contract descriptors that are open through the call.
        let fds: Vec<_> = numbers.iter().map(|&fd| unsafe { BorrowedFd::borrow_raw(fd) }).collect();
        match Timeout::of(timeout_ms) {
            Timeout::Infinite => sending!(connection, end => end.send_with_fds(message, &fds)?),
            timeout => sending!(connection, end => end.send_with_fds_timeout(message, &fds, time_of(timeout))?),
        }
    })
}

/// Sends a message with shared blocks, which are not copied, however large. Over shm, packet and unix, where the
/// other side allows descriptors.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_send_shared(
    connection: *mut parlour_connection,
    data: *const c_void,
    length: usize,
    blocks: *const *const parlour_shared,
    count: usize,
    timeout_ms: i64,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller's contract.
        let connection = unsafe { guard::exclusive(connection, "the connection") }?;
        // SAFETY: the caller's contract.
        let message = unsafe { guard::bytes(data, length) }?;
        // SAFETY: the caller's contract.
        let handles: &[*const parlour_shared] = unsafe { array(blocks, count) }?;
        let block = |&handle: &*const parlour_shared| {
            // SAFETY: the caller's contract.
            Ok(&unsafe { guard::shared(handle, "a block") }?.bytes)
        };
        let blocks: Vec<&SharedBytes> = handles.iter().map(block).collect::<Result<_, Failure>>()?;
        match Timeout::of(timeout_ms) {
            Timeout::Infinite => sending!(connection, end => end.send_shared(message, &blocks)?),
            timeout => sending!(connection, end => end.send_shared_timeout(message, &blocks, time_of(timeout))?),
        }
    })
}

/// Gives the time of a timeout that is not infinite.
fn time_of(timeout: Timeout) -> std::time::Duration {
    match timeout {
        Timeout::After(duration) => duration,
        Timeout::Infinite | Timeout::Zero => std::time::Duration::ZERO,
    }
}

/// Takes a message to go with the next ones, in one write: with the next send, with parlour_flush, before this
/// connection sleeps in a receive, or when 64 KiB have come together. Waits, for ever, only when it has to write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_feed(
    connection: *mut parlour_connection,
    data: *const c_void,
    length: usize,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller's contract.
        let connection = unsafe { guard::exclusive(connection, "the connection") }?;
        // SAFETY: the caller's contract.
        let message = unsafe { guard::bytes(data, length) }?;
        sending!(connection, end => end.feed(message)?)
    })
}

/// Sends what was fed. Waits for ever while the channel is full.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_flush(connection: *mut parlour_connection) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller's contract.
        let connection = unsafe { guard::exclusive(connection, "the connection") }?;
        sending!(connection, end => end.flush()?)
    })
}

/// Sends what was fed, without waiting. PARLOUR_TIMED_OUT: something is left.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_try_flush(connection: *mut parlour_connection) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller's contract.
        let connection = unsafe { guard::exclusive(connection, "the connection") }?;
        match sending!(connection, end => end.try_flush()?)? {
            true => Ok(()),
            false => Err(Failure::timed_out("the channel is full; something is left to be sent")),
        }
    })
}

/// Waits up to `timeout_ms` (less than 0: for ever; 0: not at all) until a whole message has arrived, and gives it
/// without copying it. Free it with parlour_message_free. PARLOUR_END: the other side sends no more. After
/// PARLOUR_TIMED_OUT what has arrived of one is kept.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_recv(
    connection: *mut parlour_connection,
    timeout_ms: i64,
    message: *mut *mut parlour_message,
) -> parlour_status {
    run(|| {
        // SAFETY: the caller's contract.
        unsafe { guard::check_out(message) }?;
        // SAFETY: the caller's contract.
        let connection = unsafe { guard::exclusive(connection, "the connection") }?;
        let Some(received) = connection.receive(Timeout::of(timeout_ms))? else {
            return Ok(parlour_status::PARLOUR_END);
        };
        // SAFETY: checked above.
        unsafe { guard::give(message, parlour_message { message: received }) };
        Ok(parlour_status::PARLOUR_OK)
    })
}

/// parlour_recv into memory of the caller's. `length` gets how long the message is. PARLOUR_BUFFER_TOO_SMALL: it is
/// longer than `size`, nothing was written, and it stays for the next receive. Descriptors that came along are
/// closed.
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
        // SAFETY: the caller's contract.
        unsafe { guard::put(length, 0) };
        // SAFETY: the caller's contract.
        let connection = unsafe { guard::exclusive(connection, "the connection") }?;
        // SAFETY: the caller's contract.
        let buffer = unsafe { guard::bytes_mut(buffer, size) }?;
        let Some(received) = connection.receive(Timeout::of(timeout_ms))? else {
            return Ok(parlour_status::PARLOUR_END);
        };
        // SAFETY: the caller's contract.
        unsafe { guard::put(length, received.len()) };
        match buffer.get_mut(..received.len()) {
            Some(room) => room.copy_from_slice(&received),
            None => {
                let why = format!("the message has {} bytes, and there is room for {size}", received.len());
                connection.kept = Some(received);
                return Err(Failure::Here(parlour_status::PARLOUR_BUFFER_TOO_SMALL, why.into()));
            }
        }
        Ok(parlour_status::PARLOUR_OK)
    })
}

/// Whether a receive has an answer that it need not wait for and that no descriptor will announce. Ask before
/// poll(2), or receive with 0 until PARLOUR_TIMED_OUT. False for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_has_message(connection: *const parlour_connection) -> bool {
    guard::value(false, || {
        // SAFETY: the caller's contract.
        let connection = unsafe { connection.as_ref() }?;
        Some(match &connection.ends {
            _ if connection.kept.is_some() => true,
            Ends::Both(both) => both.has_message(),
            Ends::Receiving(receiver) => receiver.has_message(),
            Ends::Sending(_) => false,
        })
    })
}

/// Ends sending, after what was fed is sent; the peer gets PARLOUR_END after the last message. Receiving goes on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_finish(connection: *mut parlour_connection) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller's contract.
        let connection = unsafe { guard::exclusive(connection, "the connection") }?;
        sending!(connection, end => end.finish()?)
    })
}

/// Gives each direction to a handle of its own, for two threads. Takes the connection: it is not to be freed any
/// more. Freeing one of the halves ends its direction and leaves the other. A half cannot be split:
/// PARLOUR_UNSUPPORTED, and it stays.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_connection_split(
    connection: *mut parlour_connection,
    sending: *mut *mut parlour_connection,
    receiving: *mut *mut parlour_connection,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller's contract.
        unsafe { guard::check_out(sending) }?;
        // SAFETY: the caller's contract.
        unsafe { guard::check_out(receiving) }?;
        // SAFETY: the caller's contract.
        if !matches!(unsafe { guard::shared(connection, "the connection") }?.ends, Ends::Both(_)) {
            return Err(Failure::Here(parlour_status::PARLOUR_UNSUPPORTED, "it is a half already".into()));
        }
        // SAFETY: not NULL, as was seen, and the caller's to give.
        let Some(taken) = (unsafe { guard::taken(connection) }) else { return Ok(()) };
        let parlour_connection { ends: Ends::Both(both), kept } = *taken else { return Ok(()) };
        let (sender, receiver) = both.split();
        // SAFETY: checked above.
        unsafe { guard::give(sending, parlour_connection::one_way(Ends::Sending(sender))) };
        // SAFETY: checked above.
        unsafe { guard::give(receiving, parlour_connection { ends: Ends::Receiving(receiver), kept }) };
        Ok(())
    })
}

/// Who is at the other end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_connection_peer(
    connection: *const parlour_connection,
    peer: *mut parlour_peer,
) -> parlour_status {
    run_unit(|| {
        if peer.is_null() {
            return Err(Failure::null("the peer"));
        }
        // SAFETY: the caller's contract.
        let connection = unsafe { guard::shared(connection, "the connection") }?;
        let known = any!(connection, end => parlour_peer::of(end.peer()));
        // SAFETY: the caller's contract.
        unsafe { guard::put(peer, known) };
        Ok(())
    })
}

/// A descriptor of the peer's process, the caller's to close, for watching its life: pidfd_open(2).
/// PARLOUR_UNSUPPORTED where the kernel vouches for nobody, and for a half.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_connection_pidfd(
    connection: *const parlour_connection,
    pidfd: *mut c_int,
) -> parlour_status {
    run_unit(|| {
        if pidfd.is_null() {
            return Err(Failure::null("the descriptor"));
        }
        // SAFETY: the caller's contract.
        unsafe { guard::put(pidfd, -1) };
        // SAFETY: the caller's contract.
        let Ends::Both(both) = &unsafe { guard::shared(connection, "the connection") }?.ends else {
            return Err(Failure::Here(parlour_status::PARLOUR_UNSUPPORTED, "ask before splitting".into()));
        };
        let process = both.peer_pidfd().map_err(|error| {
            let status = match error.kind() {
                std::io::ErrorKind::Unsupported => parlour_status::PARLOUR_UNSUPPORTED,
                _ => parlour_status::PARLOUR_IO,
            };
            Failure::Here(status, format!("cannot open the peer's process: {error}").into())
        })?;
        // SAFETY: the caller's contract.
        unsafe { guard::put(pidfd, process.into_raw_fd()) };
        Ok(())
    })
}

/// The transport that was chosen; PARLOUR_TRANSPORT_NONE for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_connection_transport(connection: *const parlour_connection) -> parlour_transport {
    guard::value(parlour_transport::PARLOUR_TRANSPORT_NONE, || {
        // SAFETY: the caller's contract.
        let connection = unsafe { connection.as_ref() }?;
        Some(any!(connection, end => parlour_transport::of(end.transport())))
    })
}

/// What this connection can do. Not for a half: PARLOUR_UNSUPPORTED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_connection_capabilities(
    connection: *const parlour_connection,
    capabilities: *mut parlour_capabilities,
) -> parlour_status {
    run_unit(|| {
        if capabilities.is_null() {
            return Err(Failure::null("the capabilities"));
        }
        // SAFETY: the caller's contract.
        let Ends::Both(both) = &unsafe { guard::shared(connection, "the connection") }?.ends else {
            return Err(Failure::Here(parlour_status::PARLOUR_UNSUPPORTED, "ask before splitting".into()));
        };
        // SAFETY: the caller's contract.
        unsafe { guard::put(capabilities, parlour_capabilities::of(both.capabilities())) };
        Ok(())
    })
}

/// Readable when a receive may go on. For waiting only, while parlour_has_message says no. -1 for NULL and where
/// nothing is received.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_connection_recv_fd(connection: *const parlour_connection) -> c_int {
    guard::value(-1, || {
        // SAFETY: the caller's contract.
        Some(match &unsafe { connection.as_ref() }?.ends {
            Ends::Both(both) => both.recv_fd().as_raw_fd(),
            Ends::Receiving(receiver) => receiver.recv_fd().as_raw_fd(),
            Ends::Sending(_) => return None,
        })
    })
}

/// Writable when a send may go on. For waiting only. -1 for NULL and where nothing is sent any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_connection_send_fd(connection: *const parlour_connection) -> c_int {
    guard::value(-1, || {
        // SAFETY: the caller's contract.
        Some(match &unsafe { connection.as_ref() }?.ends {
            Ends::Both(both) => both.send_fd()?.as_raw_fd(),
            Ends::Sending(sender) => sender.send_fd()?.as_raw_fd(),
            Ends::Receiving(_) => return None,
        })
    })
}

/// Sends what was fed, ends the connection, frees it, and says how that went; it is freed in any case.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_connection_close(connection: *mut parlour_connection) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller's contract.
        let taken = unsafe { guard::taken(connection) }.ok_or_else(|| Failure::null("the connection"))?;
        match taken.ends {
            Ends::Both(both) => Ok(both.close()?),
            Ends::Sending(mut sender) => Ok(sender.finish()?),
            Ends::Receiving(_) => Ok(()),
        }
    })
}

/// Ends the connection without waiting: what was fed and a full channel does not take is lost. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_connection_free(connection: *mut parlour_connection) {
    // SAFETY: the caller's contract.
    unsafe { guard::free(connection) };
}
