//! Memory that this process fills again and again, and that its readers read without a copy.
#![allow(unsafe_code, non_camel_case_types)]

use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use parlour::frames::{AtShare, FramePool, FramePoolOptions, ReaderId};
use parlour::{ErrorKind, Peer};

use crate::connection::parlour_connection;
use crate::frame::parlour_frame;
use crate::guard::{self, Failure, Timeout, run_unit};
use crate::hub::parlour_hub;
use crate::message::parlour_message;
use crate::roster::Roster;
use crate::status::parlour_status;

/// The options of a pool of frames.
pub struct parlour_frame_pool_options {
    options: FramePoolOptions,
}

/// The treatment of a reader that holds its share of blocks, when the next frame is sent to it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum parlour_at_share {
    /// The message has a copy of the bytes of the frame. Nobody waits, and the reader sees no difference. The default.
    PARLOUR_AT_SHARE_BY_VALUE = 0,
    /// The call waits, up to its timeout, until the reader returns a block.
    PARLOUR_AT_SHARE_WAIT = 1,
    /// The call returns PARLOUR_BUSY. The caller may skip this frame for this reader.
    PARLOUR_AT_SHARE_REFUSE = 2,
}

/// A pool of blocks in shared memory that this process fills and its readers (parlour_frame_reader) read without a
/// copy. The memory is allocated once, and each reader maps it once. A frame is sent as a short message over an
/// ordinary connection, between other messages or alone. A reader that frees a frame returns its block without a
/// message; a reader that ends or dies returns all of its blocks.
///
/// The kernel guarantees that only this process can write to the memory. Whoever is admitted as a reader can read the
/// whole pool for as long as it likes: make a pool for each audience. `shm`, `packet` and `unix` carry frames. The
/// publisher must allow two descriptors, with which a reader attaches (parlour_server_options_fds_max if it is the
/// server).
pub struct parlour_frame_pool {
    pool: FramePool,
    readers: HashMap<u64, Reader>,
    /// The number of the last reader.
    last: u64,
}

/// A reader that was admitted and not removed.
struct Reader {
    id: ReaderId,
    /// The clients of the hub over which the reader attached, and its number there.
    client: Option<(Arc<Roster>, u64)>,
}

/// Creates the options of a pool for frames of at most `frame_length_max` bytes, from 1 to 64 GiB, with the default
/// settings. Free them with parlour_frame_pool_options_free. Returns NULL if the library panics.
#[unsafe(no_mangle)]
pub extern "C" fn parlour_frame_pool_options_new(frame_length_max: usize) -> *mut parlour_frame_pool_options {
    let create = || parlour_frame_pool_options { options: FramePoolOptions::new(frame_length_max) };
    guard::value(std::ptr::null_mut(), || Some(Box::into_raw(Box::new(create()))))
}

/// Frees options. Does nothing for NULL. Pools that were created with them are not affected.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_frame_pool_options_free(options: *mut parlour_frame_pool_options) {
    // SAFETY: the caller passes NULL or live options, and gives them up.
    unsafe { guard::free(options) };
}

/// Changes options of the caller.
///
/// # Safety
///
/// `options` is NULL or live options that no other thread uses during the call.
unsafe fn change(
    options: *mut parlour_frame_pool_options,
    change: impl FnOnce(FramePoolOptions) -> FramePoolOptions,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: NULL or live options that only this call uses, by the contract of this function.
        let options = unsafe { guard::exclusive(options, "the options") }?;
        options.options = change(options.options.clone());
        Ok(())
    })
}

/// Sets the number of readers that can hold blocks at the same time, and the number of blocks that each can hold.
/// Defaults: 4 and 2. No reader, however it behaves, holds more than its share. Further readers get copies. The pool
/// has `readers` * `share` blocks, and those of parlour_frame_pool_options_own_blocks; at most 1024.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_frame_pool_options_readers(
    options: *mut parlour_frame_pool_options,
    readers: usize,
    share: usize,
) -> parlour_status {
    // SAFETY: the caller passes NULL or live options that no other thread uses during the call.
    unsafe { change(options, |options| options.readers(readers).share(share)) }
}

/// Sets the number of blocks that this process itself can hold at a time: the one that is being filled, and those of
/// the frames that it keeps. Default and minimum: 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_frame_pool_options_own_blocks(
    options: *mut parlour_frame_pool_options,
    blocks: usize,
) -> parlour_status {
    // SAFETY: the caller passes NULL or live options that no other thread uses during the call.
    unsafe { change(options, |options| options.own_blocks(blocks)) }
}

/// Sets the treatment of a reader that holds its share: a number of enum parlour_at_share. Default:
/// PARLOUR_AT_SHARE_BY_VALUE. `by_value_max` is the longest frame in bytes that is copied into a message; the limit on
/// messages of the connection applies as well. Default: 16 MiB.
///
/// Errors:
/// - PARLOUR_INVALID_ARGUMENT: the number is not one of enum parlour_at_share. The options are as before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_frame_pool_options_at_share(
    options: *mut parlour_frame_pool_options,
    at_share: c_int,
    by_value_max: usize,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or live options that no other thread uses during the call.
        let options = unsafe { guard::exclusive(options, "the options") }?;
        let at_share = match at_share {
            0 => AtShare::ByValue,
            1 => AtShare::Wait,
            2 => AtShare::Refuse,
            _ => return Err(Failure::invalid("the number is not one of enum parlour_at_share")),
        };
        options.options = options.options.clone().at_share(at_share).by_value_max(by_value_max);
        Ok(())
    })
}

/// Sets the maximum number of readers, and of readers of one user, those included that have ended their connection and
/// keep a frame. Each costs one descriptor. Defaults: 64, and as many for one user.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_frame_pool_options_leases_max(
    options: *mut parlour_frame_pool_options,
    count: usize,
    per_uid: usize,
) -> parlour_status {
    // SAFETY: the caller passes NULL or live options that no other thread uses during the call.
    unsafe { change(options, |options| options.leases_max(count).leases_per_uid_max(per_uid)) }
}

/// Admits readers of every user if `yes` is true. Default: only readers of the user of this process. A reader can read
/// the whole pool, also frames that were sent to others only. A user other than that of this process gets at most a
/// quarter of the shares, and unless parlour_frame_pool_options_leases_max says otherwise, of the leases.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_frame_pool_options_any_user(
    options: *mut parlour_frame_pool_options,
    yes: bool,
) -> parlour_status {
    // SAFETY: the caller passes NULL or live options that no other thread uses during the call.
    unsafe { change(options, |options| options.any_user(yes)) }
}

/// Creates a pool and stores it in `*pool`. Free it with parlour_frame_pool_free. All of its memory is allocated now,
/// and charged to this process.
///
/// Errors:
/// - PARLOUR_INVALID_OPTION: an option is out of range, or the pool has more than 1024 blocks.
/// - PARLOUR_UNSUPPORTED: the kernel or a sandbox does not allow memfd_create(2).
/// - PARLOUR_IO: not enough memory or descriptors are available.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_frame_pool_new(
    options: *const parlour_frame_pool_options,
    pool: *mut *mut parlour_frame_pool,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a writable pointer.
        unsafe { guard::check_out(pool) }?;
        // SAFETY: the caller passes NULL or live options.
        let created = unsafe { guard::shared(options, "the options") }?.options.create()?;
        // SAFETY: `check_out` accepted the pointer.
        unsafe { guard::give(pool, parlour_frame_pool { pool: created, readers: HashMap::new(), last: 0 }) };
        Ok(())
    })
}

/// Returns the number of blocks of a pool, or 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_frame_pool_blocks(pool: *const parlour_frame_pool) -> usize {
    // SAFETY: the caller passes NULL or a live pool.
    guard::value(0, || Some(unsafe { pool.as_ref() }?.pool.blocks()))
}

/// Returns a descriptor for poll(2). After parlour_frame_pool_loan with a timeout of 0 returned PARLOUR_TIMED_OUT, it
/// is readable (POLLIN) when a block may have been returned. It is for waiting only, and belongs to the pool: do not
/// read or close it. Returns -1 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_frame_pool_fd(pool: *const parlour_frame_pool) -> c_int {
    // SAFETY: the caller passes NULL or a live pool.
    guard::value(-1, || Some(unsafe { pool.as_ref() }?.pool.as_fd().as_raw_fd()))
}

/// Returns true if a message is one of a reader that asks to be admitted (parlour_frame_reader_attach). Returns false
/// for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_frame_pool_is_attach(message: *const parlour_message) -> bool {
    // SAFETY: the caller passes NULL or a live message.
    guard::value(false, || Some(FramePool::is_attach(&unsafe { message.as_ref() }?.message)))
}

/// Admits a reader, whose message (parlour_frame_pool_is_attach) arrived over this connection, and stores its number in
/// `*reader`: from 1 up, never reused. Frees `message`, also when it fails, but not if a pointer is NULL.
///
/// Errors: the reader is not admitted then, and the connection can still be used.
/// - PARLOUR_DENIED: the reader belongs to another user (parlour_frame_pool_options_any_user).
/// - PARLOUR_BUSY: there are as many readers as the options allow.
/// - PARLOUR_PROTOCOL: the message is another one, or its descriptors are not those of a reader. End the connection.
/// - PARLOUR_DISCONNECTED: the reader has ended already.
/// - PARLOUR_UNSUPPORTED: this is a forked child.
/// - PARLOUR_IO: a system call failed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_frame_pool_admit(
    pool: *mut parlour_frame_pool,
    connection: *const parlour_connection,
    message: *mut parlour_message,
    reader: *mut u64,
) -> parlour_status {
    run_unit(|| {
        if reader.is_null() {
            return Err(Failure::null("the reader"));
        }
        // SAFETY: not NULL, so the caller passes a writable pointer.
        unsafe { guard::put(reader, 0) };
        // SAFETY: the caller passes NULL or a live pool that no other thread uses during the call.
        let pool = unsafe { guard::exclusive(pool, "the pool") }?;
        // SAFETY: the caller passes NULL or a live connection.
        let connection = unsafe { guard::shared(connection, "the connection") }?;
        // SAFETY: the caller passes NULL or a live message, and gives it up.
        let message = unsafe { guard::taken(message) }.ok_or_else(|| Failure::null("the message"))?;
        let number = pool.admit(*message, connection.peer(), None)?;
        // SAFETY: not NULL, so the caller passes a writable pointer.
        unsafe { guard::put(reader, number) };
        Ok(())
    })
}

/// Admits a client of a hub as a reader, as parlour_frame_pool_admit does. A client that attaches again replaces its
/// earlier reader, which counts for the limits until the new one is admitted. `reader` may be NULL.
///
/// Errors: those of parlour_frame_pool_admit. PARLOUR_BUSY also if a client attaches again while there are as many
/// readers as the options allow: remove its earlier reader before. PARLOUR_DISCONNECTED also if the client has left.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_frame_pool_admit_client(
    pool: *mut parlour_frame_pool,
    hub: *const parlour_hub,
    client: u64,
    message: *mut parlour_message,
    reader: *mut u64,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a writable pointer.
        unsafe { guard::put(reader, 0) };
        // SAFETY: the caller passes NULL or a live pool that no other thread uses during the call.
        let pool = unsafe { guard::exclusive(pool, "the pool") }?;
        // SAFETY: the caller passes NULL or a live hub.
        let hub = unsafe { guard::shared(hub, "the hub") }?;
        // SAFETY: the caller passes NULL or a live message, and gives it up.
        let message = unsafe { guard::taken(message) }.ok_or_else(|| Failure::null("the message"))?;
        let number = pool.admit(*message, hub.peer(client)?, Some((Arc::clone(&hub.clients), client)))?;
        // SAFETY: the caller passes NULL or a writable pointer.
        unsafe { guard::put(reader, number) };
        Ok(())
    })
}

impl parlour_frame_pool {
    fn admit(
        &mut self,
        message: parlour_message,
        peer: &Peer,
        client: Option<(Arc<Roster>, u64)>,
    ) -> Result<u64, Failure> {
        let id = self.pool.admit(message.message, peer)?;
        if let Some((hub, client)) = &client {
            for earlier in self.readers_of(hub).into_iter().filter(|(_, other)| other == client) {
                self.remove(earlier.0);
            }
        }
        self.last += 1;
        self.readers.insert(self.last, Reader { id, client });
        Ok(self.last)
    }

    /// Returns the readers that attached over this hub, with the numbers of their clients.
    fn readers_of(&self, hub: &Arc<Roster>) -> Vec<(u64, u64)> {
        let of = |(&number, reader): (&u64, &Reader)| {
            let (roster, client) = reader.client.as_ref()?;
            Arc::ptr_eq(roster, hub).then_some((number, *client))
        };
        self.readers.iter().filter_map(of).collect()
    }

    fn remove(&mut self, reader: u64) {
        if let Some(reader) = self.readers.remove(&reader) {
            self.pool.remove(reader.id);
        }
    }

    fn reader(&self, reader: u64) -> Result<&Reader, Failure> {
        self.readers.get(&reader).ok_or_else(|| {
            Failure::Here(parlour_status::PARLOUR_DISCONNECTED, format!("reader {reader} was removed").into())
        })
    }
}

/// Sends no further frames to a reader, whose connection has ended. The frames that it keeps remain valid, and its
/// blocks return when it frees them or dies. Does nothing for a reader that was removed, and for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_frame_pool_remove(pool: *mut parlour_frame_pool, reader: u64) {
    guard::value((), || {
        // SAFETY: the caller passes NULL or a live pool that no other thread uses during the call.
        unsafe { pool.as_mut() }?.remove(reader);
        Some(())
    });
}

/// Returns the number of blocks that a reader holds. Returns 0 for a reader that has ended or was removed, and for
/// NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_frame_pool_held_by(pool: *mut parlour_frame_pool, reader: u64) -> usize {
    guard::value(0, || {
        // SAFETY: the caller passes NULL or a live pool that no other thread uses during the call.
        let pool = unsafe { pool.as_mut() }?;
        let id = pool.readers.get(&reader)?.id;
        Some(pool.pool.held_by(id))
    })
}

/// Lends a block to be filled, and stores it in `*frame`: the next one in turn among those that nobody holds. Free it
/// with parlour_frame_free. Blocks up to `timeout_ms` while every block is held.
///
/// Errors:
/// - PARLOUR_TIMED_OUT: every block was held until the deadline. If `timeout_ms` is 0, parlour_frame_pool_fd tells when
///   to call again.
/// - PARLOUR_UNSUPPORTED: this is a forked child.
/// - PARLOUR_IO: a system call failed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_frame_pool_loan(
    pool: *mut parlour_frame_pool,
    timeout_ms: i64,
    frame: *mut *mut parlour_frame,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a writable pointer.
        unsafe { guard::check_out(frame) }?;
        // SAFETY: the caller passes NULL or a live pool that no other thread uses during the call.
        let pool = &mut unsafe { guard::exclusive(pool, "the pool") }?.pool;
        let lent = match Timeout::of(timeout_ms) {
            Timeout::Infinite => pool.loan()?,
            Timeout::After(duration) => pool.loan_timeout(duration)?,
            Timeout::Zero => pool.try_loan()?.ok_or_else(|| {
                Failure::Here(parlour_status::PARLOUR_TIMED_OUT, "every block of the frame pool is held".into())
            })?,
        };
        // SAFETY: `check_out` accepted the pointer.
        unsafe { guard::give(frame, parlour_frame::new(lent)) };
        Ok(())
    })
}

/// Sends a frame to a reader over its connection, with a note: `note_length` bytes at `note` that arrive with it. The
/// first send ends the writing: from then on the frame must not be changed. The bytes of the frame are not copied, and
/// the reader holds the block until it frees the frame. The caller keeps the frame, may send it to further readers, and
/// frees it. `note` may be NULL if `note_length` is 0.
///
/// `connection` must be the one over which the reader attached. Blocks up to `timeout_ms` while the channel is full,
/// and with PARLOUR_AT_SHARE_WAIT while the reader holds its share.
///
/// Errors: those of parlour_send, and the frame counts as not sent then. And:
/// - PARLOUR_BUSY: the reader holds its share, with PARLOUR_AT_SHARE_REFUSE; or the frame would have to be copied and
///   is longer than `by_value_max`.
/// - PARLOUR_DISCONNECTED: the reader has ended or was removed.
/// - PARLOUR_INVALID_ARGUMENT: the reader attached over a hub.
/// - PARLOUR_UNSUPPORTED: the frame belongs to another pool, or this is a forked child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_frame_pool_send(
    pool: *mut parlour_frame_pool,
    reader: u64,
    connection: *mut parlour_connection,
    frame: *mut parlour_frame,
    note: *const c_void,
    note_length: usize,
    timeout_ms: i64,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a live pool that no other thread uses during the call.
        let pool = unsafe { guard::exclusive(pool, "the pool") }?;
        // SAFETY: the caller passes NULL or a live connection that no other thread uses during the call.
        let mut sending = unsafe { guard::exclusive(connection, "the connection") }?.sending()?;
        // SAFETY: the caller passes NULL or a live frame that no other thread uses during the call.
        let frame = unsafe { guard::exclusive(frame, "the frame") }?.frozen()?;
        // SAFETY: the caller passes NULL or `note_length` bytes.
        let note = unsafe { guard::bytes(note, note_length) }?;
        let reader = pool.reader(reader)?;
        if reader.client.is_some() {
            return Err(Failure::invalid("the reader attached over a hub; use parlour_frame_pool_send_client"));
        }
        let (id, time) = (reader.id, Timeout::of(timeout_ms).remaining());
        match time.left() {
            None => pool.pool.send(id, frame, note, |payload| sending.send(payload, None))?,
            Some(left) => {
                pool.pool.send_timeout(id, frame, note, left, |payload| sending.send(payload, time.left()))?;
            }
        }
        Ok(())
    })
}

/// Sends a frame to a reader that is a client of this hub, as parlour_frame_pool_send does. The message is sent as
/// parlour_hub_send_payload sends one. `timeout_ms` limits the wait with PARLOUR_AT_SHARE_WAIT.
///
/// Errors: those of parlour_hub_send_payload and parlour_frame_pool_send, and:
/// - PARLOUR_INVALID_ARGUMENT: the reader did not attach over this hub.
/// - PARLOUR_DISCONNECTED: the client has left. The reader is removed then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_frame_pool_send_client(
    pool: *mut parlour_frame_pool,
    reader: u64,
    hub: *mut parlour_hub,
    frame: *mut parlour_frame,
    note: *const c_void,
    note_length: usize,
    timeout_ms: i64,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a live pool that no other thread uses during the call.
        let pool = unsafe { guard::exclusive(pool, "the pool") }?;
        // SAFETY: the caller passes NULL or a live hub that no other thread uses during the call.
        let hub = unsafe { guard::exclusive(hub, "the hub") }?;
        // SAFETY: the caller passes NULL or a live frame that no other thread uses during the call.
        let frame = unsafe { guard::exclusive(frame, "the frame") }?;
        // SAFETY: the caller passes NULL or `note_length` bytes.
        let note = unsafe { guard::bytes(note, note_length) }?;
        pool.send_over_hub(reader, hub, frame, note, Timeout::of(timeout_ms))
    })
}

/// Sends a frame to every reader that attached over this hub (parlour_frame_pool_admit_client), as
/// parlour_frame_pool_send_client does. Stores the number of readers that did not get it, because they hold their share
/// or do not read, in `*missed`, which may be NULL. Readers whose client has left are removed, and do not count. With
/// PARLOUR_AT_SHARE_WAIT the call waits for each reader in turn, up to `timeout_ms` in total.
///
/// Errors: those of parlour_frame_pool_send_client but PARLOUR_BUSY, PARLOUR_TIMED_OUT and PARLOUR_DISCONNECTED. The
/// frame is sent to all other readers all the same, and the readers with an error count as missed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_frame_pool_broadcast(
    pool: *mut parlour_frame_pool,
    hub: *mut parlour_hub,
    frame: *mut parlour_frame,
    note: *const c_void,
    note_length: usize,
    timeout_ms: i64,
    missed: *mut usize,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a writable pointer.
        unsafe { guard::put(missed, 0) };
        // SAFETY: the caller passes NULL or a live pool that no other thread uses during the call.
        let pool = unsafe { guard::exclusive(pool, "the pool") }?;
        // SAFETY: the caller passes NULL or a live hub that no other thread uses during the call.
        let hub = unsafe { guard::exclusive(hub, "the hub") }?;
        // SAFETY: the caller passes NULL or a live frame that no other thread uses during the call.
        let frame = unsafe { guard::exclusive(frame, "the frame") }?;
        // SAFETY: the caller passes NULL or `note_length` bytes.
        let note = unsafe { guard::bytes(note, note_length) }?;
        let (time, mut count, mut failure) = (Timeout::of(timeout_ms).remaining(), 0, None);
        for (reader, _) in pool.readers_of(&hub.clients) {
            let timeout = time.left().map_or(Timeout::Infinite, Timeout::After);
            match pool.send_over_hub(reader, hub, frame, note, timeout) {
                Ok(()) => {}
                Err(other) if other.is(ErrorKind::Disconnected) => pool.remove(reader),
                Err(other) => {
                    count += 1;
                    if !other.is(ErrorKind::Busy) && !other.is(ErrorKind::TimedOut) {
                        failure = failure.or(Some(other));
                    }
                }
            }
        }
        // SAFETY: the caller passes NULL or a writable pointer.
        unsafe { guard::put(missed, count) };
        failure.map_or(Ok(()), Err)
    })
}

impl parlour_frame_pool {
    fn send_over_hub(
        &mut self,
        reader: u64,
        hub: &mut parlour_hub,
        frame: &mut parlour_frame,
        note: &[u8],
        timeout: Timeout,
    ) -> Result<(), Failure> {
        let found = self.reader(reader)?;
        let client = match &found.client {
            Some((roster, client)) if Arc::ptr_eq(roster, &hub.clients) => *client,
            _ => return Err(Failure::invalid("the reader did not attach over this hub")),
        };
        let (id, frame) = (found.id, frame.frozen()?);
        let Some(client) = hub.clients.get(client) else {
            self.remove(reader);
            return Err(Failure::Here(
                parlour_status::PARLOUR_DISCONNECTED,
                format!("client {client}, which is reader {reader}, has left").into(),
            ));
        };
        match timeout.limit() {
            None => self.pool.send(id, frame, note, |payload| hub.hub.send(client, payload))?,
            Some(limit) => {
                self.pool.send_timeout(id, frame, note, limit, |payload| hub.hub.send(client, payload))?;
            }
        }
        Ok(())
    }
}

/// Frees a pool. Frames that were sent remain readable. Does nothing for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_frame_pool_free(pool: *mut parlour_frame_pool) {
    // SAFETY: the caller passes NULL or a live pool, and gives it up.
    unsafe { guard::free(pool) };
}
