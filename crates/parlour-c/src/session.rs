//! A client that outlives its servers.
#![allow(unsafe_code, non_camel_case_types)]

use std::collections::VecDeque;
use std::ffi::{c_char, c_int, c_void};
use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, PoisonError};

use parlour::{Connection, Loss, Message, Payload, Session};

use crate::connection::parlour_connection;
use crate::guard::{self, Failure, Timeout, run_unit};
use crate::message::parlour_message;
use crate::options::parlour_connect_options;
use crate::payload::{Borrowed, parlour_payload};
use crate::peer::{parlour_peer, parlour_transport};
use crate::status::{parlour_status, status_with_number};

/// A client that connects again when its server has gone, and reports what may be lost. One thread at a time may use
/// it.
///
/// Each call connects first if there is no connection, and waits for a server up to its `timeout_ms`. When the server
/// has gone, the next call says so, once, with PARLOUR_LOST, and the call after it connects again, with back-off.
/// parlour_session_loss has the account of the connection that has ended. Nothing is sent twice by itself.
pub struct parlour_session {
    /// `None` only while it is exchanged.
    session: Option<Session>,
    /// The last connection that has ended.
    loss: parlour_loss,
    unreceived: VecDeque<Message>,
    /// A message that was longer than the buffer of the caller.
    kept: Option<Message>,
    of_hook: Arc<Mutex<OfHook>>,
}

/// The result of the function of the caller.
#[derive(Default)]
struct OfHook {
    /// The status and the text of a failure that ends the call.
    failure: Option<(parlour_status, String)>,
    /// A message that was longer than the buffer of the function.
    kept: Option<Message>,
}

/// The possible loss with a connection of a session. Each number is about the connection that ended last, without the
/// messages of parlour_on_connect. A message counts as sent when parlour_session_send or parlour_session_feed returned
/// PARLOUR_OK.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct parlour_loss {
    /// The number of connections of this session that have ended. If it is 0, the other fields are 0, too.
    pub connections_ended: u64,
    /// The number of messages that were sent.
    pub sent: u64,
    /// The number of messages that were received.
    pub received: u64,
    /// The number of messages that were sent since the last one was received.
    pub sent_since_received: u64,
    /// The number of messages of the server that had arrived and were not received. parlour_session_next_unreceived
    /// returns them.
    pub unreceived: u64,
    /// The server closed without reading all that was sent. False does not mean that it read all.
    pub unread: bool,
    /// Messages were still buffered in this process. They count as sent, and the server did not receive them.
    pub unwritten: bool,
}

/// A function of the caller that is called after each connect of a session, before the connection is used: to log in,
/// or to subscribe again. It returns a number of enum parlour_status, PARLOUR_OK if it succeeded.
///
/// `connection` is valid during the call. The function must not free, close or split it. If the function fails, the
/// session closes the connection. After PARLOUR_END, PARLOUR_DISCONNECTED, PARLOUR_TRUNCATED, PARLOUR_TIMED_OUT,
/// PARLOUR_BUSY and PARLOUR_NO_SERVER the session tries again, after a pause. Any other status, such as
/// PARLOUR_DENIED, is returned by the call that connected.
pub type parlour_on_connect =
    Option<unsafe extern "C" fn(connection: *mut parlour_connection, user: *mut c_void) -> c_int>;

/// A pointer of the caller, for the caller's function.
struct User(*mut c_void);

// SAFETY: only the caller's function dereferences the pointer. By the contract of `parlour_session_on_connect` any
// thread that uses the session may call that function with the pointer.
unsafe impl Send for User {}

impl parlour_session {
    fn new(session: Session) -> Self {
        Self {
            session: Some(session),
            loss: parlour_loss::default(),
            unreceived: VecDeque::new(),
            kept: None,
            of_hook: Arc::default(),
        }
    }

    /// Makes a call, and converts its error. Keeps the account of a connection that has ended.
    fn call<T>(&mut self, call: impl FnOnce(&mut Session) -> Result<T, Failure>) -> Result<T, Failure> {
        let session = self.session.as_mut().ok_or_else(|| Failure::invalid("the session is in use"))?;
        let outcome = call(session);
        let mut of_hook = self.of_hook.lock().unwrap_or_else(PoisonError::into_inner);
        self.kept = of_hook.kept.take().or_else(|| self.kept.take());
        let failure = of_hook.failure.take();
        match outcome {
            Ok(value) => Ok(value),
            Err(Failure::Error(error)) => {
                if let Some(loss) = error.loss() {
                    self.loss = parlour_loss::of(loss, self.loss.connections_ended + 1);
                    self.unreceived = session.take_unreceived().into();
                }
                match failure {
                    Some((status, text)) => Err(Failure::Here(status, text.into())),
                    None => Err(Failure::Error(error)),
                }
            }
            Err(other) => Err(other),
        }
    }

    fn connect(&mut self, timeout: Timeout) -> Result<(), Failure> {
        self.call(|session| match timeout.limit() {
            None => Ok(session.connect().map(drop)?),
            Some(limit) => Ok(session.connect_timeout(limit).map(drop)?),
        })
    }

    fn send(&mut self, payload: Payload<'_>, timeout: Timeout) -> Result<(), Failure> {
        const FULL: &str = "the channel is full, or there is no connection yet; nothing of the message was sent";
        self.call(|session| match timeout {
            Timeout::Infinite => Ok(session.send(payload)?),
            Timeout::Zero => session.try_send(payload).map_err(|error| Failure::of_try_send(error, FULL)),
            Timeout::After(duration) => Ok(session.send_timeout(payload, duration)?),
        })
    }

    fn feed(&mut self, message: &[u8], timeout: Timeout) -> Result<(), Failure> {
        self.call(|session| match timeout.limit() {
            None => Ok(session.feed(message)?),
            Some(limit) => Ok(session.feed_timeout(message, limit)?),
        })
    }

    fn flush(&mut self, timeout: Timeout) -> Result<(), Failure> {
        self.call(|session| match timeout.limit() {
            None => Ok(session.flush()?),
            Some(limit) => Ok(session.flush_timeout(limit)?),
        })
    }

    fn receive(&mut self, timeout: Timeout) -> Result<Message, Failure> {
        const EMPTY: &str = "no whole message has arrived, or there is no connection yet";
        if let Some(kept) = self.kept.take() {
            return Ok(kept);
        }
        self.call(|session| match timeout {
            Timeout::Infinite => Ok(session.recv()?),
            Timeout::Zero => session.try_recv().map_err(|error| Failure::of_try_recv(error, EMPTY)),
            Timeout::After(duration) => Ok(session.recv_timeout(duration)?),
        })
    }

    fn connection(&self) -> Option<&Connection> {
        self.session.as_ref().and_then(Session::connection)
    }
}

impl parlour_loss {
    fn of(loss: &Loss, connections_ended: u64) -> Self {
        Self {
            connections_ended,
            sent: loss.sent(),
            received: loss.received(),
            sent_since_received: loss.sent_since_received(),
            unreceived: loss.unreceived() as u64,
            unread: loss.unread(),
            unwritten: loss.unwritten(),
        }
    }
}

/// Converts the number that the function of the caller returned. A failure that ends the call is kept in `of_hook`.
fn outcome_of_hook(number: c_int, of_hook: &Mutex<OfHook>) -> io::Result<()> {
    use parlour_status::*;
    let status = status_with_number(number).unwrap_or(PARLOUR_INVALID_ARGUMENT);
    match status {
        PARLOUR_OK => Ok(()),
        PARLOUR_END | PARLOUR_DISCONNECTED | PARLOUR_TRUNCATED => Err(io::ErrorKind::BrokenPipe.into()),
        PARLOUR_TIMED_OUT | PARLOUR_BUSY | PARLOUR_NO_SERVER => Err(io::ErrorKind::TimedOut.into()),
        _ => {
            let text = format!("the function of parlour_session_on_connect returned {number} ({status:?})");
            let mut of_hook = of_hook.lock().unwrap_or_else(PoisonError::into_inner);
            of_hook.failure = Some((status, text.clone()));
            Err(io::Error::other(text))
        }
    }
}

/// Creates a session with the server that holds a name, and stores it in `*session`. Does not connect. Free it with
/// parlour_session_close or parlour_session_free.
///
/// `address` and `options` are as for parlour_connect. `options` may be NULL for the defaults. The option
/// parlour_connect_options_wait_for_server has no effect: a session waits as long as the timeouts of its calls allow.
///
/// Errors:
/// - PARLOUR_INVALID_NAME: `address` is not well formed.
/// - PARLOUR_INVALID_OPTION: an option has a value outside its range.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_session_open(
    address: *const c_char,
    options: *const parlour_connect_options,
    session: *mut *mut parlour_session,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a writable pointer.
        unsafe { guard::check_out(session) }?;
        // SAFETY: the caller passes NULL or a string.
        let address = unsafe { guard::text(address) }?;
        // SAFETY: the caller passes NULL or live options.
        let opened = match unsafe { options.as_ref() } {
            Some(options) => options.options.session(address, &options.reconnect)?,
            None => Session::new(address)?,
        };
        // SAFETY: `check_out` accepted the pointer.
        unsafe { guard::give(session, parlour_session::new(opened)) };
        Ok(())
    })
}

/// Sets the function that is called after each connect, including the first one. See parlour_on_connect. `user` is
/// passed to it, and may be NULL. The function and `user` must stay valid as long as the session. The timeout of a call
/// does not interrupt the function: use timeouts in it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_session_on_connect(
    session: *mut parlour_session,
    hook: parlour_on_connect,
    user: *mut c_void,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a live session that no other thread uses during the call.
        let session = unsafe { guard::exclusive(session, "the session") }?;
        let hook = hook.ok_or_else(|| Failure::null("the function"))?;
        let user = User(user);
        let of_hook = Arc::clone(&session.of_hook);
        let call = move |connection: &mut Connection| {
            let user = &user;
            let mut lent = parlour_connection::lent(connection);
            // SAFETY: the caller passes a function that may be called with a connection and this `user`. The connection
            // outlives the call, and nothing else uses it meanwhile.
            let number = unsafe { hook(&raw mut lent, user.0) };
            outcome_of_hook(number, &of_hook)?;
            of_hook.lock().unwrap_or_else(PoisonError::into_inner).kept = lent.into_kept();
            Ok(())
        };
        session.session = session.session.take().map(|taken| taken.on_connect(call));
        Ok(())
    })
}

/// Connects if there is no connection. Blocks up to `timeout_ms` until a server is there. The other calls connect by
/// themselves.
///
/// Errors: those of parlour_connect that waiting does not resolve, such as PARLOUR_DENIED and PARLOUR_REFUSED; the
/// status of parlour_on_connect; and:
/// - PARLOUR_TIMED_OUT: there was no connection before the deadline. The next call goes on where this one ended.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_session_connect(session: *mut parlour_session, timeout_ms: i64) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a live session that no other thread uses during the call.
        unsafe { guard::exclusive(session, "the session") }?.connect(Timeout::of(timeout_ms))
    })
}

/// Sends one message as parlour_send does. Connects first if there is no connection; with a `timeout_ms` of 0, as far
/// as that is possible without waiting. After an error the server does not receive the message.
///
/// Errors: those of parlour_session_connect, those of parlour_send after which the connection is as before, and:
/// - PARLOUR_LOST: the connection has ended. parlour_session_loss has the account. The next call connects again.
/// - PARLOUR_REFUSED, PARLOUR_PROTOCOL: the connection has ended for this reason.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_session_send(
    session: *mut parlour_session,
    data: *const c_void,
    length: usize,
    timeout_ms: i64,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a live session that no other thread uses during the call.
        let session = unsafe { guard::exclusive(session, "the session") }?;
        // SAFETY: the caller passes NULL or `length` bytes.
        let message = unsafe { guard::bytes(data, length) }?;
        session.send(Payload::new(message), Timeout::of(timeout_ms))
    })
}

/// Sends one message as parlour_session_send does: bytes in one part or in several, with descriptors or shared blocks.
///
/// Errors: those of parlour_session_send and parlour_send_payload.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_session_send_payload(
    session: *mut parlour_session,
    payload: *const parlour_payload,
    timeout_ms: i64,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a live session that no other thread uses during the call.
        let session = unsafe { guard::exclusive(session, "the session") }?;
        // SAFETY: the caller passes NULL or a payload that is as parlour_payload describes it.
        let borrowed = unsafe { Borrowed::of(payload) }?;
        session.send(borrowed.payload(), Timeout::of(timeout_ms))
    })
}

/// Buffers one message as parlour_feed does. Connects first if there is no connection. The message counts as sent, and
/// is lost with the connection.
///
/// Errors: those of parlour_session_send.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_session_feed(
    session: *mut parlour_session,
    data: *const c_void,
    length: usize,
    timeout_ms: i64,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a live session that no other thread uses during the call.
        let session = unsafe { guard::exclusive(session, "the session") }?;
        // SAFETY: the caller passes NULL or `length` bytes.
        let message = unsafe { guard::bytes(data, length) }?;
        session.feed(message, Timeout::of(timeout_ms))
    })
}

/// Writes all buffered messages as parlour_flush does. Does nothing if there is no connection.
///
/// Errors: those of parlour_flush after which the connection is as before, and PARLOUR_LOST.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_session_flush(session: *mut parlour_session, timeout_ms: i64) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a live session that no other thread uses during the call.
        unsafe { guard::exclusive(session, "the session") }?.flush(Timeout::of(timeout_ms))
    })
}

/// Receives one message as parlour_recv does, and stores a handle of it in `*message`. Connects first if there is no
/// connection; with a `timeout_ms` of 0, as far as that is possible without waiting. Never returns PARLOUR_END, and
/// never a message of an earlier connection.
///
/// Errors: those of parlour_session_connect, and:
/// - PARLOUR_LOST: the connection has ended, and all messages that had arrived were received. parlour_session_loss has
///   the account. The next call connects again.
/// - PARLOUR_REFUSED, PARLOUR_PROTOCOL, PARLOUR_MESSAGE_TOO_LONG: the connection has ended for this reason.
/// - PARLOUR_TIMED_OUT: no whole message has arrived. A partially received message is kept for the next call.
/// - PARLOUR_IO: a system call failed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_session_recv(
    session: *mut parlour_session,
    timeout_ms: i64,
    message: *mut *mut parlour_message,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a writable pointer.
        unsafe { guard::check_out(message) }?;
        // SAFETY: the caller passes NULL or a live session that no other thread uses during the call.
        let session = unsafe { guard::exclusive(session, "the session") }?;
        let received = session.receive(Timeout::of(timeout_ms))?;
        // SAFETY: `check_out` accepted the pointer.
        unsafe { guard::give(message, parlour_message { message: received }) };
        Ok(())
    })
}

/// Receives one message as parlour_session_recv does, into a buffer of `size` bytes. Stores the length of the message
/// in `*length`. Descriptors of the message are closed. `buffer` may be NULL if `size` is 0.
///
/// Errors: those of parlour_session_recv, and:
/// - PARLOUR_BUFFER_TOO_SMALL: the message is longer than `size`. `*length` is its length, the buffer is unchanged,
///   and the next receive returns the message.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_session_recv_into(
    session: *mut parlour_session,
    buffer: *mut c_void,
    size: usize,
    length: *mut usize,
    timeout_ms: i64,
) -> parlour_status {
    run_unit(|| {
        if length.is_null() {
            return Err(Failure::null("the length"));
        }
        // SAFETY: not NULL, so the caller passes a writable pointer.
        unsafe { guard::put(length, 0) };
        // SAFETY: the caller passes NULL or a live session that no other thread uses during the call.
        let session = unsafe { guard::exclusive(session, "the session") }?;
        // SAFETY: the caller passes NULL or `size` writable bytes that nothing else accesses during the call.
        let buffer = unsafe { guard::bytes_mut(buffer, size) }?;
        let received = session.receive(Timeout::of(timeout_ms))?;
        // SAFETY: not NULL, so the caller passes a writable pointer.
        unsafe { guard::put(length, received.len()) };
        match buffer.get_mut(..received.len()) {
            Some(room) => room.copy_from_slice(&received),
            None => {
                let reason = format!("the message has {} bytes, and the buffer holds {size}", received.len());
                session.kept = Some(received);
                return Err(Failure::Here(parlour_status::PARLOUR_BUFFER_TOO_SMALL, reason.into()));
            }
        }
        Ok(())
    })
}

/// Stores the account of the connection that ended last in `*loss`. All fields are 0 if none has ended.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_session_loss(
    session: *const parlour_session,
    loss: *mut parlour_loss,
) -> parlour_status {
    run_unit(|| {
        if loss.is_null() {
            return Err(Failure::null("the account"));
        }
        // SAFETY: the caller passes NULL or a live session.
        let session = unsafe { guard::shared(session, "the session") }?;
        // SAFETY: not NULL, so the caller passes a writable pointer.
        unsafe { guard::put(loss, session.loss) };
        Ok(())
    })
}

/// Stores a handle of the next message that had arrived when a send found the connection ended in `*message`. They show
/// which requests were answered. They are kept until the next connection ends: at most 1,024, and no more after 1 MiB.
///
/// Returns PARLOUR_OK, or PARLOUR_END if there is none; `*message` is then NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_session_next_unreceived(
    session: *mut parlour_session,
    message: *mut *mut parlour_message,
) -> parlour_status {
    guard::run(|| {
        // SAFETY: the caller passes NULL or a writable pointer.
        unsafe { guard::check_out(message) }?;
        // SAFETY: the caller passes NULL or a live session that no other thread uses during the call.
        let session = unsafe { guard::exclusive(session, "the session") }?;
        let Some(next) = session.unreceived.pop_front() else { return Ok(parlour_status::PARLOUR_END) };
        // SAFETY: `check_out` accepted the pointer.
        unsafe { guard::give(message, parlour_message { message: next }) };
        Ok(parlour_status::PARLOUR_OK)
    })
}

/// Returns true if the session has a connection. Its server may have gone; the next call finds that out. Returns false
/// for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_session_is_connected(session: *const parlour_session) -> bool {
    // SAFETY: the caller passes NULL or a live session.
    guard::value(false, || unsafe { session.as_ref() }.map(|session| session.connection().is_some()))
}

/// Stores the identity of the server in `*peer`.
///
/// Errors:
/// - PARLOUR_NO_SERVER: the session has no connection.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_session_peer(
    session: *const parlour_session,
    peer: *mut parlour_peer,
) -> parlour_status {
    run_unit(|| {
        if peer.is_null() {
            return Err(Failure::null("the peer"));
        }
        // SAFETY: the caller passes NULL or a live session.
        let session = unsafe { guard::shared(session, "the session") }?;
        let Some(connection) = session.connection() else {
            let reason = "the session has no connection; call parlour_session_connect";
            return Err(Failure::Here(parlour_status::PARLOUR_NO_SERVER, reason.into()));
        };
        // SAFETY: not NULL, so the caller passes a writable pointer.
        unsafe { guard::put(peer, parlour_peer::of(connection.peer())) };
        Ok(())
    })
}

/// Returns the transport of the connection, or PARLOUR_TRANSPORT_NONE for NULL and without a connection.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_session_transport(session: *const parlour_session) -> parlour_transport {
    guard::value(parlour_transport::PARLOUR_TRANSPORT_NONE, || {
        // SAFETY: the caller passes NULL or a live session.
        let connection = unsafe { session.as_ref() }?.connection()?;
        Some(parlour_transport::of(connection.transport()))
    })
}

/// Returns a descriptor for poll(2) with POLLIN, as parlour_connection_recv_fd does. It is valid until a call reports
/// that the connection has ended. Before each poll, receive with a timeout of 0 until PARLOUR_TIMED_OUT. Returns -1 for
/// NULL and without a connection: call parlour_session_connect.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_session_recv_fd(session: *const parlour_session) -> c_int {
    guard::value(-1, || {
        // SAFETY: the caller passes NULL or a live session.
        Some(unsafe { session.as_ref() }?.connection()?.recv_fd().as_raw_fd())
    })
}

/// Writes all buffered messages, closes the connection, and frees the session in any case. Blocks up to `timeout_ms`
/// while the channel is full. Does not connect.
///
/// Errors:
/// - PARLOUR_TIMED_OUT: the channel was full until the deadline, and some messages were lost.
/// - PARLOUR_LOST: messages were buffered, and the server has gone.
/// - PARLOUR_IO: messages were buffered, and a system call failed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_session_close(session: *mut parlour_session, timeout_ms: i64) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a live session, and gives it up.
        let taken = unsafe { guard::taken(session) }.ok_or_else(|| Failure::null("the session"))?;
        let Some(session) = taken.session else { return Ok(()) };
        match Timeout::of(timeout_ms).limit() {
            None => Ok(session.close()?),
            Some(limit) => Ok(session.close_timeout(limit)?),
        }
    })
}

/// Closes the connection without blocking, and frees the session. Buffered messages that a full channel does not take
/// are lost. Does nothing for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_session_free(session: *mut parlour_session) {
    // SAFETY: the caller passes NULL or a live session, and gives it up.
    unsafe { guard::free(session) };
}
