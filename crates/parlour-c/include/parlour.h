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
 *   A signal handler may call parlour_server_shutdown, parlour_shutdown_ask and parlour_status_name, which are
 *   async-signal-safe. It must not call any other function of this header. A signal does not interrupt a call: the
 *   call goes on, with the time that is left. The library raises no signal (not even SIGPIPE), and changes no
 *   disposition and no mask.
 *
 * Fork
 *   In a forked child, servers and hubs return PARLOUR_NAME_LOST; freeing them there does not affect the parent. Every
 *   call returns there, also if another thread used the server at the moment of the fork.
 *   Only one of the two processes may use a connection, and the other one must free its handle. A connection that was
 *   not split stays open until both processes have freed it. The parent sends what was buffered before the fork; flush
 *   before forking.
 *
 * Callbacks
 *   A function of the caller (parlour_allow, parlour_fill) must return normally. It must not throw an exception or call
 *   longjmp(3).
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
   * A client has connected and was admitted. Fields: `client`, `peer`.
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
   * A client was refused before it joined. Fields: `refusal`, `text`, and `peer`, as far as it was known.
   */
  PARLOUR_EVENT_REFUSED = 5,
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
 * Settings of a client. Values are checked when they are used: a value outside its range makes parlour_connect return
 * PARLOUR_INVALID_OPTION.
 */
typedef struct parlour_connect_options parlour_connect_options;

/**
 * A connection, or one direction of it (parlour_connection_split). One thread at a time may use it.
 */
typedef struct parlour_connection parlour_connection;

/**
 * A hub: it holds a name and serves all clients in the thread that calls it. One thread at a time may use it.
 */
typedef struct parlour_hub parlour_hub;

/**
 * Settings of a hub, besides those of its server.
 */
typedef struct parlour_hub_options parlour_hub_options;

/**
 * One received message, whole, as the peer sent it. It may be empty.
 */
typedef struct parlour_message parlour_message;

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
 * A function of the caller that decides about a client: returns true to admit it. It is called once for each client,
 * in the thread that accepts, with the `user` of parlour_server_options_allow. `peer` is valid during the call. It
 * must return normally, and must not accept clients of the same server.
 */
typedef bool (*parlour_allow)(const parlour_peer *peer, void *user);

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
} parlour_stats;

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
} parlour_event;

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
 * - PARLOUR_UNSUPPORTED: the connection is a half already.
 */
parlour_status parlour_connection_split(parlour_connection *connection,
                                        parlour_connection **sending,
                                        parlour_connection **receiving);

/**
 * Stores the identity of the peer in `*peer`. Does not block. `*peer` holds no resources.
 */
parlour_status parlour_connection_peer(const parlour_connection *connection, parlour_peer *peer);

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
 * Ends a connection without blocking, and frees it. Buffered messages that a full channel does not take are lost.
 * Does nothing for NULL.
 */
void parlour_connection_free(parlour_connection *connection);

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
 * - PARLOUR_SHUTDOWN: the hub was told to shut down. Every later call returns the same.
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
 * Sends one message to a client as parlour_hub_send does: bytes in one part or in several. See parlour_payload.
 *
 * Errors: those of parlour_hub_send and parlour_payload, and:
 * - PARLOUR_UNSUPPORTED: the payload has descriptors or shared blocks, which a hub does not send.
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
 * Sends one message to every client that has joined, as parlour_hub_broadcast does: bytes in one part or in several.
 * See parlour_payload.
 *
 * Errors: those of parlour_hub_broadcast and parlour_payload, and:
 * - PARLOUR_UNSUPPORTED: the payload has descriptors or shared blocks, which a hub does not send.
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

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* PARLOUR_H */
