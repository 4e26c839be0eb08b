/*
 * parlour.h - local messaging by name
 *
 *     #include <parlour.h>      link with -lparlour
 *
 * Needs C99 or C++11, or newer.
 *
 * A server takes a name. Clients find it by the name. Each client gets a private two-way channel of messages.
 * This file is generated from the source of the library.
 *
 * The following holds for every function, unless its description says otherwise.
 *
 * Ownership
 *   Handles are opaque. The caller owns a handle that a function stores or returns, and passes it once to the
 *   ..._free function of its type, or to ..._close or ..._split, which free it, too. A freed handle must not be used.
 *   Strings and bytes that a function returns belong to the handle and are valid as long as the handle. Memory that
 *   the caller passes is used during the call only.
 *
 * Return value
 *   A function that can fail returns a parlour_status: PARLOUR_OK, or the error. parlour_error_message() has the text
 *   of the error, and parlour_error_errno() the errno of the system call behind it. Results are stored through the
 *   pointer parameters that the description names. After an error a handle is NULL there, and a count is 0. Unless its
 *   description says otherwise, a call that fails leaves the handle usable. It does not undo what was already written.
 *
 * Pointers
 *   NULL is allowed only where the description says so; otherwise the function returns PARLOUR_NULL_POINTER. A pointer
 *   to bytes or to an array may be NULL if its length or count is 0. Any other pointer must be valid: a live handle of
 *   the type, a string that ends with a zero byte and is UTF-8, or memory of the length that is passed with it. For a
 *   string that is not UTF-8, the function returns PARLOUR_INVALID_ARGUMENT. The lists of errors do not repeat these
 *   two cases.
 *
 * Timeouts
 *   `timeout_ms` is in milliseconds. Less than 0: the call blocks for ever. 0: it does not block. More than 0: it gives
 *   up after this time. A call that gives up, or would block, returns PARLOUR_TIMED_OUT.
 *
 * Threads
 *   Any thread may use any handle, one thread at a time. Functions that take a handle as a pointer to const may be
 *   called by several threads at the same time, while no thread calls another function with that handle. The error of
 *   parlour_error_message() is kept per thread.
 *
 * Signals
 *   A signal handler may call parlour_server_shutdown, parlour_shutdown_ask, parlour_hub_wake and
 *   parlour_status_name, which are async-signal-safe. It must not call any other function of this header. A signal
 *   does not interrupt a call: the call goes on, with the time that is left. The library raises no signal (not even
 *   SIGPIPE), and changes no disposition and no mask.
 *
 * Fork
 *   In a forked child, servers, hubs, callers and calls return PARLOUR_NAME_LOST; freeing them there does not affect
 *   the parent. Every call returns there, also if another thread used the server at the moment of the fork.
 *   Pools, frames and their readers belong to the parent, too, and return PARLOUR_UNSUPPORTED.
 *   Only one of the two processes may use a connection, and the other one must free its handle. A connection that was
 *   not split stays open until both processes have freed it. The parent sends what was buffered before the fork; flush
 *   before forking.
 *
 * Callbacks
 *   A function of the caller (parlour_allow, parlour_fill, parlour_on_connect) must return normally. It must not throw
 *   an exception or call longjmp(3).
 */


#ifndef PARLOUR_H
#define PARLOUR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#ifdef __cplusplus
#if __cplusplus < 201103L
#error "parlour.h needs C++11 or newer: compile with -std=c++11, for example"
#endif
#elif __STDC_VERSION__ < 199901L
#error "parlour.h needs C99 or newer: compile with -std=c99, for example"
#endif

/**
 * The size of parlour_origin::host, with the terminating zero byte.
 */
#define PARLOUR_ORIGIN_HOST_SIZE 254

/**
 * The size of parlour_origin::program, with the terminating zero byte.
 */
#define PARLOUR_ORIGIN_PROGRAM_SIZE 65

/**
 * The length of the text of a refusal in bytes, with the zero byte behind it.
 */
#define PARLOUR_REFUSAL_TEXT_SIZE 256

/**
 * The result of a call. The numbers do not change and are never reused. New ones may be added, so a `switch` needs a
 * `default`. parlour_error_message() has the text of a failure.
 */
typedef enum {
  /**
   * The call succeeded.
   */
  PARLOUR_OK = 0,
  /**
   * The end of the stream: the peer sends no more, and everything that it sent was received. This is not a failure,
   * and parlour_error_message() does not change.
   */
  PARLOUR_END = 1,
  /**
   * A pointer that must not be NULL is NULL.
   */
  PARLOUR_NULL_POINTER = 2,
  /**
   * An argument is invalid, or a string is not UTF-8.
   */
  PARLOUR_INVALID_ARGUMENT = 3,
  /**
   * The buffer or array of the caller is too small for the result, which is kept for the next call.
   */
  PARLOUR_BUFFER_TOO_SMALL = 4,
  /**
   * A bug in the library: it panicked, and the panic was caught. The handle may be unusable. Free it, unless the
   * function is one that frees it (..._close, ..._split).
   */
  PARLOUR_INTERNAL = 5,
  /**
   * An address or a name is not well formed.
   */
  PARLOUR_INVALID_NAME = 16,
  /**
   * An option has a value outside its range.
   */
  PARLOUR_INVALID_OPTION = 17,
  /**
   * A live server holds the name.
   */
  PARLOUR_NAME_IN_USE = 18,
  /**
   * The server's files were removed or replaced by another process, or this is a forked child of the server.
   */
  PARLOUR_NAME_LOST = 19,
  /**
   * No server holds the name.
   */
  PARLOUR_NO_SERVER = 20,
  /**
   * The peer rejected the request: the server the connection, or the receiver the descriptors.
   */
  PARLOUR_REFUSED = 21,
  /**
   * The system, or a check of the peer's identity, does not permit the operation.
   */
  PARLOUR_DENIED = 22,
  /**
   * The server did not accept the client before the deadline, has reached a limit, or a system call of the server
   * failed; or a message needs more memory than the client may take; or the write buffer of a client of a hub is
   * full. The caller may try again.
   */
  PARLOUR_BUSY = 23,
  /**
   * The timeout has passed. A receive keeps a partial message for the next call. A send returns this only if it sent
   * nothing of the message. parlour_flush and parlour_finish keep unwritten messages buffered;
   * parlour_connection_close loses them.
   */
  PARLOUR_TIMED_OUT = 24,
  /**
   * The peer has disconnected.
   */
  PARLOUR_DISCONNECTED = 25,
  /**
   * The peer disconnected mid-message.
   */
  PARLOUR_TRUNCATED = 26,
  /**
   * A message is longer than the limit.
   */
  PARLOUR_MESSAGE_TOO_LONG = 27,
  /**
   * The peer broke the protocol.
   */
  PARLOUR_PROTOCOL = 28,
  /**
   * A value could not be encoded, or a message could not be decoded. No function returns this yet.
   */
  PARLOUR_ENCODING = 29,
  /**
   * The owner, mode or type of a directory lets another user interfere.
   */
  PARLOUR_UNSAFE_DIRECTORY = 30,
  /**
   * This transport, platform or state does not support the operation.
   */
  PARLOUR_UNSUPPORTED = 31,
  /**
   * The server or hub was told to shut down.
   */
  PARLOUR_SHUTDOWN = 32,
  /**
   * A system call failed. parlour_error_errno() is its `errno`.
   */
  PARLOUR_IO = 33,
  /**
   * The connection of a session has ended, and what was sent over it may be lost. The next call connects again.
   */
  PARLOUR_LOST = 34,
  /**
   * Another process has taken the name of the server or hub over.
   */
  PARLOUR_HANDED_OVER = 35,
  /**
   * The server answered a call with an error, or dropped the call. The connection can still be used.
   */
  PARLOUR_CALL_FAILED = 36,
} parlour_status;

/**
 * The source of a field of parlour_peer, from the weakest to the strongest.
 */
typedef enum {
  /**
   * The value is not known.
   */
  PARLOUR_PROVENANCE_UNKNOWN = 0,
  /**
   * The peer stated the value, directly or in a file that it wrote. Do not use it for access control.
   */
  PARLOUR_PROVENANCE_CLAIM = 1,
  /**
   * /proc showed that this process had the other end open. A process can pass its descriptor on to another process,
   * so do not use the value for access control.
   */
  PARLOUR_PROVENANCE_VERIFIED = 2,
  /**
   * The value is the owner of the file through which the peer connected. Only that user, or root, can have created
   * the file.
   */
  PARLOUR_PROVENANCE_FILE_OWNER = 3,
  /**
   * SO_PEERCRED reported the value. The kernel recorded it at connect(2) of a client, or at listen(2) of a server.
   */
  PARLOUR_PROVENANCE_KERNEL = 4,
} parlour_provenance;

/**
 * A mechanism that carries messages between two processes of one machine. An address may name it: "fifo:name".
 */
typedef enum {
  /**
   * No transport, or one that this header does not know.
   */
  PARLOUR_TRANSPORT_NONE = 0,
  /**
   * Shared memory. The fastest.
   */
  PARLOUR_TRANSPORT_SHM = 1,
  /**
   * A SOCK_SEQPACKET socket.
   */
  PARLOUR_TRANSPORT_PACKET = 2,
  /**
   * A SOCK_STREAM socket. Programs in any language can use it.
   */
  PARLOUR_TRANSPORT_UNIX = 3,
  /**
   * A pair of FIFOs for each client. It serves its own user only.
   */
  PARLOUR_TRANSPORT_FIFO = 4,
} parlour_transport;

/**
 * The reason why one direction of a connection waits. The numbers do not change.
 */
typedef enum {
  /**
   * It does not wait, or for a reason that this header does not know.
   */
  PARLOUR_WAIT_NONE = 0,
  /**
   * The server waits for a message, of which nothing has arrived. The client is idle.
   */
  PARLOUR_WAIT_MESSAGE = 1,
  /**
   * The server waits for the rest of a message.
   */
  PARLOUR_WAIT_REST = 2,
  /**
   * The server waits for the client to read.
   */
  PARLOUR_WAIT_SPACE = 3,
} parlour_wait;

/**
 * The reason why a server refused a client. The numbers do not change.
 */
typedef enum {
  /**
   * No refusal, or a reason that this header does not know.
   */
  PARLOUR_REFUSAL_OTHER = 0,
  /**
   * The policy (parlour_server_options_allow), or the mode of the socket, does not admit the client.
   */
  PARLOUR_REFUSAL_POLICY = 1,
  /**
   * A limit on connections or on handshakes was reached.
   */
  PARLOUR_REFUSAL_LIMIT = 2,
  /**
   * The client's own file is missing or is not as it must be (enum parlour_client_file).
   */
  PARLOUR_REFUSAL_CLIENT_FILE = 3,
  /**
   * The client broke the protocol of the handshake, or disconnected during it.
   */
  PARLOUR_REFUSAL_HANDSHAKE = 4,
  /**
   * The client did not complete the handshake in time.
   */
  PARLOUR_REFUSAL_TIMED_OUT = 5,
  /**
   * The server has no descriptor left for the client.
   */
  PARLOUR_REFUSAL_DESCRIPTORS = 6,
  /**
   * Another system call of the server failed.
   */
  PARLOUR_REFUSAL_SYSTEM = 7,
} parlour_refusal_reason;

/**
 * The state of a name, as a client finds it.
 */
typedef enum {
  /**
   * No server has the name. parlour_connect returns PARLOUR_NO_SERVER.
   */
  PARLOUR_NAME_ABSENT = 0,
  /**
   * A server holds the name.
   */
  PARLOUR_NAME_LIVE = 1,
  /**
   * A service manager listens, and starts the server when a client connects.
   */
  PARLOUR_NAME_WAITING = 2,
  /**
   * The name belongs to another user, and this process cannot determine whether a server holds it.
   */
  PARLOUR_NAME_FOREIGN = 3,
} parlour_name_state;

/**
 * The kind of an event. A client joins when the hub has admitted it; a client that the hub refuses never joins.
 *
 * Each client that joins causes one PARLOUR_EVENT_JOINED, then its messages, and one PARLOUR_EVENT_LEFT.
 */
typedef enum {
  /**
   * No event, or one that this header does not know.
   */
  PARLOUR_EVENT_NONE = 0,
  /**
   * A client has connected and was admitted. Fields: `client`, `peer`, `origin`.
   */
  PARLOUR_EVENT_JOINED = 1,
  /**
   * A client has sent a message. Fields: `client`, `message`, which the caller frees.
   */
  PARLOUR_EVENT_MESSAGE = 2,
  /**
   * A client has ended sending, after all its messages, and still receives. Field: `client`. Its connection stays
   * open; call parlour_hub_finish when there is nothing more to send to it.
   */
  PARLOUR_EVENT_FINISHED = 3,
  /**
   * The connection of a client has ended. Fields: `client`, `reason`, `status`, `text`.
   */
  PARLOUR_EVENT_LEFT = 4,
  /**
   * A client was refused before it joined. Fields: `refusal`, `text`, and `peer` and `origin`, as far as they were
   * known.
   */
  PARLOUR_EVENT_REFUSED = 5,
  /**
   * parlour_hub_wake was called, once or several times. No field.
   */
  PARLOUR_EVENT_WOKEN = 6,
  /**
   * A client has missed one message or several of a parlour_hub_handle, or a kept value of a topic, because its
   * write buffer was full (PARLOUR_SLOW_CLIENT_REFUSE) or because it cannot receive shared blocks. Field: `client`.
   */
  PARLOUR_EVENT_MISSED = 7,
} parlour_event_kind;

/**
 * The reason why a client has left.
 */
typedef enum {
  /**
   * The client has not left, or it has left for a reason that this header does not know.
   */
  PARLOUR_DISCONNECT_NONE = 0,
  /**
   * The client closed its connection, or its process ended, or both sides have finished.
   */
  PARLOUR_DISCONNECT_CLOSED = 1,
  /**
   * parlour_hub_disconnect was called. Messages that the client had sent, and that were not received, are lost.
   */
  PARLOUR_DISCONNECT_DISCONNECTED = 2,
  /**
   * The client did not read what was sent to it (enum parlour_slow_client_policy). Messages that the client had
   * sent, and that were not received, are lost.
   */
  PARLOUR_DISCONNECT_SLOW = 3,
  /**
   * The connection of the client failed. The fields `status` and `text` give the error.
   */
  PARLOUR_DISCONNECT_FAILED = 4,
} parlour_disconnect_reason;

/**
 * The action of a hub if a message would exceed parlour_hub_options_write_buffer_max for a client that does not read.
 */
typedef enum {
  /**
   * The client is disconnected. The default.
   */
  PARLOUR_SLOW_CLIENT_DISCONNECT = 0,
  /**
   * The message is refused: parlour_hub_send returns PARLOUR_BUSY, and parlour_hub_broadcast counts the client as
   * missed.
   */
  PARLOUR_SLOW_CLIENT_REFUSE = 1,
  /**
   * The hub waits until there is room, up to a limit, and serves no other client meanwhile. Then the client is
   * disconnected.
   */
  PARLOUR_SLOW_CLIENT_WAIT = 2,
} parlour_slow_client_policy;

/**
 * The check of the file that a client that runs as the server's user binds for itself on `unix`. A valid file is a
 * socket of mode 0700, of the user of the server. The process id in its name and its age do not matter.
 */
typedef enum {
  /**
   * A client needs no file. If it has one, the file must be valid. The default.
   */
  PARLOUR_CLIENT_FILE_CHECK = 0,
  /**
   * Only clients with a valid file are admitted. This excludes other users and other implementations.
   */
  PARLOUR_CLIENT_FILE_REQUIRE = 1,
  /**
   * The file is removed and not checked.
   */
  PARLOUR_CLIENT_FILE_IGNORE = 2,
} parlour_client_file;

/**
 * The treatment of a reader that holds its share of blocks, when the next frame is sent to it.
 */
typedef enum {
  /**
   * The message has a copy of the bytes of the frame. Nobody waits, and the reader sees no difference. The default.
   */
  PARLOUR_AT_SHARE_BY_VALUE = 0,
  /**
   * The call waits, up to its timeout, until the reader returns a block.
   */
  PARLOUR_AT_SHARE_WAIT = 1,
  /**
   * The call returns PARLOUR_BUSY. The caller may skip this frame for this reader.
   */
  PARLOUR_AT_SHARE_REFUSE = 2,
} parlour_at_share;

/**
 * A request of a client, which is to be answered, at once or later, by any thread and in any order. One thread at a
 * time may use it, as every handle. It may outlive its server.
 *
 * parlour_call_reply, parlour_call_end and parlour_call_fail answer a call and free it, whatever they return. A call
 * that is freed without an answer fails at its caller, so no caller waits for ever. The answers of the thread that
 * takes the calls are sent by its next parlour_call_server_next.
 */
typedef struct parlour_call parlour_call;

/**
 * A server of calls. Its clients are callers: parlour_caller, or Caller in Rust. One thread at a time may use it, and
 * takes the requests of all clients from parlour_call_server_next. The calls can be given to other threads. If another
 * thread was in a call with the server at the moment of a fork, the child must not free it.
 */
typedef struct parlour_call_server parlour_call_server;

/**
 * The answers of a server to one request. See parlour_caller_call_stream.
 */
typedef struct parlour_call_stream parlour_call_stream;

/**
 * A client that calls a server: it sends requests, and receives the answer to each. Any number of threads may call at
 * the same time, over the one connection, and no call delays another.
 *
 * Each request carries a number, and so does its answer. An answer therefore reaches the call that it belongs to, in
 * whatever order the server answers, and however late. The server must answer calls: parlour_call_server, or
 * Server::serve_calls in Rust. Another one is found by the first call, gets no request, and is PARLOUR_PROTOCOL.
 *
 * The library has no thread that receives. One of the threads that wait receives for all of them. While no thread is
 * in a call, nothing is received.
 */
typedef struct parlour_caller parlour_caller;

/**
 * Settings of a client. Values are checked when they are used: a value outside its range makes parlour_connect return
 * PARLOUR_INVALID_OPTION.
 */
typedef struct parlour_connect_options parlour_connect_options;

/**
 * A connection, or one direction of it (parlour_connection_split). One thread at a time may use it.
 */
typedef struct parlour_connection parlour_connection;

/**
 * A frame of a pool: a block that this process fills in place, and then sends to any number of readers. It has all
 * bytes of the block at first, with the content of an earlier frame or zeros. One thread at a time may use it, and it
 * may outlive its pool. In a forked child it is empty, because the block belongs to the parent.
 */
typedef struct parlour_frame parlour_frame;

/**
 * A pool of blocks in shared memory that this process fills and its readers (parlour_frame_reader) read without a
 * copy. The memory is allocated once, and each reader maps it once. A frame is sent as a short message over an
 * ordinary connection, between other messages or alone. A reader that frees a frame returns its block without a
 * message; a reader that ends or dies returns all of its blocks.
 *
 * The kernel guarantees that only this process can write to the memory. Whoever is admitted as a reader can read the
 * whole pool for as long as it likes: make a pool for each audience. `shm`, `packet` and `unix` carry frames. The
 * publisher must allow two descriptors, with which a reader attaches (parlour_server_options_fds_max if it is the
 * server).
 */
typedef struct parlour_frame_pool parlour_frame_pool;

/**
 * The options of a pool of frames.
 */
typedef struct parlour_frame_pool_options parlour_frame_pool_options;

/**
 * The side that receives the frames of a pool over one connection. It need not live as long as its frames. A program
 * opens every message that is a frame: the block of a message that it frees unopened stays with this reader until the
 * reader and its frames are freed.
 */
typedef struct parlour_frame_reader parlour_frame_reader;

/**
 * A hub: it holds a name and serves all clients in the thread that calls it. One thread at a time may use it.
 */
typedef struct parlour_hub parlour_hub;

/**
 * A handle with which any thread wakes a hub and sends through it. Several threads may use one handle at the same
 * time. It may outlive the hub.
 *
 * The functions that send put a copy of the message into a queue and never block. The hub sends the messages while
 * parlour_hub_next_event runs, as parlour_hub_send_payload does, with the same policy for slow clients. Messages of
 * one thread to one client arrive in their order. With PARLOUR_SLOW_CLIENT_REFUSE, and if a client cannot receive
 * blocks, PARLOUR_EVENT_MISSED reports that the client missed a message.
 */
typedef struct parlour_hub_handle parlour_hub_handle;

/**
 * Settings of a hub, besides those of its server.
 */
typedef struct parlour_hub_options parlour_hub_options;

/**
 * One received message, whole, as the peer sent it. It may be empty.
 */
typedef struct parlour_message parlour_message;

/**
 * A watch on one name. One thread at a time may use it. It takes three descriptors. After fork(2), only one of the
 * processes may use it.
 */
typedef struct parlour_name_watch parlour_name_watch;

/**
 * Sends messages that answer no call, from any thread. Several threads may use it at the same time. It may outlive its
 * server. The clients get the messages from parlour_caller_next_push.
 */
typedef struct parlour_pusher parlour_pusher;

/**
 * A frame that was received. Freeing it returns the block to the publisher.
 */
typedef struct parlour_received_frame parlour_received_frame;

/**
 * A server: it holds a name and accepts clients. Any number of threads may accept at the same time.
 */
typedef struct parlour_server parlour_server;

/**
 * Settings of a server. Values are checked when they are used: a value outside its range makes parlour_server_bind
 * return PARLOUR_INVALID_OPTION.
 */
typedef struct parlour_server_options parlour_server_options;

/**
 * A client that connects again when its server has gone, and reports what may be lost. One thread at a time may use
 * it.
 *
 * Each call connects first if there is no connection, and waits for a server up to its `timeout_ms`. When the server
 * has gone, the next call says so, once, with PARLOUR_LOST, and the call after it connects again, with back-off.
 * parlour_session_loss has the account of the connection that has ended. Nothing is sent twice by itself.
 */
typedef struct parlour_session parlour_session;

/**
 * A block of bytes that never changes, in memory of its own (memfd_create(2)) that a process passes to others by its
 * descriptor. The memory is sealed: the kernel guarantees that no process can change it, including its creator.
 */
typedef struct parlour_shared parlour_shared;

/**
 * A handle that makes a server or a hub stop waiting. Any thread, a signal handler, and a forked process may use it.
 */
typedef struct parlour_shutdown parlour_shutdown;

/**
 * The identity of a peer. A value that is not known is -1, never 0. Base decisions on the user and group. A process id
 * is for display: it may belong to another process by the time it is read.
 */
typedef struct {
  /**
   * The process id.
   */
  int64_t pid;
  /**
   * The effective user id.
   */
  int64_t uid;
  /**
   * The effective group id.
   */
  int64_t gid;
  /**
   * The provenance of `pid`.
   */
  parlour_provenance pid_provenance;
  /**
   * The provenance of `uid`.
   */
  parlour_provenance uid_provenance;
  /**
   * The provenance of `gid`.
   */
  parlour_provenance gid_provenance;
} parlour_peer;

/**
 * The other host that a client of a bridge comes from. The process that has connected vouches for the host. The user,
 * the process and the program are what the other host claims: they are for people, and no reason to admit a client.
 */
typedef struct {
  /**
   * The name of the host. It is empty if the client is one of this host.
   */
  char host[PARLOUR_ORIGIN_HOST_SIZE];
  /**
   * The user id on that host, or -1.
   */
  int64_t uid;
  /**
   * The process id on that host, or -1.
   */
  int64_t pid;
  /**
   * The name of the program, in printable UTF-8. It may be empty.
   */
  char program[PARLOUR_ORIGIN_PROGRAM_SIZE];
} parlour_origin;

/**
 * A function of the caller that decides about a client: returns true to admit it. It is called once for each client,
 * in the thread that accepts, with the `user` of parlour_server_options_allow. `origin` is the other host that the
 * client comes from (parlour_connection_origin), or NULL for a client of this host. `peer` and `origin` are valid
 * during the call. It must return normally, and must not accept clients of the same server.
 */
typedef bool (*parlour_allow)(const parlour_peer *peer, const parlour_origin *origin, void *user);

/**
 * A function of the caller that writes a new block in place: `length` bytes at `data`, initially zero. `user` is the
 * argument of parlour_shared_build. It must return normally.
 */
typedef void (*parlour_fill)(void *data, size_t length, void *user);

/**
 * One message to send: its bytes, and the descriptors or shared blocks that are attached to it.
 *
 * Initialise the struct to zero and set the fields that are needed; a count or length of 0 means "none". A message
 * without bytes is an empty message, which is valid. The caller keeps the ownership of everything, and may reuse and
 * free it after the call. The pointers are read during the call only.
 *
 * Example: `{.data = "read this", .length = 9, .fds = &fd, .fd_count = 1}` is a message with one descriptor.
 *
 * PARLOUR_INVALID_ARGUMENT: both `length` and `part_count` are not 0; both `fd_count` and `block_count` are not 0; or
 * a descriptor is negative. PARLOUR_NULL_POINTER: an array is NULL although its count is not 0, or a block is NULL.
 */
typedef struct {
  /**
   * The bytes of the message, if they lie in one part.
   */
  const void *data;
  /**
   * The number of bytes at `data`.
   */
  size_t length;
  /**
   * The bytes of the message, if they lie in several parts. They are sent in order, and are not copied together
   * first, as with writev(2). A part may be empty.
   */
  const struct iovec *parts;
  /**
   * The number of elements of `parts`.
   */
  size_t part_count;
  /**
   * Open descriptors, at most 253. The receiver gets duplicates. `unix` and `packet` carry them, and the receiver
   * must allow as many (parlour_server_options_fds_max, parlour_connect_options_fds_max).
   */
  const int *fds;
  /**
   * The number of elements of `fds`.
   */
  size_t fd_count;
  /**
   * Shared blocks, at most 253. They are not copied; the receiver maps the same memory. `shm`, `packet` and `unix`
   * carry them, and the receiver must allow as many descriptors.
   */
  const parlour_shared *const *blocks;
  /**
   * The number of elements of `blocks`.
   */
  size_t block_count;
} parlour_payload;

/**
 * The capabilities of a connection.
 */
typedef struct {
  /**
   * The longest message that this side sends or receives, in bytes.
   */
  size_t message_max;
  /**
   * The kernel preserves message boundaries. Otherwise this library's framing does.
   */
  bool boundaries;
  /**
   * A message can carry open descriptors, if the peer allows some.
   */
  bool descriptors;
  /**
   * The kernel reports the identity of the peer. Otherwise the owner of its files does.
   */
  bool credentials;
  /**
   * A message can carry shared blocks, if the peer allows descriptors.
   */
  bool zero_copy;
} parlour_capabilities;

/**
 * A function of the caller that is called after each connect of a session, before the connection is used: to log in,
 * or to subscribe again. It returns a number of enum parlour_status, PARLOUR_OK if it succeeded.
 *
 * `connection` is valid during the call. The function must not free, close or split it. If the function fails, the
 * session closes the connection. After PARLOUR_END, PARLOUR_DISCONNECTED, PARLOUR_TRUNCATED, PARLOUR_TIMED_OUT,
 * PARLOUR_BUSY and PARLOUR_NO_SERVER the session tries again, after a pause. Any other status, such as
 * PARLOUR_DENIED, is returned by the call that connected.
 */
typedef int (*parlour_on_connect)(parlour_connection *connection, void *user);

/**
 * The possible loss with a connection of a session. Each number is about the connection that ended last, without the
 * messages of parlour_on_connect. A message counts as sent when parlour_session_send or parlour_session_feed returned
 * PARLOUR_OK.
 */
typedef struct {
  /**
   * The number of connections of this session that have ended. If it is 0, the other fields are 0, too.
   */
  uint64_t connections_ended;
  /**
   * The number of messages that were sent.
   */
  uint64_t sent;
  /**
   * The number of messages that were received.
   */
  uint64_t received;
  /**
   * The number of messages that were sent since the last one was received.
   */
  uint64_t sent_since_received;
  /**
   * The number of messages of the server that had arrived and were not received. parlour_session_next_unreceived
   * returns them.
   */
  uint64_t unreceived;
  /**
   * The server closed without reading all that was sent. False does not mean that it read all.
   */
  bool unread;
  /**
   * Messages were still buffered in this process. They count as sent, and the server did not receive them.
   */
  bool unwritten;
} parlour_loss;

/**
 * The messages of one direction, and their bytes.
 */
typedef struct {
  /**
   * The number of messages.
   */
  uint64_t messages;
  /**
   * The number of their bytes.
   */
  uint64_t bytes;
} parlour_flow;

/**
 * Counts of the clients of a server or hub, since it took its name.
 */
typedef struct {
  /**
   * The number of clients that were accepted.
   */
  uint64_t accepted;
  /**
   * The number of connections that are open now.
   */
  size_t open;
  /**
   * The number of attempts to connect that were refused, for any reason. A client over `shm` or `fifo` that finds
   * the server busy tries again until its deadline, and each attempt counts.
   */
  uint64_t refused;
  /**
   * The limits on open connections that are in effect, of all users together and of each user.
   */
  size_t connections_max;
  /**
   * See `connections_max`.
   */
  size_t connections_per_uid_max;
  /**
   * The memory that clients take now, in bytes. See parlour_server_options_memory_max.
   */
  size_t memory;
  /**
   * The limits on that memory that are in effect, of all users together and of each user.
   */
  size_t memory_max;
  /**
   * See `memory_max`.
   */
  size_t memory_per_uid_max;
  /**
   * The messages that were received from all clients, and their bytes. 0 if the server does not count them
   * (parlour_server_options_stats).
   */
  parlour_flow received;
  /**
   * The messages that were sent to all clients.
   */
  parlour_flow sent;
} parlour_stats;

/**
 * The counters of one client. Times are in milliseconds. See parlour_name_stats.
 *
 * The client holds the server up if `receiving` is PARLOUR_WAIT_REST or `sending` is PARLOUR_WAIT_SPACE, for more than
 * an instant.
 */
typedef struct {
  /**
   * The number of the connection: 1 for the first one that the server accepted. Not the number of a hub's client.
   */
  uint64_t number;
  /**
   * The process, user and group of the client, or -1 if one is not known. Over `fifo`, the process is what the
   * client has stated.
   */
  int64_t pid;
  /**
   * See `pid`.
   */
  int64_t uid;
  /**
   * See `pid`.
   */
  int64_t gid;
  /**
   * The transport.
   */
  parlour_transport transport;
  /**
   * The time since the client was accepted.
   */
  uint64_t connected_ms;
  /**
   * The messages that the server received from the client.
   */
  parlour_flow received;
  /**
   * The messages that the server sent to the client.
   */
  parlour_flow sent;
  /**
   * The number of bytes that a hub holds for the client, because it does not read.
   */
  uint64_t held;
  /**
   * The reason why the receiving direction waits, and for how long.
   */
  parlour_wait receiving;
  /**
   * See `receiving`.
   */
  uint64_t receiving_ms;
  /**
   * The reason why the sending direction waits, and for how long.
   */
  parlour_wait sending;
  /**
   * See `sending`.
   */
  uint64_t sending_ms;
  /**
   * The other host that the client comes from (parlour_connection_origin). `origin.host` is empty for a client of
   * this host. A host of more than 64 bytes and a program of more than 16 are cut, and end with `~`.
   */
  parlour_origin origin;
} parlour_client_stats;

/**
 * A client that a server refused, and why. See parlour_server_next_refusal.
 */
typedef struct {
  /**
   * The reason, for programs.
   */
  parlour_refusal_reason reason;
  /**
   * The identity of the client, as far as it was known.
   */
  parlour_peer peer;
  /**
   * The refusal in words, for people and logs. A longer text is cut.
   */
  char text[PARLOUR_REFUSAL_TEXT_SIZE];
} parlour_refusal;

/**
 * The state of a name, and the process that holds it. The process is for people: by the time that it is read, another
 * one may have its id. A value that is not known is -1.
 */
typedef struct {
  /**
   * The state of the name.
   */
  parlour_name_state state;
  /**
   * The holder yields the name to any other server of its user (parlour_server_options_yields).
   */
  bool yields;
  /**
   * The process id of the holder, in its PID namespace.
   */
  int64_t pid;
  /**
   * The effective user id of the holder.
   */
  int64_t uid;
} parlour_name_event;

/**
 * One event of a hub. `kind` determines which of the other fields are set.
 */
typedef struct {
  /**
   * The kind of the event.
   */
  parlour_event_kind kind;
  /**
   * The reason why a client has left.
   */
  parlour_disconnect_reason reason;
  /**
   * The error of a connection that failed, else PARLOUR_OK.
   */
  parlour_status status;
  /**
   * The reason why a client was refused.
   */
  parlour_refusal_reason refusal;
  /**
   * The number of the client, from 1 up. Numbers are never reused. 0 stands for no client.
   */
  uint64_t client;
  /**
   * The message, or NULL. Free it with parlour_message_free.
   */
  parlour_message *message;
  /**
   * The identity of the client.
   */
  parlour_peer peer;
  /**
   * The event in words, for people, or NULL. The hub owns the string. It is valid until the next call of
   * parlour_hub_next_event.
   */
  const char *text;
  /**
   * The other host that the client comes from (parlour_connection_origin), or NULL for a client of this host. The
   * hub owns it. It is valid until the next call of parlour_hub_next_event.
   */
  const parlour_origin *origin;
} parlour_event;

/**
 * The counts of a caller since it was created.
 */
typedef struct {
  /**
   * The number of calls that are open now.
   */
  size_t open;
  /**
   * The number of messages that answered no open call, and were dropped: the call had timed out, or was freed.
   */
  uint64_t late_answers;
  /**
   * The number of pushed messages that were dropped because nobody took them.
   */
  uint64_t pushes_dropped;
} parlour_call_stats;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Returns a short name of a status, such as "name in use", or "unknown status" for any other number. The string is
 * static. Async-signal-safe.
 */
const char *parlour_status_name(int32_t status);

/**
 * Returns the text of the last failure of the calling thread.
 *
 * The text is one line that names the operation, the object, the reason and, where there is one, the next step, for
 * example "cannot connect to 'wc': no server has this name; start the server". A call that succeeds does not change
 * it. After a call with a `timeout_ms` of 0 that returned PARLOUR_TIMED_OUT, the text is only the reason.
 *
 * Returns "" if no call has failed in this thread, and never NULL. The library owns the string. It is valid until the
 * next call of this thread that fails.
 */
const char *parlour_error_message(void);

/**
 * Returns the `errno` of the system call that caused the last failure of the calling thread, or 0 if no system call
 * caused it.
 */
int parlour_error_errno(void);

/**
 * Returns the text with which a server answered a call, if the last failure of the calling thread is
 * PARLOUR_CALL_FAILED. If the server gave none, the text says why. After any other failure returns "", and never NULL.
 *
 * This is the text as the server sent it, with control characters; zero bytes are replaced by '?'. Escape it before it
 * is printed, or print parlour_error_message(), in which it is escaped. The library owns the string. It is valid until
 * the next call of this thread that fails.
 */
const char *parlour_error_failure(void);

/**
 * Creates server options with the default settings. Free them with parlour_server_options_free. Returns NULL if the
 * library panics.
 */
parlour_server_options *parlour_server_options_new(void);

/**
 * Frees options. Does nothing for NULL. Servers, connections and hubs that were created with them are not affected.
 */
void parlour_server_options_free(parlour_server_options *options);

/**
 * Sets the transports to offer: `count` numbers of enum parlour_transport at `transports`. Default: the transport in
 * the address, or `unix`. If the address has a transport, it must be among these.
 *
 * Errors:
 * - PARLOUR_INVALID_ARGUMENT: a number is not one of enum parlour_transport. The options are as before.
 */
parlour_status parlour_server_options_transports(parlour_server_options *options, const int *transports, size_t count);

/**
 * Sets the mode of the socket, as for chmod(2): the users that may connect. Default 0600: this user and root. 0660
 * with parlour_server_options_group admits a group, 0666 every user. FIFOs serve this user in any case. The umask has
 * no effect.
 */
parlour_status parlour_server_options_mode(parlour_server_options *options, uint32_t mode);

/**
 * Sets the group of the socket. Default: the group of this process. This process must be a member of it or run as
 * root. parlour_server_bind refuses (gid_t) -1, which is not a group, with PARLOUR_INVALID_OPTION.
 */
parlour_status parlour_server_options_group(parlour_server_options *options, uint32_t gid);

/**
 * Sets the function that decides about each client that the mode admits. Default: with a mode without rights for
 * others, this user and root; otherwise every user. `user` may be NULL. The function and `user` must stay valid as
 * long as the options and every server that was bound with them. Threads that accept at the same time may call the
 * function at the same time.
 */
parlour_status parlour_server_options_allow(parlour_server_options *options, parlour_allow allow, void *user);

/**
 * Sets the length of the longest message that this side sends or receives, in bytes. Default 16 MiB; at most 2 GiB -
 * 1.
 */
parlour_status parlour_server_options_message_max(parlour_server_options *options, size_t bytes);

/**
 * Sets the number of descriptors that a received message may have, shared blocks included. Default 0; at most 253. A
 * peer that sends more loses the connection.
 */
parlour_status parlour_server_options_fds_max(parlour_server_options *options, size_t count);

/**
 * Sets the number of connections that may be open, of all users together and of each user; at least 1.
 *
 * Default: as many as three quarters of the descriptors that this process may have open (RLIMIT_NOFILE), at most
 * 65536. A connection takes one descriptor, and two over `fifo`. For each user all of them, or a quarter of them if
 * the mode lets other users connect; at most 4096. parlour_server_stats returns the limits that are in effect.
 */
parlour_status parlour_server_options_connections_max(parlour_server_options *options,
                                                      size_t of_all,
                                                      size_t of_each_user);

/**
 * Sets the memory that clients may take in this process, all users together and each user, in bytes; at least 1.
 *
 * Messages that have not arrived completely and take more than 64 KiB count, and this side's rings of `shm`. Receiving
 * from a connection that needs more fails with PARLOUR_BUSY and loses nothing; a hub ends that connection. A client
 * over `shm` that would exceed the limit is refused.
 *
 * Default: a quarter of the machine's memory, but at least 128 MiB and at most 1 GiB. For each user all of it, or a
 * quarter of it if the mode lets other users connect.
 */
parlour_status parlour_server_options_memory_max(parlour_server_options *options, size_t of_all, size_t of_each_user);

/**
 * Sets the number of handshakes that may be in progress, on transports that have one (`shm`, `fifo`). Default 128; 1
 * to 65536.
 */
parlour_status parlour_server_options_half_open_max(parlour_server_options *options, size_t count);

/**
 * Sets the number of clients that may wait to be accepted. Default 4096; the kernel caps it (net.core.somaxconn).
 */
parlour_status parlour_server_options_backlog(parlour_server_options *options, uint32_t count);

/**
 * Sets the time that a client may take for its handshake, in milliseconds. Default 5000; more than 0.
 */
parlour_status parlour_server_options_handshake_timeout(parlour_server_options *options, int64_t ms);

/**
 * Lets parlour_server_bind take the name over from the live server that holds it, and wait for it for up to `ms`
 * milliseconds. Default: a name that a live server holds is PARLOUR_NAME_IN_USE. Clients notice nothing: those that
 * have connected to that server stay with it, and the others are clients of the new one. That server must accept or
 * wait for a client meanwhile, be of the same user, and have parlour_server_options_hand_over set. PARLOUR_BUSY: it
 * did not answer in time, and keeps the name. docs/hand-over.md has the details.
 */
parlour_status parlour_server_options_take_over(parlour_server_options *options, int64_t ms);

/**
 * Sets whether another process of this user may take the name over. Default true. Accepting then returns
 * PARLOUR_HANDED_OVER, and open connections go on. Servers of a service manager's sockets hand nothing over.
 */
parlour_status parlour_server_options_hand_over(parlour_server_options *options, bool hand_over);

/**
 * Sets whether any other server of this user may take the name, without parlour_server_options_take_over: for a
 * program that stands in for servers that may come. Default false. parlour_server_bind of the other server may then
 * block for up to 1 second. Accepting returns PARLOUR_HANDED_OVER, and open connections go on. A server that yields
 * takes no name from another one, also not from one that yields: PARLOUR_NAME_IN_USE. PARLOUR_INVALID_OPTION of
 * parlour_server_bind: a time for taking over is set, or handing over is switched off.
 */
parlour_status parlour_server_options_yields(parlour_server_options *options, bool yields);

/**
 * Sets whether the server counts messages and bytes, in memory that other processes of this user can read
 * (parlour_name_stats). Default true.
 */
parlour_status parlour_server_options_stats(parlour_server_options *options, bool stats);

/**
 * Sets how long a hub serves its connected clients after a hand-over, in milliseconds. Default: 30000. Then
 * parlour_hub_next_event returns PARLOUR_HANDED_OVER.
 */
parlour_status parlour_server_options_hand_over_grace(parlour_server_options *options, int64_t ms);

/**
 * Sets the check of the clients' own files on `unix`: a number of enum parlour_client_file.
 *
 * Errors:
 * - PARLOUR_INVALID_ARGUMENT: the number is not one of enum parlour_client_file. The options are as before.
 */
parlour_status parlour_server_options_client_file(parlour_server_options *options, int policy);

/**
 * Sets the capacity of the ring through which this side sends over `shm`, in bytes. Default 1 MiB; a power of two
 * from 64 KiB to 64 MiB. The memory is allocated when the connection is made. Longer messages flow through it in
 * pieces.
 */
parlour_status parlour_server_options_ring_size(parlour_server_options *options, size_t bytes);

/**
 * Sets the maximum capacity of the ring through which the peer sends over `shm`, in bytes. Default 16 MiB, or the
 * capacity of this side's own ring if that is larger. A peer with a larger ring is refused. The peer allocates the
 * memory of its ring; this side keeps that memory in use until the connection ends.
 */
parlour_status parlour_server_options_peer_ring_max(parlour_server_options *options, size_t bytes);

/**
 * Sets the number of times that a blocking call polls, and yields the processor, before it sleeps in the kernel.
 * Default 40; 0 sleeps immediately. A wait costs up to some 20 microseconds of processor time this way, and a peer
 * that answers immediately is heard several times sooner.
 */
parlour_status parlour_server_options_spin_limit(parlour_server_options *options, uint32_t count);

/**
 * Creates client options with the default settings. Free them with parlour_connect_options_free. Returns NULL if the
 * library panics.
 */
parlour_connect_options *parlour_connect_options_new(void);

/**
 * Frees options. Does nothing for NULL. Servers, connections and hubs that were created with them are not affected.
 */
void parlour_connect_options_free(parlour_connect_options *options);

/**
 * Sets the time that connecting to a live server may take, in milliseconds. Default 5000; more than 0. A negative
 * number is no limit.
 */
parlour_status parlour_connect_options_timeout(parlour_connect_options *options, int64_t ms);

/**
 * Sets the time to wait until a server holds the name, in milliseconds. Default 0: no wait. A negative number is no
 * limit. The wait sleeps until a file appears in one of the directories where the server could be. An error that
 * waiting cannot cure, such as a server of another user, ends it immediately.
 */
parlour_status parlour_connect_options_wait_for_server(parlour_connect_options *options, int64_t ms);

/**
 * Sets how a session connects again, in milliseconds; a negative number is the longest time. Connections without a
 * session are not affected.
 *
 * - `delay_min_ms`: the first pause after a failure. Default 50; 1 to 86,400,000. No two attempts that reach a server
 *   begin within this time.
 * - `delay_max_ms`: the longest pause. Default 5,000; from `delay_min_ms` to 86,400,000.
 * - `stable_after_ms`: how long a connection must live to count as a success if no message is received over it.
 *   Default 1,000. After a success the pauses begin at the minimum again.
 */
parlour_status parlour_connect_options_reconnect(parlour_connect_options *options,
                                                 int64_t delay_min_ms,
                                                 int64_t delay_max_ms,
                                                 int64_t stable_after_ms);

/**
 * Sets the user that the server must run as. Default: this user or root. This side checks it before it sends a byte,
 * trusts the directories of that user, and first searches the default bases of that user.
 */
parlour_status parlour_connect_options_server_uid(parlour_connect_options *options, uint32_t uid);

/**
 * Sets whether the client binds a file of its own on `unix`, where it may. Default true. The file shows in the name's
 * directory which process connects, and costs two system calls.
 */
parlour_status parlour_connect_options_client_file(parlour_connect_options *options, bool bind);

/**
 * Sets the origin of the client, for a bridge that connects for the client of another host: the name of that host, and
 * what that host claims about the client: its user id and its process id, or -1, and the name of its program, or NULL.
 * The strings are copied. A server of the same user finds it with parlour_connection_origin. A server of another user
 * is shown nothing, unless the client runs as root.
 *
 * Connecting fails with PARLOUR_INVALID_OPTION if the host does not consist of 1 to 253 characters of A-Z a-z 0-9
 * . _ - and :, and with the error of the system call if the file that shows the origin cannot be created.
 *
 * - PARLOUR_INVALID_ARGUMENT: an id is above 4294967295. The options are as before.
 */
parlour_status parlour_connect_options_origin(parlour_connect_options *options,
                                              const char *host,
                                              int64_t uid,
                                              int64_t pid,
                                              const char *program);

/**
 * Sets the length of the longest message that this side sends or receives, in bytes. Default 16 MiB; at most 2 GiB -
 * 1.
 */
parlour_status parlour_connect_options_message_max(parlour_connect_options *options, size_t bytes);

/**
 * Sets the number of descriptors that a received message may have, shared blocks included. Default 0; at most 253. A
 * peer that sends more loses the connection.
 */
parlour_status parlour_connect_options_fds_max(parlour_connect_options *options, size_t count);

/**
 * Sets the capacity of the ring through which this side sends over `shm`, in bytes. Default 1 MiB; a power of two
 * from 64 KiB to 64 MiB. The memory is allocated when the connection is made. Longer messages flow through it in
 * pieces.
 */
parlour_status parlour_connect_options_ring_size(parlour_connect_options *options, size_t bytes);

/**
 * Sets the maximum capacity of the ring through which the peer sends over `shm`, in bytes. Default 16 MiB, or the
 * capacity of this side's own ring if that is larger. A peer with a larger ring is refused. The peer allocates the
 * memory of its ring; this side keeps that memory in use until the connection ends.
 */
parlour_status parlour_connect_options_peer_ring_max(parlour_connect_options *options, size_t bytes);

/**
 * Sets the number of times that a blocking call polls, and yields the processor, before it sleeps in the kernel.
 * Default 40; 0 sleeps immediately. A wait costs up to some 20 microseconds of processor time this way, and a peer
 * that answers immediately is heard several times sooner.
 */
parlour_status parlour_connect_options_spin_limit(parlour_connect_options *options, uint32_t count);

/**
 * Creates hub options with the default settings. Free them with parlour_hub_options_free. Returns NULL if the library
 * panics.
 */
parlour_hub_options *parlour_hub_options_new(void);

/**
 * Frees options. Does nothing for NULL. Servers, connections and hubs that were created with them are not affected.
 */
void parlour_hub_options_free(parlour_hub_options *options);

/**
 * Sets the number of bytes that the hub may buffer for one client, four for each message included, besides those that
 * the kernel holds. Default 1 MiB. A message is always buffered if nothing else is buffered for the client, so with 0
 * one message at a time is.
 */
parlour_status parlour_hub_options_write_buffer_max(parlour_hub_options *options, size_t bytes);

/**
 * Sets the number of bytes that may wait in the queue of the hub's handles (parlour_hub_handle), 64 for each message
 * included. Default 1 MiB. A message is always queued if no other one is.
 */
parlour_status parlour_hub_options_handle_queue_max(parlour_hub_options *options, size_t bytes);

/**
 * Sets the number of shared blocks that may wait for one client, and in the queue of the hub's handles. Default 16. A
 * message with blocks always waits if no other block does.
 */
parlour_status parlour_hub_options_blocks_max(parlour_hub_options *options, size_t count);

/**
 * Sets the number of topics whose last value is kept for clients that subscribe later, and the number of bytes of
 * these values, with their topics. If there are more, those that were published longest ago are dropped. Defaults: 0,
 * which keeps no values, and 1 MiB.
 */
parlour_status parlour_hub_options_kept_values(parlour_hub_options *options, size_t count, size_t bytes);

/**
 * Sets the number of subscriptions that one client may have (parlour_hub_subscribe). Default 1000.
 */
parlour_status parlour_hub_options_subscriptions_max(parlour_hub_options *options, size_t count);

/**
 * Sets the policy for a client that does not read: a number of enum parlour_slow_client_policy. Default:
 * PARLOUR_SLOW_CLIENT_DISCONNECT. `wait_ms` is the limit of PARLOUR_SLOW_CLIENT_WAIT in milliseconds; a negative
 * number is no limit.
 *
 * Errors:
 * - PARLOUR_INVALID_ARGUMENT: the number is not one of enum parlour_slow_client_policy. The options are as before.
 */
parlour_status parlour_hub_options_slow_client_policy(parlour_hub_options *options, int policy, int64_t wait_ms);

/**
 * Creates a block from a copy of `length` bytes at `data`, and stores it in `*shared`. Free it with
 * parlour_shared_free. `data` may be NULL if `length` is 0. Sending and receiving the block copies nothing. For less
 * than about 64 KiB an ordinary message is faster.
 *
 * Errors:
 * - PARLOUR_IO: there is no memory or no descriptor left.
 */
parlour_status parlour_shared_new(const void *data, size_t length, parlour_shared **shared);

/**
 * Creates a block of `length` bytes that `fill` writes in place, and stores it in `*shared`. Calls `fill` once, with
 * `user`, before it returns. `user` may be NULL. Free the block with parlour_shared_free.
 *
 * Errors:
 * - PARLOUR_IO: there is no memory or no descriptor left.
 */
parlour_status parlour_shared_build(size_t length, parlour_fill fill, void *user, parlour_shared **shared);

/**
 * Creates a block from the descriptor of one, for example one of parlour_message_take_fds, and stores it in
 * `*shared`. Takes the ownership of `fd`, also when it fails (unless `fd` is negative): the caller must not close it.
 *
 * Errors:
 * - PARLOUR_INVALID_ARGUMENT: `fd` is negative.
 * - PARLOUR_PROTOCOL: the descriptor is not memory, is not sealed against every change, or is not allocated in full,
 *   so that reading it could be a data race or raise a signal.
 * - PARLOUR_IO: the memory cannot be mapped.
 */
parlour_status parlour_shared_from_fd(int fd, parlour_shared **shared);

/**
 * Creates another handle of the same memory and stores it in `*clone`. Free it with parlour_shared_free.
 */
parlour_status parlour_shared_clone(const parlour_shared *shared, parlour_shared **clone);

/**
 * Returns the bytes of a block. They are valid as long as the handle. Writing to them raises SIGSEGV. Returns NULL
 * for NULL.
 */
const void *parlour_shared_data(const parlour_shared *shared);

/**
 * Returns the length of a block in bytes, or 0 for NULL.
 */
size_t parlour_shared_length(const parlour_shared *shared);

/**
 * Returns the descriptor of the memory of a block. The block owns it. Returns -1 for NULL.
 */
int parlour_shared_fd(const parlour_shared *shared);

/**
 * Frees a handle of a block. The memory is freed with the last handle in any process. Does nothing for NULL.
 */
void parlour_shared_free(parlour_shared *shared);

/**
 * Returns the bytes of a message. The message owns them. The pointer is not NULL even for an empty message. Returns
 * NULL for NULL.
 */
const void *parlour_message_data(const parlour_message *message);

/**
 * Returns the length of a message in bytes, or 0 for NULL.
 */
size_t parlour_message_length(const parlour_message *message);

/**
 * Returns the number of descriptors that a message still has, or 0 for NULL. There are none unless
 * parlour_server_options_fds_max or parlour_connect_options_fds_max allows some.
 */
size_t parlour_message_fd_count(const parlour_message *message);

/**
 * Takes all descriptors out of a message, in the order in which they were sent, and stores them in `fds`, an array of
 * `capacity` elements. The caller closes them. They are close-on-exec. `fds` may be NULL if `capacity` is 0. Stores
 * the number of descriptors in `*count`, which may be NULL.
 *
 * Errors:
 * - PARLOUR_BUFFER_TOO_SMALL: there are more descriptors than `capacity`. Nothing was taken, and `*count` is their
 *   number.
 */
parlour_status parlour_message_take_fds(parlour_message *message, int *fds, size_t capacity, size_t *count);

/**
 * Takes all descriptors out of a message as shared blocks, and stores them in `blocks`, an array of `capacity`
 * elements. Free each with parlour_shared_free. `blocks` may be NULL if `capacity` is 0. Stores the number of blocks
 * in `*count`, which may be NULL.
 *
 * Errors:
 * - PARLOUR_BUFFER_TOO_SMALL: there are more descriptors than `capacity`. Nothing was taken, and `*count` is their
 *   number.
 * - PARLOUR_PROTOCOL: one of the descriptors is not a shared block. All of them were closed, and `*count` is 0.
 * - PARLOUR_IO: a block cannot be mapped. All descriptors were closed, and `*count` is 0.
 */
parlour_status parlour_message_take_shared(parlour_message *message,
                                           parlour_shared **blocks,
                                           size_t capacity,
                                           size_t *count);

/**
 * Frees a message and closes the descriptors that it still has. Does nothing for NULL.
 */
void parlour_message_free(parlour_message *message);

/**
 * Connects to the server that holds a name, and stores the new connection in `*connection`. Free it with
 * parlour_connection_close or parlour_connection_free.
 *
 * `address` is as for parlour_server_bind. Without a transport in the address, the best one that the server offers is
 * used. Before this side sends a byte, it checks that the server runs as this user or root, or as the user of
 * parlour_connect_options_server_uid. `options` may be NULL for the defaults.
 *
 * The call blocks for at most the sum of the times of parlour_connect_options_wait_for_server and
 * parlour_connect_options_timeout.
 *
 * Errors:
 * - PARLOUR_INVALID_NAME: `address` is not well formed.
 * - PARLOUR_INVALID_OPTION: an option has a value outside its range.
 * - PARLOUR_NO_SERVER: no server holds the name.
 * - PARLOUR_REFUSED: the server rejected the connection. Over `unix` and `packet` connecting does not involve the
 *   server: a refusal is the error of the first parlour_recv or parlour_send that finds the connection ended,
 *   PARLOUR_REFUSED or PARLOUR_BUSY.
 * - PARLOUR_DENIED: the system, or the check of the server's user, does not permit the connection.
 * - PARLOUR_BUSY: the server did not accept the client before the deadline, has reached a limit, or a system call of
 *   the server failed.
 * - PARLOUR_TIMED_OUT: the server did not complete the handshake before the deadline.
 * - PARLOUR_PROTOCOL: the server violated the protocol of the handshake.
 * - PARLOUR_UNSUPPORTED: the FIFO of the server is not a private FIFO of its user.
 * - PARLOUR_UNSAFE_DIRECTORY: another user could interfere with a directory of the name.
 * - PARLOUR_IO: a system call failed.
 */
parlour_status parlour_connect(const char *address,
                               const parlour_connect_options *options,
                               parlour_connection **connection);

/**
 * Sends one message: the `length` bytes at `data`. `data` may be NULL if `length` is 0.
 *
 * Returns when the kernel, or the shared memory, has accepted the message; the peer may not have read it yet. Blocks
 * up to `timeout_ms` while the channel is full.
 *
 * If the timeout passes, or a system call fails, after a part of the message was sent, the rest is kept and the call
 * returns PARLOUR_OK. The rest is sent before anything else: with the next send, with parlour_flush, or while a
 * receive blocks.
 *
 * PARLOUR_OK means that the message was sent, or that its rest is kept and will be sent. parlour_connection_free does
 * not wait for the rest, and the peer then receives PARLOUR_TRUNCATED. parlour_flush, parlour_finish and
 * parlour_connection_close wait.
 *
 * After PARLOUR_DISCONNECTED or PARLOUR_PROTOCOL a part of the message may have been sent, and this side can send no
 * more. After any other error below nothing of the message was sent, and the caller may send it again.
 *
 * Errors:
 * - PARLOUR_TIMED_OUT: the channel was full until the deadline.
 * - PARLOUR_MESSAGE_TOO_LONG: the message is longer than the limit. The connection is as before.
 * - PARLOUR_DISCONNECTED: the peer does not receive any more, or parlour_finish was called. No signal is raised.
 * - PARLOUR_PROTOCOL: the peer broke the protocol.
 * - PARLOUR_UNSUPPORTED: the connection is the receiving half.
 * - PARLOUR_IO: a system call failed.
 */
parlour_status parlour_send(parlour_connection *connection, const void *data, size_t length, int64_t timeout_ms);

/**
 * Sends one message as parlour_send does: bytes in one part or in several, with descriptors or shared blocks. See
 * parlour_payload.
 *
 * Errors: those of parlour_send and parlour_payload, and:
 * - PARLOUR_MESSAGE_TOO_LONG: the message is longer than the limit, or has more than 253 descriptors or blocks.
 * - PARLOUR_UNSUPPORTED: the transport does not carry descriptors, or does not carry shared blocks.
 * - PARLOUR_REFUSED: the peer allows no descriptors. A kernel before Linux 6.16 cannot report this, and the
 *   descriptors then end the connection. A message with more descriptors than the peer allows also ends it.
 * - PARLOUR_IO: a system call failed, for example because too many descriptors of this user were sent and not
 *   received yet. They count against RLIMIT_NOFILE.
 */
parlour_status parlour_send_payload(parlour_connection *connection, const parlour_payload *payload, int64_t timeout_ms);

/**
 * Buffers one message, to be written together with the next ones. Many small messages are sent an order of magnitude
 * faster this way.
 *
 * If the message does not fit in the buffer of 64 KiB, the call writes the buffer and sends the message. Only in this
 * case does it block, up to `timeout_ms`. Otherwise the buffer is written by the next parlour_send or
 * parlour_send_payload, by parlour_flush, parlour_finish or parlour_connection_close, or before a receive on this
 * connection blocks. `data` may be NULL if `length` is 0.
 *
 * Errors: those of parlour_send. After PARLOUR_TIMED_OUT this message was neither buffered nor sent. Earlier messages
 * that were not written stay buffered.
 */
parlour_status parlour_feed(parlour_connection *connection, const void *data, size_t length, int64_t timeout_ms);

/**
 * Writes all buffered messages. Blocks up to `timeout_ms` while the channel is full.
 *
 * Errors:
 * - PARLOUR_TIMED_OUT: the channel was full until the deadline. The rest stays buffered.
 * - PARLOUR_DISCONNECTED: the peer has disconnected.
 * - PARLOUR_PROTOCOL: the peer broke the protocol.
 * - PARLOUR_UNSUPPORTED: the connection is the receiving half.
 * - PARLOUR_IO: a system call failed.
 */
parlour_status parlour_flush(parlour_connection *connection, int64_t timeout_ms);

/**
 * Receives one message and stores a handle of it in `*message`. The caller owns the handle and frees it with
 * parlour_message_free.
 *
 * Blocks up to `timeout_ms` until a whole message has arrived. Writes buffered messages before it blocks, because the
 * peer may wait for them. An error of this write does not end the receive; the next send returns it.
 *
 * After PARLOUR_TIMED_OUT, an answer that arrives late is what the next receive returns. Put a number into each
 * request and its answer, or close the connection.
 *
 * Returns PARLOUR_OK, or PARLOUR_END at the end of the stream: the peer sends no more, and all of its messages were
 * received. `*message` is then NULL.
 *
 * Errors:
 * - PARLOUR_TIMED_OUT: no whole message has arrived. A partially received message is kept for the next call.
 * - PARLOUR_TRUNCATED: the peer disconnected mid-message.
 * - PARLOUR_DISCONNECTED: the peer closed without reading all that this side sent. This replaces PARLOUR_END where
 *   the transport can tell (not on `fifo`). A `unix` server that rejects a client which has already sent something
 *   causes it, too.
 * - PARLOUR_MESSAGE_TOO_LONG: the peer announced more bytes than the limit. Nothing was allocated, and this direction
 *   has ended.
 * - PARLOUR_PROTOCOL: the peer broke the protocol.
 * - PARLOUR_UNSUPPORTED: the connection is the sending half.
 * - PARLOUR_IO: a system call failed, or the descriptor table of this process is full and the descriptors of a message
 *   were lost.
 */
parlour_status parlour_recv(parlour_connection *connection, int64_t timeout_ms, parlour_message **message);

/**
 * Receives one message as parlour_recv does, into a buffer of `size` bytes. Stores the length of the message in
 * `*length`. Descriptors of the message are closed. `buffer` may be NULL if `size` is 0.
 *
 * Errors: those of parlour_recv, and:
 * - PARLOUR_BUFFER_TOO_SMALL: the message is longer than `size`. `*length` is its length, the buffer is unchanged,
 *   and the next receive returns the message.
 */
parlour_status parlour_recv_into(parlour_connection *connection,
                                 void *buffer,
                                 size_t size,
                                 size_t *length,
                                 int64_t timeout_ms);

/**
 * Returns true if a receive would not block because data is buffered. Polling parlour_connection_recv_fd does not
 * show this: before poll(2), call this function, or receive with a timeout of 0 until PARLOUR_TIMED_OUT. Returns
 * false for NULL and for the sending half.
 */
bool parlour_has_message(const parlour_connection *connection);

/**
 * Writes all buffered messages, then ends sending (half-close): the peer receives PARLOUR_END after the last message.
 * Receiving goes on. Blocks up to `timeout_ms` while the channel is full. Does nothing if sending has ended.
 *
 * Errors:
 * - PARLOUR_TIMED_OUT: the channel was full until the deadline. Sending goes on, and the rest stays buffered.
 * - PARLOUR_DISCONNECTED: the peer has disconnected.
 * - PARLOUR_PROTOCOL: the peer broke the protocol.
 * - PARLOUR_UNSUPPORTED: the connection is the receiving half.
 * - PARLOUR_IO: a system call failed.
 */
parlour_status parlour_finish(parlour_connection *connection, int64_t timeout_ms);

/**
 * Splits a connection into its two directions, for two threads, and stores a handle of each in `*sending` and
 * `*receiving`. `connection` is freed. From then on, freeing one half ends its direction and leaves the other one
 * open.
 *
 * After PARLOUR_NULL_POINTER and PARLOUR_UNSUPPORTED, `connection` is still valid. After PARLOUR_INTERNAL it may have
 * been freed, and must not be used.
 *
 * Errors:
 * - PARLOUR_UNSUPPORTED: the connection is a half already, or belongs to a session.
 */
parlour_status parlour_connection_split(parlour_connection *connection,
                                        parlour_connection **sending,
                                        parlour_connection **receiving);

/**
 * Stores the identity of the peer in `*peer`. Does not block. `*peer` holds no resources.
 */
parlour_status parlour_connection_peer(const parlour_connection *connection, parlour_peer *peer);

/**
 * Stores in `*origin` the host that the peer comes from, if it is a client of a bridge that runs as the user of this
 * server or as root. Otherwise `origin->host` is empty. Does not block. `*origin` holds no resources.
 */
parlour_status parlour_connection_origin(const parlour_connection *connection, parlour_origin *origin);

/**
 * Opens a pidfd of the peer's process (SO_PEERPIDFD, Linux 6.5) and stores it in `*pidfd`. It is close-on-exec. The
 * caller closes it.
 *
 * The pidfd refers to that process alone, even after the process id was reused, and becomes readable when the process
 * ends. After an error, `*pidfd` is -1.
 *
 * Errors:
 * - PARLOUR_UNSUPPORTED: the transport has no peer credentials of the kernel (`fifo`), the connection is a half, or
 *   the kernel has no SO_PEERPIDFD (before Linux 6.5).
 * - PARLOUR_IO: a system call failed.
 */
parlour_status parlour_connection_pidfd(const parlour_connection *connection, int *pidfd);

/**
 * Returns the transport of a connection, or PARLOUR_TRANSPORT_NONE for NULL.
 */
parlour_transport parlour_connection_transport(const parlour_connection *connection);

/**
 * Stores the capabilities of a connection in `*capabilities`.
 *
 * Errors:
 * - PARLOUR_UNSUPPORTED: the connection is a half.
 */
parlour_status parlour_connection_capabilities(const parlour_connection *connection,
                                               parlour_capabilities *capabilities);

/**
 * Returns a descriptor for poll(2) with POLLIN: it is readable when a receive may make progress. Before each poll,
 * call parlour_has_message, and poll only if it returns false.
 *
 * The connection owns the descriptor: do not read, write or close it. It is valid until the connection is freed.
 * Returns -1 for NULL and for the sending half.
 */
int parlour_connection_recv_fd(const parlour_connection *connection);

/**
 * Returns a descriptor for poll(2) with POLLOUT: it is writable when a send may make progress. It reports POLLERR or
 * POLLHUP when the peer has disconnected. Before each poll, call parlour_send or parlour_flush with a timeout of 0,
 * and poll only if it returns PARLOUR_TIMED_OUT.
 *
 * The connection owns the descriptor: do not read, write or close it. It is valid until the connection is freed.
 * Returns -1 for NULL, for the receiving half, and after parlour_finish.
 */
int parlour_connection_send_fd(const parlour_connection *connection);

/**
 * Waits until the peer has closed the connection: it neither sends nor receives any more, because it has closed or
 * freed its end, its process has ended, or it has ended sending after this side did. Receives nothing: messages that
 * the peer sent before can still be received. Buffered messages are not written.
 *
 * Errors:
 * - PARLOUR_TIMED_OUT: the peer has not closed.
 * - PARLOUR_UNSUPPORTED: `connection` is a half.
 * - PARLOUR_IO: a system call failed.
 */
parlour_status parlour_connection_wait_closed(const parlour_connection *connection, int64_t timeout_ms);

/**
 * Writes all buffered messages, ends the connection, and frees it in any case. Blocks up to `timeout_ms` while the
 * channel is full.
 *
 * Errors:
 * - PARLOUR_TIMED_OUT: the channel was full until the deadline, and some messages were lost.
 * - PARLOUR_DISCONNECTED: messages were buffered, and the peer has disconnected.
 * - PARLOUR_PROTOCOL: messages were buffered, and the peer broke the protocol.
 * - PARLOUR_IO: messages were buffered, and a system call failed.
 */
parlour_status parlour_connection_close(parlour_connection *connection, int64_t timeout_ms);

/**
 * Ends a connection with an error for the peer, and frees it. The peer receives PARLOUR_TRUNCATED or
 * PARLOUR_DISCONNECTED, and not PARLOUR_END, after messages that are in the channel. Buffered messages are discarded.
 * Does not block. After parlour_finish the peer has been told that it has everything, and this function is the same as
 * parlour_connection_free. Aborting the sending half leaves the other direction open. Does nothing for NULL.
 */
void parlour_connection_abort(parlour_connection *connection);

/**
 * Ends a connection without blocking, and frees it. Buffered messages that a full channel does not take are lost.
 * Does nothing for NULL.
 */
void parlour_connection_free(parlour_connection *connection);

/**
 * Creates both ends of a connection over `transport`, a number of enum parlour_transport, without a server, a name or
 * a file, and stores them in `*one` and `*other`. It is to a connection what socketpair(2) is to a socket: for tests,
 * and for two threads. Free each end with parlour_connection_close or parlour_connection_free.
 *
 * The peer of each end is this process. Of the options, those about messages and memory apply to both ends; `options`
 * may be NULL for the defaults.
 *
 * Errors:
 * - PARLOUR_INVALID_ARGUMENT: `transport` is not one of enum parlour_transport.
 * - PARLOUR_INVALID_OPTION: an option has a value outside its range.
 * - PARLOUR_UNSUPPORTED: `shm`, and memfd_create(2) does not work here.
 * - PARLOUR_IO: a system call failed.
 */
parlour_status parlour_connection_pair(int transport,
                                       const parlour_connect_options *options,
                                       parlour_connection **one,
                                       parlour_connection **other);

/**
 * Takes the connection that the parent of this process passed to it, and stores it in `*connection`. The environment
 * variable PARLOUR_FD has the number of the descriptor, in decimal digits. Free the connection with
 * parlour_connection_close or parlour_connection_free.
 *
 * The descriptor is one end of socketpair(2), of the type SOCK_STREAM or SOCK_SEQPACKET. A parent in C makes the pair
 * with SOCK_CLOEXEC, clears FD_CLOEXEC of one end in the child, between fork(2) and exec, and talks over its own end
 * as the documentation of the protocol describes. A parent in Rust calls Connection::spawn. The process that made the
 * pair must run as this user or root, or as the user of parlour_connect_options_server_uid.
 *
 * A process takes the connection once. The descriptor becomes close-on-exec. The environment is not changed. Of the
 * options, those about messages apply; `options` may be NULL for the defaults.
 *
 * Errors: after an error the descriptor is as it was.
 * - PARLOUR_UNSUPPORTED: the variable is not set, or this process has taken the connection.
 * - PARLOUR_INVALID_OPTION: the variable is malformed, the descriptor is not open, is no connected UNIX socket of one
 *   of these types, or is not the one with the inode in PARLOUR_FD_INODE; or an option has a value outside its range.
 * - PARLOUR_DENIED: another user made the pair.
 * - PARLOUR_IO: a system call failed.
 */
parlour_status parlour_connection_from_env(const parlour_connect_options *options, parlour_connection **connection);

/**
 * Creates a session with the server that holds a name, and stores it in `*session`. Does not connect. Free it with
 * parlour_session_close or parlour_session_free.
 *
 * `address` and `options` are as for parlour_connect. `options` may be NULL for the defaults. The option
 * parlour_connect_options_wait_for_server has no effect: a session waits as long as the timeouts of its calls allow.
 *
 * Errors:
 * - PARLOUR_INVALID_NAME: `address` is not well formed.
 * - PARLOUR_INVALID_OPTION: an option has a value outside its range.
 */
parlour_status parlour_session_open(const char *address,
                                    const parlour_connect_options *options,
                                    parlour_session **session);

/**
 * Sets the function that is called after each connect, including the first one. See parlour_on_connect. `user` is
 * passed to it, and may be NULL. The function and `user` must stay valid as long as the session. The timeout of a call
 * does not interrupt the function: use timeouts in it.
 */
parlour_status parlour_session_on_connect(parlour_session *session, parlour_on_connect hook, void *user);

/**
 * Connects if there is no connection. Blocks up to `timeout_ms` until a server is there. The other calls connect by
 * themselves.
 *
 * Errors: those of parlour_connect that waiting does not resolve, such as PARLOUR_DENIED and PARLOUR_REFUSED; the
 * status of parlour_on_connect; and:
 * - PARLOUR_TIMED_OUT: there was no connection before the deadline. The next call goes on where this one ended.
 */
parlour_status parlour_session_connect(parlour_session *session, int64_t timeout_ms);

/**
 * Sends one message as parlour_send does. Connects first if there is no connection; with a `timeout_ms` of 0, as far
 * as that is possible without waiting. After an error the server does not receive the message.
 *
 * Errors: those of parlour_session_connect, those of parlour_send after which the connection is as before, and:
 * - PARLOUR_LOST: the connection has ended. parlour_session_loss has the account. The next call connects again.
 * - PARLOUR_REFUSED, PARLOUR_PROTOCOL: the connection has ended for this reason.
 */
parlour_status parlour_session_send(parlour_session *session, const void *data, size_t length, int64_t timeout_ms);

/**
 * Sends one message as parlour_session_send does: bytes in one part or in several, with descriptors or shared blocks.
 *
 * Errors: those of parlour_session_send and parlour_send_payload.
 */
parlour_status parlour_session_send_payload(parlour_session *session,
                                            const parlour_payload *payload,
                                            int64_t timeout_ms);

/**
 * Buffers one message as parlour_feed does. Connects first if there is no connection. The message counts as sent, and
 * is lost with the connection.
 *
 * Errors: those of parlour_session_send.
 */
parlour_status parlour_session_feed(parlour_session *session, const void *data, size_t length, int64_t timeout_ms);

/**
 * Writes all buffered messages as parlour_flush does. Does nothing if there is no connection.
 *
 * Errors: those of parlour_flush after which the connection is as before, and PARLOUR_LOST.
 */
parlour_status parlour_session_flush(parlour_session *session, int64_t timeout_ms);

/**
 * Receives one message as parlour_recv does, and stores a handle of it in `*message`. Connects first if there is no
 * connection; with a `timeout_ms` of 0, as far as that is possible without waiting. Never returns PARLOUR_END, and
 * never a message of an earlier connection.
 *
 * Errors: those of parlour_session_connect, and:
 * - PARLOUR_LOST: the connection has ended, and all messages that had arrived were received. parlour_session_loss has
 *   the account. The next call connects again.
 * - PARLOUR_REFUSED, PARLOUR_PROTOCOL, PARLOUR_MESSAGE_TOO_LONG: the connection has ended for this reason.
 * - PARLOUR_TIMED_OUT: no whole message has arrived. A partially received message is kept for the next call.
 * - PARLOUR_IO: a system call failed.
 */
parlour_status parlour_session_recv(parlour_session *session, int64_t timeout_ms, parlour_message **message);

/**
 * Receives one message as parlour_session_recv does, into a buffer of `size` bytes. Stores the length of the message
 * in `*length`. Descriptors of the message are closed. `buffer` may be NULL if `size` is 0.
 *
 * Errors: those of parlour_session_recv, and:
 * - PARLOUR_BUFFER_TOO_SMALL: the message is longer than `size`. `*length` is its length, the buffer is unchanged,
 *   and the next receive returns the message.
 */
parlour_status parlour_session_recv_into(parlour_session *session,
                                         void *buffer,
                                         size_t size,
                                         size_t *length,
                                         int64_t timeout_ms);

/**
 * Stores the account of the connection that ended last in `*loss`. All fields are 0 if none has ended.
 */
parlour_status parlour_session_loss(const parlour_session *session, parlour_loss *loss);

/**
 * Stores a handle of the next message that had arrived when a send found the connection ended in `*message`. They show
 * which requests were answered. They are kept until the next connection ends: at most 1,024, and no more after 1 MiB.
 *
 * Returns PARLOUR_OK, or PARLOUR_END if there is none; `*message` is then NULL.
 */
parlour_status parlour_session_next_unreceived(parlour_session *session, parlour_message **message);

/**
 * Returns true if the session has a connection. Its server may have gone; the next call finds that out. Returns false
 * for NULL.
 */
bool parlour_session_is_connected(const parlour_session *session);

/**
 * Stores the identity of the server in `*peer`.
 *
 * Errors:
 * - PARLOUR_NO_SERVER: the session has no connection.
 */
parlour_status parlour_session_peer(const parlour_session *session, parlour_peer *peer);

/**
 * Returns the transport of the connection, or PARLOUR_TRANSPORT_NONE for NULL and without a connection.
 */
parlour_transport parlour_session_transport(const parlour_session *session);

/**
 * Returns a descriptor for poll(2) with POLLIN, as parlour_connection_recv_fd does. It is valid until a call reports
 * that the connection has ended. Before each poll, receive with a timeout of 0 until PARLOUR_TIMED_OUT. Returns -1 for
 * NULL and without a connection: call parlour_session_connect.
 */
int parlour_session_recv_fd(const parlour_session *session);

/**
 * Writes all buffered messages, closes the connection, and frees the session in any case. Blocks up to `timeout_ms`
 * while the channel is full. Does not connect.
 *
 * Errors:
 * - PARLOUR_TIMED_OUT: the channel was full until the deadline, and some messages were lost.
 * - PARLOUR_LOST: messages were buffered, and the server has gone.
 * - PARLOUR_IO: messages were buffered, and a system call failed.
 */
parlour_status parlour_session_close(parlour_session *session, int64_t timeout_ms);

/**
 * Closes the connection without blocking, and frees the session. Buffered messages that a full channel does not take
 * are lost. Does nothing for NULL.
 */
void parlour_session_free(parlour_session *session);

/**
 * Reads the counters of the server that holds a name, which may be in another process. Stores the counts of the server
 * in `*stats`. Stores the counters of its first `capacity` clients in `clients`, in the order in which they were
 * accepted, and the number of all that were read in `*count`. With a capacity of 0, `clients` may be NULL.
 *
 * `address` is as for parlour_connect. Of the options, only that of parlour_connect_options_server_uid has an effect:
 * with it, root reads the counters of the server of another user. `options` may be NULL for the defaults.
 *
 * The server does nothing for it, except one in another PID namespace or one that is not dumpable (prctl(2)). Such a
 * server hands the counters out while it waits for clients or messages, and the call blocks for up to 1 second. The
 * limits and the memory in `*stats` are 0, because only the server knows them.
 *
 * Errors:
 * - PARLOUR_INVALID_NAME, PARLOUR_NO_SERVER.
 * - PARLOUR_UNSUPPORTED: the server has no counters (parlour_server_options_stats), or does not hand them out.
 * - PARLOUR_DENIED: the server is of another user than the expected one, or does not hand its counters out.
 * - PARLOUR_BUSY: the server did not hand its counters out in time.
 * - PARLOUR_IO: a system call failed.
 */
parlour_status parlour_name_stats(const char *address,
                                  const parlour_connect_options *options,
                                  parlour_stats *stats,
                                  parlour_client_stats *clients,
                                  size_t capacity,
                                  size_t *count);

/**
 * Takes the name of an address, listens, and stores the new server in `*server`. Free it with parlour_server_close or
 * parlour_server_free.
 *
 * An address is "name" or "transport:name", where the name may have "/absolute/directory/" in front of it. A name is
 * 1 to 64 of A-Z a-z 0-9 . _ - and does not begin with a dot. At most one live server holds a name. After a crash the
 * name is free immediately, and this call removes the files of the dead server. `options` may be NULL for the
 * defaults. Runs no thread, and changes neither signals nor the umask.
 *
 * Errors:
 * - PARLOUR_INVALID_NAME: `address` is not well formed.
 * - PARLOUR_INVALID_OPTION: an option has a value outside its range.
 * - PARLOUR_NAME_IN_USE: a live server holds the name, here or in another base directory of this user.
 *   parlour_error_message() names its process.
 * - PARLOUR_UNSAFE_DIRECTORY: another user could interfere with the directory.
 * - PARLOUR_DENIED, PARLOUR_IO: a system call failed.
 */
parlour_status parlour_server_bind(const char *address, const parlour_server_options *options, parlour_server **server);

/**
 * Serves on the sockets that a service manager passed to this process (socket activation, sd_listen_fds(3)), and
 * stores the new server in `*server`.
 *
 * `fd_name` selects the descriptors of that name (FileDescriptorName=). With NULL, the sockets that lie in the
 * directory of a name are used. Each descriptor can be taken once. All passed descriptors become close-on-exec.
 * `options` may be NULL for the defaults. docs/systemd.md describes the units.
 *
 * Errors: those of parlour_server_bind, after which the sockets are as before, and:
 * - PARLOUR_UNSUPPORTED: no socket was passed to this process, or it was taken before.
 * - PARLOUR_INVALID_OPTION: the sockets do not fit: a type that is wrong for the transport, connections in place of
 *   listening sockets (Accept=yes), sockets of two names, or none of a name.
 */
parlour_status parlour_server_bind_listen_fds(const char *fd_name,
                                              const parlour_server_options *options,
                                              parlour_server **server);

/**
 * Accepts a client and stores its connection in `*connection`. Free it with parlour_connection_close or
 * parlour_connection_free.
 *
 * Blocks up to `timeout_ms` until a client has connected and was admitted. Clients that are refused do not end the
 * wait; see parlour_server_stats. The server works only inside this call: it advances handshakes, and ends those that
 * take too long. Any number of threads may call it at the same time.
 *
 * Errors:
 * - PARLOUR_TIMED_OUT: no client has connected. No client is lost by that.
 * - PARLOUR_SHUTDOWN: the server was told to shut down, and the clients that had connected before were accepted. Over
 *   `fifo` this may come up to the timeout of handshakes later.
 * - PARLOUR_HANDED_OVER: another process has taken the name over (parlour_server_options_hand_over). Open connections
 *   go on. Close the server when they have ended.
 * - PARLOUR_NAME_LOST: the server's files were removed or replaced, so that clients do not find it, or this is a
 *   forked child. Close the server and bind again.
 * - PARLOUR_IO: a system call failed.
 */
parlour_status parlour_server_accept(const parlour_server *server, int64_t timeout_ms, parlour_connection **connection);

/**
 * Returns a descriptor that is readable when parlour_server_accept has something to do, deadlines of handshakes
 * included. Then call parlour_server_accept with a timeout of 0 until it returns PARLOUR_TIMED_OUT. For waiting only.
 * The server owns it. Returns -1 for NULL.
 */
int parlour_server_fd(const parlour_server *server);

/**
 * Returns the name of a server, without transport and directory. The server owns the string. Returns NULL for NULL.
 */
const char *parlour_server_name(const parlour_server *server);

/**
 * Returns the path of the name's directory, in which clients find the server. The server owns the string. Returns
 * NULL for NULL.
 */
const char *parlour_server_path(const parlour_server *server);

/**
 * Stores the counts of clients in `*stats`.
 */
parlour_status parlour_server_stats(const parlour_server *server, parlour_stats *stats);

/**
 * Returns the number of attempts to connect that the server refused for a reason, a number of enum
 * parlour_refusal_reason. Returns 0 for any other number and for NULL.
 */
uint64_t parlour_server_refused_by(const parlour_server *server, int reason);

/**
 * Stores the oldest refusal that no earlier call stored in `*refusal`, and returns true. Returns false if there is
 * none, and for NULL. Does not block.
 *
 * Refusals are queued from the first call on, up to 256; further ones are only counted (parlour_server_stats). Call
 * this once before accepting, and then whenever parlour_server_accept with a timeout returns, or from another thread.
 */
bool parlour_server_next_refusal(const parlour_server *server, parlour_refusal *refusal);

/**
 * Tells a server to shut down: no further client can connect. parlour_server_accept returns the clients that had
 * connected before, and PARLOUR_SHUTDOWN in every thread once none is left. So accept until PARLOUR_SHUTDOWN before
 * parlour_server_close, which disconnects those that are left.
 * Connections go on. Async-signal-safe. Does nothing for NULL.
 */
void parlour_server_shutdown(const parlour_server *server);

/**
 * Stores a handle in `*shutdown` that does the same as parlour_server_shutdown. It may outlive the server. Free it
 * with parlour_shutdown_free.
 */
parlour_status parlour_server_shutdown_handle(const parlour_server *server, parlour_shutdown **shutdown);

/**
 * Tells the server or the hub of the handle to shut down. Has no effect if it was freed. In a forked child it tells
 * the server of the parent. Async-signal-safe. Does nothing for NULL.
 */
void parlour_shutdown_ask(const parlour_shutdown *shutdown);

/**
 * Frees a shutdown handle. Does nothing for NULL.
 */
void parlour_shutdown_free(parlour_shutdown *shutdown);

/**
 * Removes the server's files and the directory of the name, releases the name, and frees the server in any case.
 * Connections that are open go on. Clients that were not accepted yet are disconnected. No thread may be in a call on
 * the server: call parlour_server_shutdown first, and wait for the threads.
 *
 * Errors:
 * - PARLOUR_IO: a file cannot be removed. The name is free all the same.
 */
parlour_status parlour_server_close(parlour_server *server);

/**
 * Does the same as parlour_server_close, and reports no error. Does nothing for NULL.
 */
void parlour_server_free(parlour_server *server);

/**
 * Begins to watch the name of an address, and stores the watch in `*watch`. Free it with parlour_name_watch_free.
 *
 * `address` is as for parlour_connect. Of the options, only that of parlour_connect_options_server_uid has an effect.
 * `options` may be NULL for the defaults.
 *
 * Every directory in which a client searches the name is watched, by inotify(7), also one that does not exist yet. If
 * directories cannot be watched, because the user has too many inotify instances, the watch looks every 100 ms.
 *
 * Errors:
 * - PARLOUR_INVALID_NAME: the address is malformed.
 * - PARLOUR_UNSAFE_DIRECTORY: $PARLOUR_DIR is not an absolute path.
 * - PARLOUR_IO: a descriptor could not be created.
 */
parlour_status parlour_name_watch_new(const char *address,
                                      const parlour_connect_options *options,
                                      parlour_name_watch **watch);

/**
 * Waits up to `timeout_ms` until the state of the name differs from the one that was returned last, and stores the new
 * one in `*event`. The first call stores the present state at once.
 *
 * Another server, or other transports, are a difference, too. A state that was over before this call looked is not
 * returned: a server that is restarted may be one event, with another process. A state of a moment may be returned: a
 * server whose process is not known yet, or PARLOUR_NAME_WAITING while the kernel closes the sockets of one that was
 * killed.
 *
 * Errors:
 * - PARLOUR_TIMED_OUT: the state is the same. `*event` is then PARLOUR_NAME_ABSENT, without a process.
 * - PARLOUR_IO: a system call failed, for example because no descriptor is left. The state is not known then, and the
 *   descriptor of the watch does not report it: repeat the call after a moment.
 */
parlour_status parlour_name_watch_next(parlour_name_watch *watch, int64_t timeout_ms, parlour_name_event *event);

/**
 * Returns a descriptor for poll(2), which is readable (POLLIN) when parlour_name_watch_next may have a new state. Call
 * that with a timeout of 0 then; it may return PARLOUR_TIMED_OUT. The first state is there without a change: take it
 * before the first poll. The descriptor is for waiting only. It belongs to the watch: do not read or close it. Returns
 * -1 for NULL.
 */
int parlour_name_watch_fd(const parlour_name_watch *watch);

/**
 * Ends a watch, and frees it. Does nothing for NULL.
 */
void parlour_name_watch_free(parlour_name_watch *watch);

/**
 * Takes the name of an address, listens, and stores the new hub in `*hub`. Free it with parlour_hub_close or
 * parlour_hub_free. `address` is as for parlour_server_bind. Both options may be NULL for the defaults.
 *
 * Errors: those of parlour_server_bind.
 */
parlour_status parlour_hub_bind(const char *address,
                                const parlour_server_options *server_options,
                                const parlour_hub_options *hub_options,
                                parlour_hub **hub);

/**
 * Waits up to `timeout_ms` for the next event, and stores it in `*event`. The hub works only inside its calls: this
 * one also admits clients, and writes what was sent to them.
 *
 * Clients take turns: a client that sends without pause is heard up to 16 messages, or 64 KiB, at a time.
 *
 * Errors: none of them ends a connection, and the call may be repeated. `event->kind` is then PARLOUR_EVENT_NONE.
 * - PARLOUR_TIMED_OUT: nothing has happened.
 * - PARLOUR_SHUTDOWN: the hub was told to shut down, or it drains and the last client has left. Every later call
 *   returns the same.
 * - PARLOUR_HANDED_OVER: another process has taken the name over, and every client has left, or 30 s have passed.
 *   Every later call returns the same.
 * - PARLOUR_NAME_LOST: the server's files were removed or replaced, so that new clients do not find it; the present
 *   clients go on. Or this is a forked child.
 * - PARLOUR_IO: a system call failed.
 */
parlour_status parlour_hub_next_event(parlour_hub *hub, int64_t timeout_ms, parlour_event *event);

/**
 * Sends one message to a client: the `length` bytes at `data`, which may be NULL if `length` is 0.
 *
 * The message is written together with others: when 64 KiB have come together, when the hub has nothing else to do,
 * or, while messages arrive without pause, a millisecond later. parlour_hub_flush writes it immediately. The call
 * blocks only with PARLOUR_SLOW_CLIENT_WAIT. Does nothing for a client that has left.
 *
 * Errors: nothing of the message is sent then.
 * - PARLOUR_MESSAGE_TOO_LONG: the message is longer than the limit.
 * - PARLOUR_BUSY: the client does not read what was sent to it, with PARLOUR_SLOW_CLIENT_REFUSE.
 * - PARLOUR_SHUTDOWN: the hub was told to shut down while it waited, with PARLOUR_SLOW_CLIENT_WAIT.
 * - PARLOUR_NAME_LOST: this is a forked child.
 */
parlour_status parlour_hub_send(parlour_hub *hub, uint64_t client, const void *data, size_t length);

/**
 * Sends one message to a client as parlour_hub_send does: bytes in one part or in several, and shared blocks. See
 * parlour_payload. Blocks for which the channel has no room wait, up to parlour_hub_options_blocks_max.
 *
 * Errors: those of parlour_hub_send and parlour_payload, and:
 * - PARLOUR_UNSUPPORTED: the payload has descriptors, which a hub does not send; or it has blocks, and the client's
 *   transport does not carry them.
 * - PARLOUR_REFUSED: the payload has blocks, and the client allows no descriptors.
 */
parlour_status parlour_hub_send_payload(parlour_hub *hub, uint64_t client, const parlour_payload *payload);

/**
 * Sends one message to every client that has joined: the `length` bytes at `data`, which may be NULL if `length` is
 * 0. Stores the number of clients that did not get it in `*missed`, which may be NULL. The number is 0 unless the
 * policy is PARLOUR_SLOW_CLIENT_REFUSE.
 *
 * Errors: those of parlour_hub_send but PARLOUR_BUSY. After PARLOUR_SHUTDOWN some clients have the message and some
 * have not.
 */
parlour_status parlour_hub_broadcast(parlour_hub *hub, const void *data, size_t length, size_t *missed);

/**
 * Sends one message to every client that has joined, as parlour_hub_broadcast does: bytes in one part or in several,
 * and shared blocks. See parlour_payload. `*missed` includes the clients that cannot receive the blocks.
 *
 * Errors: those of parlour_hub_broadcast and parlour_payload, and:
 * - PARLOUR_UNSUPPORTED: the payload has descriptors, which a hub does not send.
 */
parlour_status parlour_hub_broadcast_payload(parlour_hub *hub, const parlour_payload *payload, size_t *missed);

/**
 * Writes the buffered messages of all clients, as far as the kernel takes them without blocking.
 * parlour_hub_next_event does this itself; call this function before work that takes long.
 *
 * Errors:
 * - PARLOUR_NAME_LOST: this is a forked child.
 */
parlour_status parlour_hub_flush(parlour_hub *hub);

/**
 * Ends sending to a client (half-close), after what was sent before: the client receives the end of the stream after
 * the last message. Its messages are still received. It leaves when it has finished, too. Does nothing for a client
 * that has left.
 *
 * Errors:
 * - PARLOUR_NAME_LOST: this is a forked child.
 */
parlour_status parlour_hub_finish(parlour_hub *hub, uint64_t client);

/**
 * Ends the connection of a client. Buffered messages that the kernel does not take immediately are lost.
 * PARLOUR_EVENT_LEFT follows, and no message of the client any more. Does nothing for a client that has left.
 *
 * Errors:
 * - PARLOUR_NAME_LOST: this is a forked child.
 */
parlour_status parlour_hub_disconnect(parlour_hub *hub, uint64_t client);

/**
 * Lets no further client connect, and releases the name. The clients that are connected go on to be served, and those
 * that wait to be let in still join. After the last one has left, parlour_hub_next_event returns PARLOUR_SHUTDOWN.
 * Usually the name is free when this call returns. Over `fifo` a client that is about to connect may delay that while
 * the hub waits for events. Further calls have no effect.
 *
 * Errors:
 * - PARLOUR_SHUTDOWN: the hub was told to shut down before.
 * - PARLOUR_NAME_LOST: this is a forked child.
 * - PARLOUR_IO: a system call failed. If it was the removal of a file, the name is free all the same.
 */
parlour_status parlour_hub_drain(parlour_hub *hub);

/**
 * Stores the numbers of the clients that have joined and not left in `clients`, an array of `capacity` elements, in
 * the order in which they joined. `clients` may be NULL if `capacity` is 0. Stores the number of clients in `*count`,
 * which may be NULL.
 *
 * Errors:
 * - PARLOUR_BUFFER_TOO_SMALL: there are more clients than `capacity`. Only `*count` was stored.
 */
parlour_status parlour_hub_clients(const parlour_hub *hub, uint64_t *clients, size_t capacity, size_t *count);

/**
 * Stores the identity of a client in `*peer`.
 *
 * Errors:
 * - PARLOUR_DISCONNECTED: the client has left.
 */
parlour_status parlour_hub_peer(const parlour_hub *hub, uint64_t client, parlour_peer *peer);

/**
 * Stores the other host that a client comes from in `*origin`, as parlour_connection_origin does for a connection.
 *
 * Errors:
 * - PARLOUR_DISCONNECTED: the client has left.
 */
parlour_status parlour_hub_origin(const parlour_hub *hub, uint64_t client, parlour_origin *origin);

/**
 * Returns the transport of a client, or PARLOUR_TRANSPORT_NONE for a client that has left and for NULL.
 */
parlour_transport parlour_hub_transport(const parlour_hub *hub, uint64_t client);

/**
 * Returns the number of bytes that the hub buffers for a client, four for each message included. Returns 0 for a
 * client that has left and for NULL.
 */
size_t parlour_hub_write_buffer_len(const parlour_hub *hub, uint64_t client);

/**
 * Stores the counts of clients in `*stats`. In a flood of refusals they include some for which there was no
 * PARLOUR_EVENT_REFUSED.
 */
parlour_status parlour_hub_stats(const parlour_hub *hub, parlour_stats *stats);

/**
 * Returns the number of attempts to connect that the hub refused for a reason, a number of enum
 * parlour_refusal_reason. Returns 0 for any other number and for NULL.
 */
uint64_t parlour_hub_refused_by(const parlour_hub *hub, int reason);

/**
 * Returns a descriptor that is readable when parlour_hub_next_event has something to do. Before each wait, also after
 * sending, call parlour_hub_next_event with a timeout of 0 until it returns PARLOUR_TIMED_OUT: it writes the buffered
 * messages. For waiting only. The hub owns it. Returns -1 for NULL.
 */
int parlour_hub_fd(const parlour_hub *hub);

/**
 * Returns the name of a hub, without transport and directory. The hub owns the string. Returns NULL for NULL.
 */
const char *parlour_hub_name(const parlour_hub *hub);

/**
 * Returns the path of the name's directory, in which clients find the hub. The hub owns the string. Returns NULL for
 * NULL.
 */
const char *parlour_hub_path(const parlour_hub *hub);

/**
 * Stores a handle in `*shutdown` with which any thread and any signal handler can make parlour_hub_next_event return
 * PARLOUR_SHUTDOWN, also while the hub waits for a slow client. The handle may outlive the hub. Free it with
 * parlour_shutdown_free.
 */
parlour_status parlour_hub_shutdown_handle(const parlour_hub *hub, parlour_shutdown **shutdown);

/**
 * Gives the name up, writes the buffered messages, ends every connection, and frees the hub in any case. Blocks up to
 * `timeout_ms` while clients do not read what was sent to them.
 *
 * Errors:
 * - PARLOUR_TIMED_OUT: some clients did not read all that was sent to them, and the rest is lost.
 * - PARLOUR_NAME_LOST: this is a forked child. The hub of the parent is not affected.
 * - PARLOUR_IO: a file of the server cannot be removed. The name is free all the same.
 */
parlour_status parlour_hub_close(parlour_hub *hub, int64_t timeout_ms);

/**
 * Does the same as parlour_hub_close with a timeout of 0, and reports no error. Does nothing for NULL.
 */
void parlour_hub_free(parlour_hub *hub);

/**
 * Sends one message to `count` clients, whose numbers are at `clients`. Clients that have left are passed over. Stores
 * the number of clients that did not get it in `*missed`, as parlour_hub_broadcast_payload does; it may be NULL.
 *
 * Errors: those of parlour_hub_broadcast_payload.
 */
parlour_status parlour_hub_send_to(parlour_hub *hub,
                                   const uint64_t *clients,
                                   size_t count,
                                   const parlour_payload *payload,
                                   size_t *missed);

/**
 * Sends one message to every client that has joined except this one. Stores the number of clients that did not get it
 * in `*missed`, as parlour_hub_broadcast_payload does; it may be NULL.
 *
 * Errors: those of parlour_hub_broadcast_payload.
 */
parlour_status parlour_hub_broadcast_except(parlour_hub *hub,
                                            uint64_t client,
                                            const parlour_payload *payload,
                                            size_t *missed);

/**
 * Subscribes a client to all topics that begin with `prefix`, a string; the empty string means all topics. The client
 * is sent the last value of each of them, if the hub keeps values (parlour_hub_options_kept_values). It gets each
 * message once, whatever number of its prefixes match. Does nothing for a client that has left.
 *
 * Errors:
 * - PARLOUR_BUSY: the client has as many subscriptions as it may have (parlour_hub_options_subscriptions_max).
 * - PARLOUR_SHUTDOWN: the hub was told to shut down while it waited, with PARLOUR_SLOW_CLIENT_WAIT.
 * - PARLOUR_NAME_LOST: this is a forked child.
 */
parlour_status parlour_hub_subscribe(parlour_hub *hub, uint64_t client, const char *prefix);

/**
 * Ends the subscription of a client to exactly this prefix. Does nothing if it has none.
 *
 * Errors:
 * - PARLOUR_NAME_LOST: this is a forked child.
 */
parlour_status parlour_hub_unsubscribe(parlour_hub *hub, uint64_t client, const char *prefix);

/**
 * Sends one message to every client that is subscribed to a prefix of `topic`, a string that the program chooses. The
 * topic is not part of the message. Stores the number of clients that did not get it in `*missed`, as
 * parlour_hub_broadcast_payload does; it may be NULL. The message becomes the last value of the topic, if the hub
 * keeps values.
 *
 * Errors: those of parlour_hub_broadcast_payload.
 */
parlour_status parlour_hub_publish(parlour_hub *hub, const char *topic, const parlour_payload *payload, size_t *missed);

/**
 * Forgets the last value of a topic, so that no new subscriber gets it.
 *
 * Errors:
 * - PARLOUR_NAME_LOST: this is a forked child.
 */
parlour_status parlour_hub_forget(parlour_hub *hub, const char *topic);

/**
 * Stores a new handle of a hub in `*handle`. Free it with parlour_hub_handle_free.
 *
 * Errors:
 * - PARLOUR_IO: no descriptor is available.
 * - PARLOUR_NAME_LOST: this is a forked child.
 */
parlour_status parlour_hub_handle_new(parlour_hub *hub, parlour_hub_handle **handle);

/**
 * Makes parlour_hub_next_event return PARLOUR_EVENT_WOKEN, also if it is called later. Several wakes before the hub
 * returns the event cause one event, and none is lost. Does nothing if the hub was freed, and for NULL. In a forked
 * child it wakes the hub of the parent. This function is async-signal-safe.
 */
void parlour_hub_wake(const parlour_hub_handle *handle);

/**
 * Queues one message for a client. Does nothing for a client that has left.
 *
 * Errors: those of parlour_payload, and:
 * - PARLOUR_TIMED_OUT: the queue is full (parlour_hub_options_handle_queue_max). Try again later.
 * - PARLOUR_MESSAGE_TOO_LONG: the message is longer than the limit.
 * - PARLOUR_UNSUPPORTED: the payload has descriptors.
 * - PARLOUR_SHUTDOWN: the hub was closed or freed.
 * - PARLOUR_NAME_LOST: this is a forked child.
 */
parlour_status parlour_hub_handle_send(const parlour_hub_handle *handle,
                                       uint64_t client,
                                       const parlour_payload *payload);

/**
 * Queues one message for `count` clients, whose numbers are at `clients`. Clients that have left are passed over.
 *
 * Errors: those of parlour_hub_handle_send.
 */
parlour_status parlour_hub_handle_send_to(const parlour_hub_handle *handle,
                                          const uint64_t *clients,
                                          size_t count,
                                          const parlour_payload *payload);

/**
 * Queues one message for every client that has joined when the hub delivers it.
 *
 * Errors: those of parlour_hub_handle_send.
 */
parlour_status parlour_hub_handle_broadcast(const parlour_hub_handle *handle, const parlour_payload *payload);

/**
 * Queues one message for every client that has joined when the hub delivers it, except this one.
 *
 * Errors: those of parlour_hub_handle_send.
 */
parlour_status parlour_hub_handle_broadcast_except(const parlour_hub_handle *handle,
                                                   uint64_t client,
                                                   const parlour_payload *payload);

/**
 * Queues one message for the clients that are subscribed to a prefix of `topic` when the hub delivers it, as
 * parlour_hub_publish does.
 *
 * Errors: those of parlour_hub_handle_send.
 */
parlour_status parlour_hub_handle_publish(const parlour_hub_handle *handle,
                                          const char *topic,
                                          const parlour_payload *payload);

/**
 * Frees a handle. The hub and other handles are not affected. Does nothing for NULL.
 */
void parlour_hub_handle_free(parlour_hub_handle *handle);

/**
 * Creates the options of a pool for frames of at most `frame_length_max` bytes, from 1 to 64 GiB, with the default
 * settings. Free them with parlour_frame_pool_options_free. Returns NULL if the library panics.
 */
parlour_frame_pool_options *parlour_frame_pool_options_new(size_t frame_length_max);

/**
 * Frees options. Does nothing for NULL. Pools that were created with them are not affected.
 */
void parlour_frame_pool_options_free(parlour_frame_pool_options *options);

/**
 * Sets the number of readers that can hold blocks at the same time, and the number of blocks that each can hold.
 * Defaults: 4 and 2. No reader, however it behaves, holds more than its share. Further readers get copies. The pool
 * has `readers` * `share` blocks, and those of parlour_frame_pool_options_own_blocks; at most 1024.
 */
parlour_status parlour_frame_pool_options_readers(parlour_frame_pool_options *options, size_t readers, size_t share);

/**
 * Sets the number of blocks that this process itself can hold at a time: the one that is being filled, and those of
 * the frames that it keeps. Default and minimum: 1.
 */
parlour_status parlour_frame_pool_options_own_blocks(parlour_frame_pool_options *options, size_t blocks);

/**
 * Sets the treatment of a reader that holds its share: a number of enum parlour_at_share. Default:
 * PARLOUR_AT_SHARE_BY_VALUE. `by_value_max` is the longest frame in bytes that is copied into a message; the limit on
 * messages of the connection applies as well. Default: 16 MiB.
 *
 * Errors:
 * - PARLOUR_INVALID_ARGUMENT: the number is not one of enum parlour_at_share. The options are as before.
 */
parlour_status parlour_frame_pool_options_at_share(parlour_frame_pool_options *options,
                                                   int at_share,
                                                   size_t by_value_max);

/**
 * Sets the maximum number of readers, and of readers of one user, those included that have ended their connection and
 * keep a frame. Each costs one descriptor. Defaults: 64, and as many for one user.
 */
parlour_status parlour_frame_pool_options_leases_max(parlour_frame_pool_options *options, size_t count, size_t per_uid);

/**
 * Admits readers of every user if `yes` is true. Default: only readers of the user of this process. A reader can read
 * the whole pool, also frames that were sent to others only. A user other than that of this process gets at most a
 * quarter of the shares, and unless parlour_frame_pool_options_leases_max says otherwise, of the leases.
 */
parlour_status parlour_frame_pool_options_any_user(parlour_frame_pool_options *options, bool yes);

/**
 * Creates a pool and stores it in `*pool`. Free it with parlour_frame_pool_free. All of its memory is allocated now,
 * and charged to this process.
 *
 * Errors:
 * - PARLOUR_INVALID_OPTION: an option is out of range, or the pool has more than 1024 blocks.
 * - PARLOUR_UNSUPPORTED: the kernel or a sandbox does not allow memfd_create(2).
 * - PARLOUR_IO: not enough memory or descriptors are available.
 */
parlour_status parlour_frame_pool_new(const parlour_frame_pool_options *options, parlour_frame_pool **pool);

/**
 * Returns the number of blocks of a pool, or 0 for NULL.
 */
size_t parlour_frame_pool_blocks(const parlour_frame_pool *pool);

/**
 * Returns a descriptor for poll(2). After parlour_frame_pool_loan with a timeout of 0 returned PARLOUR_TIMED_OUT, it
 * is readable (POLLIN) when a block may have been returned. It is for waiting only, and belongs to the pool: do not
 * read or close it. Returns -1 for NULL.
 */
int parlour_frame_pool_fd(const parlour_frame_pool *pool);

/**
 * Returns true if a message is one of a reader that asks to be admitted (parlour_frame_reader_attach). Returns false
 * for NULL.
 */
bool parlour_frame_pool_is_attach(const parlour_message *message);

/**
 * Admits a reader, whose message (parlour_frame_pool_is_attach) arrived over this connection, and stores its number in
 * `*reader`: from 1 up, never reused. Frees `message`, also when it fails, but not if a pointer is NULL.
 *
 * Errors: the reader is not admitted then, and the connection can still be used.
 * - PARLOUR_DENIED: the reader belongs to another user (parlour_frame_pool_options_any_user).
 * - PARLOUR_BUSY: there are as many readers as the options allow.
 * - PARLOUR_PROTOCOL: the message is another one, or its descriptors are not those of a reader. End the connection.
 * - PARLOUR_DISCONNECTED: the reader has ended already.
 * - PARLOUR_UNSUPPORTED: this is a forked child.
 * - PARLOUR_IO: a system call failed.
 */
parlour_status parlour_frame_pool_admit(parlour_frame_pool *pool,
                                        const parlour_connection *connection,
                                        parlour_message *message,
                                        uint64_t *reader);

/**
 * Admits a client of a hub as a reader, as parlour_frame_pool_admit does. A client that attaches again replaces its
 * earlier reader, which counts for the limits until the new one is admitted. `reader` may be NULL.
 *
 * Errors: those of parlour_frame_pool_admit. PARLOUR_BUSY also if a client attaches again while there are as many
 * readers as the options allow: remove its earlier reader before. PARLOUR_DISCONNECTED also if the client has left.
 */
parlour_status parlour_frame_pool_admit_client(parlour_frame_pool *pool,
                                               const parlour_hub *hub,
                                               uint64_t client,
                                               parlour_message *message,
                                               uint64_t *reader);

/**
 * Sends no further frames to a reader, whose connection has ended. The frames that it keeps remain valid, and its
 * blocks return when it frees them or dies. Does nothing for a reader that was removed, and for NULL.
 */
void parlour_frame_pool_remove(parlour_frame_pool *pool, uint64_t reader);

/**
 * Returns the number of blocks that a reader holds. Returns 0 for a reader that has ended or was removed, and for
 * NULL.
 */
size_t parlour_frame_pool_held_by(parlour_frame_pool *pool, uint64_t reader);

/**
 * Lends a block to be filled, and stores it in `*frame`: the next one in turn among those that nobody holds. Free it
 * with parlour_frame_free. Blocks up to `timeout_ms` while every block is held.
 *
 * Errors:
 * - PARLOUR_TIMED_OUT: every block was held until the deadline. If `timeout_ms` is 0, parlour_frame_pool_fd tells when
 *   to call again.
 * - PARLOUR_UNSUPPORTED: this is a forked child.
 * - PARLOUR_IO: a system call failed.
 */
parlour_status parlour_frame_pool_loan(parlour_frame_pool *pool, int64_t timeout_ms, parlour_frame **frame);

/**
 * Sends a frame to a reader over its connection, with a note: `note_length` bytes at `note` that arrive with it. The
 * first send ends the writing: from then on the frame must not be changed. The bytes of the frame are not copied, and
 * the reader holds the block until it frees the frame. The caller keeps the frame, may send it to further readers, and
 * frees it. `note` may be NULL if `note_length` is 0.
 *
 * `connection` must be the one over which the reader attached. Blocks up to `timeout_ms` while the channel is full,
 * and with PARLOUR_AT_SHARE_WAIT while the reader holds its share.
 *
 * Errors: those of parlour_send, and the frame counts as not sent then. And:
 * - PARLOUR_BUSY: the reader holds its share, with PARLOUR_AT_SHARE_REFUSE; or the frame would have to be copied and
 *   is longer than `by_value_max`.
 * - PARLOUR_DISCONNECTED: the reader has ended or was removed.
 * - PARLOUR_INVALID_ARGUMENT: the reader attached over a hub.
 * - PARLOUR_UNSUPPORTED: the frame belongs to another pool, or this is a forked child.
 */
parlour_status parlour_frame_pool_send(parlour_frame_pool *pool,
                                       uint64_t reader,
                                       parlour_connection *connection,
                                       parlour_frame *frame,
                                       const void *note,
                                       size_t note_length,
                                       int64_t timeout_ms);

/**
 * Sends a frame to a reader that is a client of this hub, as parlour_frame_pool_send does. The message is sent as
 * parlour_hub_send_payload sends one. `timeout_ms` limits the wait with PARLOUR_AT_SHARE_WAIT.
 *
 * Errors: those of parlour_hub_send_payload and parlour_frame_pool_send, and:
 * - PARLOUR_INVALID_ARGUMENT: the reader did not attach over this hub.
 * - PARLOUR_DISCONNECTED: the client has left. The reader is removed then.
 */
parlour_status parlour_frame_pool_send_client(parlour_frame_pool *pool,
                                              uint64_t reader,
                                              parlour_hub *hub,
                                              parlour_frame *frame,
                                              const void *note,
                                              size_t note_length,
                                              int64_t timeout_ms);

/**
 * Sends a frame to every reader that attached over this hub (parlour_frame_pool_admit_client), as
 * parlour_frame_pool_send_client does. Stores the number of readers that did not get it, because they hold their share
 * or do not read, in `*missed`, which may be NULL. Readers whose client has left are removed, and do not count. With
 * PARLOUR_AT_SHARE_WAIT the call waits for each reader in turn, up to `timeout_ms` in total.
 *
 * Errors: those of parlour_frame_pool_send_client but PARLOUR_BUSY, PARLOUR_TIMED_OUT and PARLOUR_DISCONNECTED. The
 * frame is sent to all other readers all the same, and the readers with an error count as missed.
 */
parlour_status parlour_frame_pool_broadcast(parlour_frame_pool *pool,
                                            parlour_hub *hub,
                                            parlour_frame *frame,
                                            const void *note,
                                            size_t note_length,
                                            int64_t timeout_ms,
                                            size_t *missed);

/**
 * Frees a pool. Frames that were sent remain readable. Does nothing for NULL.
 */
void parlour_frame_pool_free(parlour_frame_pool *pool);

/**
 * Returns the bytes of a frame, to be written. They are valid as long as the handle, and must not be written any more
 * once the frame is sent. Returns NULL for a frame that was sent, and for NULL.
 */
void *parlour_frame_buffer(parlour_frame *frame);

/**
 * Returns the bytes of a frame, to be read, also after it was sent. They are valid as long as the handle. Returns NULL
 * for NULL.
 */
const void *parlour_frame_data(const parlour_frame *frame);

/**
 * Returns the length of a frame in bytes, or 0 for NULL.
 */
size_t parlour_frame_length(const parlour_frame *frame);

/**
 * Shortens a frame to `length` bytes. Has no effect if it is not longer.
 *
 * Errors:
 * - PARLOUR_INVALID_ARGUMENT: the frame was sent.
 */
parlour_status parlour_frame_truncate(parlour_frame *frame, size_t length);

/**
 * Frees a frame. Its block can be filled again when every reader has returned it, and at once if it was not sent. Does
 * nothing for NULL.
 */
void parlour_frame_free(parlour_frame *frame);

/**
 * Asks the publisher at the other end of a connection to admit this process as a reader, and stores the new reader in
 * `*reader`. Free it with parlour_frame_reader_free. The publisher passes the message to parlour_frame_pool_admit.
 *
 * `frame_max` is the longest frame, and `bytes_max` the largest pool in bytes that this process maps; 0 stands for the
 * defaults, 256 MiB and 4 GiB. The frames of a larger pool arrive as copies. Blocks up to `timeout_ms` while the
 * channel is full.
 *
 * Errors: those of parlour_send_payload. PARLOUR_REFUSED if the publisher allows no descriptors, and
 * PARLOUR_UNSUPPORTED on `fifo`. And:
 * - PARLOUR_IO: no memory or no descriptor is available.
 */
parlour_status parlour_frame_reader_attach(parlour_connection *connection,
                                           uint64_t frame_max,
                                           uint64_t bytes_max,
                                           int64_t timeout_ms,
                                           parlour_frame_reader **reader);

/**
 * Trusts the publisher at the other end of this connection: from now on parlour_received_frame_data returns the bytes
 * of frames in the memory of the publisher, without a copy and without a check.
 *
 * The caller promises that neither the publisher nor a process that can write to its memory changes a block before
 * this reader has returned it: the pool of this library keeps to that, in a process without memory errors. The caller
 * also promises that each message that is opened was sent by this publisher to this reader, and is opened once. If a
 * promise is broken, the bytes may change while they are read. Reading them never raises a signal.
 *
 * Errors:
 * - PARLOUR_DENIED: the publisher runs neither as the user of this process nor as root. Its frames can be copied.
 * - PARLOUR_INVALID_ARGUMENT: it is trusted already.
 */
parlour_status parlour_frame_reader_trust_publisher(parlour_frame_reader *reader, const parlour_connection *connection);

/**
 * Returns true if a message is a frame, to be opened with parlour_frame_reader_open. Returns false for NULL. A message
 * of the program that begins with the bytes c0 04 00 00 or c0 05 00 00 may be taken for one.
 */
bool parlour_frame_reader_is_frame(const parlour_message *message);

/**
 * Makes a frame of a message of the publisher, and stores it in `*frame`. Free it with parlour_received_frame_free.
 * Frees `message`, also when it fails, but not if a pointer is NULL.
 *
 * Errors:
 * - PARLOUR_PROTOCOL: the message is not a frame, or the publisher broke the protocol. End the connection.
 * - PARLOUR_UNSUPPORTED: this is a forked child.
 * - PARLOUR_IO: the memory of the publisher could not be mapped, so this frame is lost. The next one attempts it
 *   again. Or no descriptor was available: attach again.
 */
parlour_status parlour_frame_reader_open(parlour_frame_reader *reader,
                                         parlour_message *message,
                                         parlour_received_frame **frame);

/**
 * Frees a reader. Frames that it has opened remain valid. Does nothing for NULL.
 */
void parlour_frame_reader_free(parlour_frame_reader *reader);

/**
 * Returns the length of a frame in bytes, or 0 for NULL.
 */
size_t parlour_received_frame_length(const parlour_received_frame *frame);

/**
 * Returns the note that was sent with a frame. The frame owns it. The pointer is not NULL even for an empty note.
 * Returns NULL for NULL.
 */
const void *parlour_received_frame_note(const parlour_received_frame *frame);

/**
 * Returns the length of the note of a frame in bytes, or 0 for NULL.
 */
size_t parlour_received_frame_note_length(const parlour_received_frame *frame);

/**
 * Returns true if a frame is in the memory of the publisher, and false if it arrived as a copy, and for NULL.
 */
bool parlour_received_frame_is_lent(const parlour_received_frame *frame);

/**
 * Copies a frame into a buffer of `size` bytes, and checks that the publisher did not change it meanwhile, unless the
 * publisher is trusted. Stores the length of the frame in `*length`. `buffer` may be NULL if `size` is 0.
 *
 * Errors: the buffer has unspecified content then, except after the first one.
 * - PARLOUR_BUFFER_TOO_SMALL: the frame is longer than `size`. `*length` is its length, and the buffer is unchanged.
 * - PARLOUR_PROTOCOL: the publisher changed the block before this frame was freed, so the copy may be torn.
 * - PARLOUR_UNSUPPORTED: this is a forked child.
 */
parlour_status parlour_received_frame_copy(const parlour_received_frame *frame,
                                           void *buffer,
                                           size_t size,
                                           size_t *length);

/**
 * Returns the bytes of a frame in place, if the publisher is trusted (parlour_frame_reader_trust_publisher). They are
 * valid as long as the handle. Writing to them raises SIGSEGV. Returns NULL if the publisher was not trusted when the
 * frame was opened, and for NULL.
 */
const void *parlour_received_frame_data(const parlour_received_frame *frame);

/**
 * Frees a frame, and returns its block to the publisher. Any thread may do this. Does nothing for NULL.
 */
void parlour_received_frame_free(parlour_received_frame *frame);

/**
 * Sets how many bytes of items are kept for one stream of a caller and not taken yet. Each item counts 64 bytes more
 * than its length, and the first one is always kept. Default 1 MiB. If more arrive, the stream ends with PARLOUR_BUSY
 * after those that are kept. For parlour_caller_connect and parlour_caller_new.
 */
parlour_status parlour_connect_options_stream_buffer_max(parlour_connect_options *options, size_t bytes);

/**
 * Sets how many bytes of pushed messages a caller keeps that are not taken yet. Each message counts 64 bytes more than
 * its length, and the newest one is always kept. Default 1 MiB. The oldest ones are dropped and counted. For
 * parlour_caller_connect and parlour_caller_new.
 */
parlour_status parlour_connect_options_push_buffer_max(parlour_connect_options *options, size_t bytes);

/**
 * Connects to the server that holds a name, and stores a caller in `*caller`. Free it with parlour_caller_free.
 *
 * `address` and `options` are as for parlour_connect. `options` may be NULL for the defaults.
 *
 * Errors: those of parlour_connect, and:
 * - PARLOUR_IO: no descriptor is available. A caller takes one beside those of its connection.
 */
parlour_status parlour_caller_connect(const char *address,
                                      const parlour_connect_options *options,
                                      parlour_caller **caller);

/**
 * Makes calls over a connection on which nothing was sent and received, such as that of parlour_connection_from_env,
 * and stores a caller in `*caller`. Free it with parlour_caller_free. Takes the connection, which must not be used or
 * freed any more. Of `options`, only those of callers apply; NULL stands for the defaults.
 *
 * Errors: after PARLOUR_NULL_POINTER and PARLOUR_UNSUPPORTED the connection is as before, and otherwise it was freed.
 * - PARLOUR_UNSUPPORTED: the connection was split, or belongs to a session.
 * - PARLOUR_DISCONNECTED: the server has ended the connection.
 * - PARLOUR_IO: no descriptor is available.
 */
parlour_status parlour_caller_new(parlour_connection *connection,
                                  const parlour_connect_options *options,
                                  parlour_caller **caller);

/**
 * Sends a request of `length` bytes at `data`, waits for the answer, and stores a handle of it in `*answer`. Free it
 * with parlour_message_free. Any number of threads may call at the same time.
 *
 * `timeout_ms` includes the wait for the channel to take the request. After it the server is told that the answer is
 * not wanted any more, and an answer that arrives nevertheless is dropped. The server may have executed the request. A
 * timeout of 0 is too short for any answer.
 *
 * Errors: none but the last four ends the connection.
 * - PARLOUR_TIMED_OUT: no answer has arrived. The text says so if no request was sent.
 * - PARLOUR_CALL_FAILED: the server answered with an error, or dropped the call. parlour_error_failure() is its text.
 * - PARLOUR_BUSY: the server has as many open calls of this client, or as many bytes of their requests, as it allows.
 *   It did not begin this one. Call again later.
 * - PARLOUR_MESSAGE_TOO_LONG: the request, with its header of 8 bytes, is longer than the limit.
 * - PARLOUR_UNSUPPORTED: the server answered with several messages. Use parlour_caller_call_stream.
 * - PARLOUR_NAME_LOST: this is a forked child.
 * - PARLOUR_DISCONNECTED, PARLOUR_TRUNCATED: the server has gone. It may have executed the request.
 * - PARLOUR_PROTOCOL: the server does not answer calls, or broke the protocol.
 * - PARLOUR_REFUSED: the server did not admit this client.
 * - PARLOUR_IO: a system call failed.
 */
parlour_status parlour_caller_call(const parlour_caller *caller,
                                   const void *data,
                                   size_t length,
                                   int64_t timeout_ms,
                                   parlour_message **answer);

/**
 * Calls as parlour_caller_call does, with a request of bytes in one part or in several, and descriptors or shared
 * blocks. See parlour_payload. The server gets them with parlour_call_take_request.
 *
 * Errors: those of parlour_caller_call, parlour_payload and parlour_send_payload.
 */
parlour_status parlour_caller_call_payload(const parlour_caller *caller,
                                           const parlour_payload *payload,
                                           int64_t timeout_ms,
                                           parlour_message **answer);

/**
 * Sends a request of `length` bytes at `data` that has several answers, and stores a handle of them in `*stream`. Free
 * it with parlour_call_stream_free. Blocks up to `timeout_ms` until the request is sent, and for the first call until
 * the server has said that it answers calls.
 *
 * Errors: those of parlour_caller_call that concern the request. After PARLOUR_TIMED_OUT nothing was sent.
 */
parlour_status parlour_caller_call_stream(const parlour_caller *caller,
                                          const void *data,
                                          size_t length,
                                          int64_t timeout_ms,
                                          parlour_call_stream **stream);

/**
 * Waits up to `timeout_ms` for the next answer, and stores a handle of it in `*answer`. Free it with
 * parlour_message_free. A server that gives one answer gives a stream of one.
 *
 * Returns PARLOUR_OK, or PARLOUR_END after the last answer; `*answer` is then NULL.
 *
 * Errors: those of parlour_caller_call. All but PARLOUR_TIMED_OUT end the stream: PARLOUR_END follows.
 * - PARLOUR_TIMED_OUT: no answer has arrived. A later call returns it.
 * - PARLOUR_BUSY: more answers have arrived than are kept (parlour_connect_options_stream_buffer_max).
 */
parlour_status parlour_call_stream_next(parlour_call_stream *stream, int64_t timeout_ms, parlour_message **answer);

/**
 * Frees a stream. If it has not ended, the server is told that no more answers are wanted. Never blocks. Does nothing
 * for NULL. A stream keeps the connection of its caller open, and may be freed after the caller.
 */
void parlour_call_stream_free(parlour_call_stream *stream);

/**
 * Waits up to `timeout_ms` for the next message that the server has pushed, which answers no call, and stores a handle
 * of it in `*message`. Free it with parlour_message_free. Pushed messages that arrive during calls are kept
 * (parlour_connect_options_push_buffer_max).
 *
 * Returns PARLOUR_OK, or PARLOUR_END when the server has ended the connection; `*message` is then NULL.
 *
 * Errors: those of parlour_recv, and:
 * - PARLOUR_PROTOCOL: the server does not answer calls, or broke the protocol.
 * - PARLOUR_NAME_LOST: this is a forked child.
 */
parlour_status parlour_caller_next_push(const parlour_caller *caller, int64_t timeout_ms, parlour_message **message);

/**
 * Stores the counts of a caller in `*stats`. They are 0 in a forked child.
 */
parlour_status parlour_caller_stats(const parlour_caller *caller, parlour_call_stats *stats);

/**
 * Stores the identity of the server in `*peer`.
 */
parlour_status parlour_caller_peer(const parlour_caller *caller, parlour_peer *peer);

/**
 * Returns the transport of the connection, or PARLOUR_TRANSPORT_NONE for NULL.
 */
parlour_transport parlour_caller_transport(const parlour_caller *caller);

/**
 * Frees a caller, and ends its connection unless streams are left. Does nothing for NULL. No thread may be in a call:
 * let them end first.
 */
void parlour_caller_free(parlour_caller *caller);

/**
 * Sets the number of calls that one client of a server of calls may have open. A further request is answered with
 * PARLOUR_BUSY. Default 256; at least 1. Other servers are not affected.
 */
parlour_status parlour_server_options_calls_max(parlour_server_options *options, size_t count);

/**
 * Sets the number of bytes of the requests of one client of a server of calls that are open. A further request is
 * answered with PARLOUR_BUSY. A client without another call may send the longest message. Default 16 MiB. Other
 * servers are not affected.
 */
parlour_status parlour_server_options_request_bytes_max(parlour_server_options *options, size_t bytes);

/**
 * Takes the name of an address, listens, and stores the new server of calls in `*server`. Free it with
 * parlour_call_server_close or parlour_call_server_free. `address` and `options` are as for parlour_server_bind.
 * `options` may be NULL for the defaults.
 *
 * Errors: those of parlour_server_bind.
 */
parlour_status parlour_call_server_bind(const char *address,
                                        const parlour_server_options *options,
                                        parlour_call_server **server);

/**
 * Serves calls on the sockets that a service manager passed to this process, and stores the new server in `*server`.
 * `fd_name` and `options` are as for parlour_server_bind_listen_fds.
 *
 * Errors: those of parlour_server_bind_listen_fds.
 */
parlour_status parlour_call_server_bind_listen_fds(const char *fd_name,
                                                   const parlour_server_options *options,
                                                   parlour_call_server **server);

/**
 * Waits up to `timeout_ms` for the next request of any client, and stores a handle of it in `*call`. Answer it with
 * parlour_call_reply, parlour_call_end or parlour_call_fail, which free it, or free it with parlour_call_free.
 *
 * The server works only inside this function: it admits clients, and it sends the answers and pushed messages. Work
 * that takes long belongs into other threads. A client that breaks the protocol, or does not call but sends other
 * messages, is disconnected.
 *
 * Errors: `*call` is then NULL.
 * - PARLOUR_TIMED_OUT: no request has arrived.
 * - PARLOUR_SHUTDOWN: the server was told to shut down (parlour_call_server_shutdown_handle). No request is begun any
 *   more. Close the server.
 * - PARLOUR_HANDED_OVER: another process has taken the name over, and every client has left, or 30 s have passed.
 *   Close the server.
 * - PARLOUR_NAME_LOST: the server's files were removed or replaced, so that new clients do not find it; the present
 *   clients can still be served. Or this is a forked child.
 * - PARLOUR_IO: a system call failed.
 */
parlour_status parlour_call_server_next(parlour_call_server *server, int64_t timeout_ms, parlour_call **call);

/**
 * Returns a descriptor that is readable when parlour_call_server_next has something to do. Before each wait, call
 * parlour_call_server_next with a timeout of 0 until it returns PARLOUR_TIMED_OUT: it sends the answers. For waiting
 * only. The server owns it. Returns -1 for NULL.
 */
int parlour_call_server_fd(const parlour_call_server *server);

/**
 * Returns the name of a server, without transport and directory. The server owns the string. Returns NULL for NULL.
 */
const char *parlour_call_server_name(const parlour_call_server *server);

/**
 * Returns the path of the name's directory, in which clients find the server. The server owns the string. Returns
 * NULL for NULL.
 */
const char *parlour_call_server_path(const parlour_call_server *server);

/**
 * Stores the counts of clients in `*stats`.
 */
parlour_status parlour_call_server_stats(const parlour_call_server *server, parlour_stats *stats);

/**
 * Stores a handle in `*shutdown` with which any thread and any signal handler can make parlour_call_server_next return
 * PARLOUR_SHUTDOWN. It may outlive the server. Free it with parlour_shutdown_free.
 */
parlour_status parlour_call_server_shutdown_handle(const parlour_call_server *server, parlour_shutdown **shutdown);

/**
 * Ends a server, and frees it in any case. No request is begun any more. Waits up to `timeout_ms` for the calls that
 * other threads have, and for clients that do not read their answers, and ends every connection. The calls that are
 * left are cancelled. They must still be freed. Answer or free the calls of this thread before, because nobody else
 * can.
 *
 * Errors:
 * - PARLOUR_TIMED_OUT: some clients did not read all that was sent to them, and the rest is lost.
 * - PARLOUR_NAME_LOST: this is a forked child. The server of the parent is not affected.
 * - PARLOUR_IO: a file of the server cannot be removed. The name is free all the same.
 */
parlour_status parlour_call_server_close(parlour_call_server *server, int64_t timeout_ms);

/**
 * Ends a server without waiting, and frees it. Calls that are open are cancelled, and answers that a full channel does
 * not take are lost. Does nothing for NULL.
 */
void parlour_call_server_free(parlour_call_server *server);

/**
 * Stores a new pusher of a server in `*pusher`. Free it with parlour_pusher_free.
 */
parlour_status parlour_pusher_new(const parlour_call_server *server, parlour_pusher **pusher);

/**
 * Sends one message to the client with this number (parlour_call_client): the `length` bytes at `data`. Does not
 * block: the message is queued. A client that has left misses it, which is not an error. A client that takes its
 * messages so slowly that more than 1 MiB waits for it is disconnected.
 *
 * Errors:
 * - PARLOUR_BUSY: more than 1 MiB of pushed messages waits for parlour_call_server_next. Push again later.
 * - PARLOUR_MESSAGE_TOO_LONG: the message, with its header of 8 bytes, is longer than the limit.
 * - PARLOUR_SHUTDOWN: the server has ended.
 * - PARLOUR_NAME_LOST: this is a forked child.
 */
parlour_status parlour_pusher_push(const parlour_pusher *pusher, uint64_t client, const void *data, size_t length);

/**
 * Sends one message to every client, as parlour_pusher_push does.
 *
 * Errors: those of parlour_pusher_push.
 */
parlour_status parlour_pusher_push_all(const parlour_pusher *pusher, const void *data, size_t length);

/**
 * Frees a pusher. The server and other pushers are not affected. Does nothing for NULL.
 */
void parlour_pusher_free(parlour_pusher *pusher);

/**
 * Returns the bytes of a request. The call owns them. The pointer is not NULL even for an empty request. Returns NULL
 * for NULL.
 */
const void *parlour_call_data(const parlour_call *call);

/**
 * Returns the length of a request in bytes, or 0 for NULL.
 */
size_t parlour_call_length(const parlour_call *call);

/**
 * Takes the request out of a call, with its descriptors, and stores a handle of it in `*request`. Free it with
 * parlour_message_free. An empty request stays in the call.
 */
parlour_status parlour_call_take_request(parlour_call *call, parlour_message **request);

/**
 * Returns the number of the client that calls, which is unique within the server, for parlour_pusher_push. Returns 0
 * for NULL.
 */
uint64_t parlour_call_client(const parlour_call *call);

/**
 * Stores the identity of the client in `*peer`.
 */
parlour_status parlour_call_peer(const parlour_call *call, parlour_peer *peer);

/**
 * Returns true if nobody waits for the answer any more: the call has timed out or was given up, or the client has
 * gone. A thread that works long looks from time to time. Returns false for NULL.
 */
bool parlour_call_is_cancelled(const parlour_call *call);

/**
 * Waits up to `timeout_ms` until nobody waits for the answer any more. Several threads may wait for the same call.
 *
 * Errors:
 * - PARLOUR_TIMED_OUT: the caller still waits.
 * - PARLOUR_BUSY: this thread was the last one that called parlour_call_server_next, and would not learn of it.
 * - PARLOUR_NAME_LOST: this is a forked child.
 */
parlour_status parlour_call_wait_cancelled(const parlour_call *call, int64_t timeout_ms);

/**
 * Answers with one of several messages: the `length` bytes at `data`. The call stays open; parlour_call_end ends the
 * answers. Blocks up to `timeout_ms` while more than 1 MiB of items waits for the client. Several threads may send
 * items of the same call.
 *
 * Errors: nothing was sent, and the call is still open.
 * - PARLOUR_TIMED_OUT: the client takes the items too slowly.
 * - PARLOUR_BUSY: the client takes the items too slowly, and this thread was the last one that called
 *   parlour_call_server_next, which must not wait for a client. Send many items from another thread.
 * - PARLOUR_DISCONNECTED: nobody waits for the answer any more, as after parlour_call_is_cancelled.
 * - PARLOUR_MESSAGE_TOO_LONG: the message, with its header of 8 bytes, is longer than the limit.
 * - PARLOUR_SHUTDOWN: the server has ended.
 * - PARLOUR_NAME_LOST: this is a forked child.
 */
parlour_status parlour_call_item(const parlour_call *call, const void *data, size_t length, int64_t timeout_ms);

/**
 * Answers a call with one message, the `length` bytes at `data`, and frees it in any case. Does not block: the message
 * is queued.
 *
 * Errors: the call fails at its caller, if it still waits.
 * - PARLOUR_DISCONNECTED: nobody waits for the answer any more.
 * - PARLOUR_MESSAGE_TOO_LONG: the message, with its header of 8 bytes, is longer than the limit.
 * - PARLOUR_SHUTDOWN: the server has ended.
 * - PARLOUR_NAME_LOST: this is a forked child.
 */
parlour_status parlour_call_reply(parlour_call *call, const void *data, size_t length);

/**
 * Ends the answers that parlour_call_item has sent, and frees the call in any case. Does not block.
 *
 * Errors: those of parlour_call_reply.
 */
parlour_status parlour_call_end(parlour_call *call);

/**
 * Answers a call with an error, and frees it in any case. The caller gets PARLOUR_CALL_FAILED and this text. A text
 * that is longer than a message may be is cut. Does not block.
 *
 * Errors: those of parlour_call_reply.
 */
parlour_status parlour_call_fail(parlour_call *call, const char *text);

/**
 * Frees a call. It fails at its caller. In a forked child the parent's call is not affected. Does nothing for NULL.
 */
void parlour_call_free(parlour_call *call);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* PARLOUR_H */
