/*
 * Local messaging by name: a server takes a name, clients find it, each gets a private two-way channel of messages.
 * Link with -lparlour. Generated from the source of the library; `make install` puts it where it belongs.
 *
 * What holds for every function, and is not said again:
 *
 *   - Handles are opaque. What ..._new, _bind, _accept, _connect, _recv and the like give is the caller's until it
 *     goes to the ..._free of its kind (or _close, _split, which take it too). ..._free takes NULL. Nothing that
 *     was freed may be used.
 *   - Functions that can fail give a parlour_status. parlour_error_message() has the sentence. Results go to the
 *     last pointers; a handle is NULL, a count 0 there after a failure. A call has done what it says, or nothing.
 *   - A pointer that is NULL and must not be gives PARLOUR_NULL_POINTER; where NULL is allowed it is said. Any
 *     other pointer must be valid: a live handle of that kind, a string that ends with a zero byte, so many bytes.
 *     What is given by a pointer is only used during the call.
 *   - Any thread may use any handle, one at a time. Many at once may call those functions that take it as a
 *     pointer to const, while nobody calls another one.
 *   - Timeouts are in milliseconds. Less than 0 is for ever, 0 is not at all.
 *   - Signals do not interrupt a call: it goes on. In a handler only parlour_server_shutdown and
 *     parlour_shutdown_ask may be called. No signal is raised, and no disposition is changed.
 *   - After fork(2) servers and hubs are the parent's: in the child they give PARLOUR_NAME_LOST, and freeing them
 *     there leaves the name alone. Connections go on in either process, if the other one frees them. Flush before.
 *   - Functions of the caller's (parlour_allow, parlour_fill) return: they neither throw nor jump.
 */


#ifndef PARLOUR_H
#define PARLOUR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/**
 * What has become of a call. Numbers are never reused; new ones may be added, so a `switch` needs a `default`.
 */
typedef enum {
  /**
   * It has done what it says.
   */
  PARLOUR_OK = 0,
  /**
   * The other side sends no more, and everything that it sent was received. Not a failure: there is no message
   * for it.
   */
  PARLOUR_END = 1,
  /**
   * A pointer that must not be NULL is.
   */
  PARLOUR_NULL_POINTER = 2,
  /**
   * A value has no meaning, or a string is not UTF-8.
   */
  PARLOUR_INVALID_ARGUMENT = 3,
  /**
   * The caller's memory is too small for the result, which is kept for the next call.
   */
  PARLOUR_BUFFER_TOO_SMALL = 4,
  /**
   * A bug in the library: it has panicked, and that was caught. The handle may be unusable; free it.
   */
  PARLOUR_INTERNAL = 5,
  /**
   * An address or a name is not well formed.
   */
  PARLOUR_INVALID_NAME = 16,
  /**
   * An option has a value that cannot be used.
   */
  PARLOUR_INVALID_OPTION = 17,
  /**
   * A live server holds the name.
   */
  PARLOUR_NAME_IN_USE = 18,
  /**
   * The server's files were removed or replaced by somebody else, or the server was carried into a forked child.
   */
  PARLOUR_NAME_LOST = 19,
  /**
   * Nobody serves the name.
   */
  PARLOUR_NO_SERVER = 20,
  /**
   * The other side answered, and said no.
   */
  PARLOUR_REFUSED = 21,
  /**
   * The system, or a check of the other side's identity, does not permit it.
   */
  PARLOUR_DENIED = 22,
  /**
   * The server is there but had no room until the deadline.
   */
  PARLOUR_BUSY = 23,
  /**
   * The time is over. What was being received stays with the connection; what was being sent was not sent.
   */
  PARLOUR_TIMED_OUT = 24,
  /**
   * The other side has gone.
   */
  PARLOUR_DISCONNECTED = 25,
  /**
   * The other side went in the middle of a message.
   */
  PARLOUR_TRUNCATED = 26,
  /**
   * A message is longer than the limit.
   */
  PARLOUR_MESSAGE_TOO_LONG = 27,
  /**
   * The other side broke the protocol.
   */
  PARLOUR_PROTOCOL = 28,
  /**
   * A value could not be made a message, or a message not a value. (No function of this library says so yet.)
   */
  PARLOUR_ENCODING = 29,
  /**
   * A directory's owner, mode or type lets somebody else interfere.
   */
  PARLOUR_UNSAFE_DIRECTORY = 30,
  /**
   * This transport, platform or state cannot do it.
   */
  PARLOUR_UNSUPPORTED = 31,
  /**
   * The server was told to shut down.
   */
  PARLOUR_SHUTDOWN = 32,
  /**
   * Any other failure of a system call.
   */
  PARLOUR_IO = 33,
} parlour_status;

/**
 * What stands behind a statement about the peer, from nothing to proof.
 */
typedef enum {
  /**
   * Nothing: it is not known.
   */
  PARLOUR_PROVENANCE_UNKNOWN = 0,
  /**
   * The peer itself, or a file that it wrote. For people, never for a decision.
   */
  PARLOUR_PROVENANCE_CLAIM = 1,
  /**
   * The process was seen to hold the other end. It can hand that end on, so it is for people too.
   */
  PARLOUR_PROVENANCE_VERIFIED = 2,
  /**
   * The owner of the file through which the peer came.
   */
  PARLOUR_PROVENANCE_FILE_OWNER = 3,
  /**
   * The kernel noted it when the connection was made.
   */
  PARLOUR_PROVENANCE_KERNEL = 4,
} parlour_provenance;

/**
 * A way for messages between two processes of one machine. Addresses name it: "fifo:name".
 */
typedef enum {
  /**
   * None, or one that this header does not know.
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
   * A SOCK_STREAM socket: spoken by programs in any language.
   */
  PARLOUR_TRANSPORT_UNIX = 3,
  /**
   * A pair of FIFOs for each client. For one user only.
   */
  PARLOUR_TRANSPORT_FIFO = 4,
} parlour_transport;

/**
 * What has happened.
 */
typedef enum {
  /**
   * Nothing: the call failed, or the time was over.
   */
  PARLOUR_EVENT_NONE = 0,
  /**
   * A client has connected and was let in: `client`, `peer`.
   */
  PARLOUR_EVENT_JOINED = 1,
  /**
   * A client has sent a message: `client`, `message`, which is the caller's to free.
   */
  PARLOUR_EVENT_MESSAGE = 2,
  /**
   * A client sends no more, and still receives: `client`. Call parlour_hub_finish when there is nothing more for
   * it.
   */
  PARLOUR_EVENT_FINISHED = 3,
  /**
   * A client's connection has ended: `client`, `why`, `status`, `text`.
   */
  PARLOUR_EVENT_LEFT = 4,
  /**
   * A client was turned away before it joined: `peer`, as far as it was known, `text`.
   */
  PARLOUR_EVENT_REFUSED = 5,
} parlour_event_kind;

/**
 * Why a client has left.
 */
typedef enum {
  /**
   * It has not; or for a reason that this header does not know.
   */
  PARLOUR_DISCONNECT_NONE = 0,
  /**
   * It has closed its connection, or its process has ended, or both sides have finished.
   */
  PARLOUR_DISCONNECT_CLOSED = 1,
  /**
   * parlour_hub_disconnect was called.
   */
  PARLOUR_DISCONNECT_DISCONNECTED = 2,
  /**
   * It did not take what was sent to it.
   */
  PARLOUR_DISCONNECT_SLOW = 3,
  /**
   * Its connection has failed: `status` and `text` say how.
   */
  PARLOUR_DISCONNECT_FAILED = 4,
} parlour_disconnect_reason;

/**
 * What happens when more than write_buffer_max would wait to be sent to a client of a hub.
 */
typedef enum {
  /**
   * The client is disconnected. The default.
   */
  PARLOUR_SLOW_CLIENT_DISCONNECT = 0,
  /**
   * The message is refused: PARLOUR_BUSY, or for a broadcast the client is among those who did not get it.
   */
  PARLOUR_SLOW_CLIENT_REFUSE = 1,
  /**
   * The hub waits until there is room, so long; then the client is disconnected.
   */
  PARLOUR_SLOW_CLIENT_WAIT = 2,
} parlour_slow_client_policy;

/**
 * What a unix server makes of the file that a client of its own user binds for itself.
 */
typedef enum {
  /**
   * A client may come without one; one that has a file must have a proper one. The default.
   */
  PARLOUR_CLIENT_FILE_CHECK = 0,
  /**
   * Only clients with a proper file come in.
   */
  PARLOUR_CLIENT_FILE_REQUIRE = 1,
  /**
   * The file is removed and not looked at.
   */
  PARLOUR_CLIENT_FILE_IGNORE = 2,
} parlour_client_file;

/**
 * How a client is to connect.
 */
typedef struct parlour_connect_options parlour_connect_options;

/**
 * A connection, or one direction of it. One thread at a time may use it.
 */
typedef struct parlour_connection parlour_connection;

/**
 * Holds a name and serves all clients that come, in the thread that calls it.
 */
typedef struct parlour_hub parlour_hub;

/**
 * How a hub is to be, beyond its server.
 */
typedef struct parlour_hub_options parlour_hub_options;

/**
 * One whole message, which may be empty.
 */
typedef struct parlour_message parlour_message;

/**
 * Holds a name. Any number of threads may accept at once.
 */
typedef struct parlour_server parlour_server;

/**
 * How a server is to be.
 */
typedef struct parlour_server_options parlour_server_options;

/**
 * A block of bytes that never changes, in memory that is handed on by its descriptor.
 */
typedef struct parlour_shared parlour_shared;

/**
 * Makes a server, or a hub, stop waiting; from any thread, any process that was forked, and a signal handler.
 */
typedef struct parlour_shutdown parlour_shutdown;

/**
 * Who is at the other end. What is not known is -1, and never 0. Base decisions on the user and group; a process
 * id names a process for people, and may belong to another one by the time it is read.
 */
typedef struct {
  /**
   * The process.
   */
  int64_t pid;
  /**
   * The effective user.
   */
  int64_t uid;
  /**
   * The effective group.
   */
  int64_t gid;
  /**
   * What vouches for the process.
   */
  parlour_provenance pid_provenance;
  /**
   * What vouches for the user.
   */
  parlour_provenance uid_provenance;
  /**
   * What vouches for the group.
   */
  parlour_provenance gid_provenance;
} parlour_peer;

/**
 * Who may connect: called once for each client, in the thread that accepts, with what was given for `user`.
 */
typedef bool (*parlour_allow)(const parlour_peer *peer, void *user);

/**
 * Writes a block in place: `length` bytes at `data`, zeros at first. It must return.
 */
typedef void (*parlour_fill)(void *data, size_t length, void *user);

/**
 * What a connection can do.
 */
typedef struct {
  /**
   * The longest message that this side sends or takes, in bytes.
   */
  size_t message_max;
  /**
   * The kernel itself keeps messages apart; otherwise framing does.
   */
  bool boundaries;
  /**
   * Open descriptors can be sent along, where the other side allows some.
   */
  bool descriptors;
  /**
   * The kernel vouches for who the peer is; otherwise the owner of its files does.
   */
  bool credentials;
  /**
   * Shared blocks can be sent, where the other side allows descriptors.
   */
  bool zero_copy;
} parlour_capabilities;

/**
 * One event. `kind` says which of the others have a meaning.
 */
typedef struct {
  /**
   * What has happened.
   */
  parlour_event_kind kind;
  /**
   * Why a client has left.
   */
  parlour_disconnect_reason why;
  /**
   * What was wrong with a connection that failed.
   */
  parlour_status status;
  /**
   * Which client: a number that is never given to another, from 1. 0 is nobody.
   */
  uint64_t client;
  /**
   * What it has sent. To be freed with parlour_message_free.
   */
  parlour_message *message;
  /**
   * Who it is.
   */
  parlour_peer peer;
  /**
   * The same for people, or NULL. It is the hub's, and valid until the next event is asked for.
   */
  const char *text;
} parlour_event;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * A few words for a status, such as "name in use"; "unknown status" for a number that is none. Never NULL, never
 * to be freed.
 */
const char *parlour_status_name(int32_t status);

/**
 * What went wrong in the last call of this thread that failed: one sentence that names the operation, the object,
 * the reason and, where there is one, the next step. "" when none has failed. It is the library's, and valid until
 * the next call of this thread that fails. Never NULL. Not for signal handlers.
 */
const char *parlour_error_message(void);

/**
 * The `errno` of the system call behind the last failure of this thread; 0 where there was none.
 */
int parlour_error_errno(void);

/**
 * The defaults. Free them with parlour_server_options_free.
 */
parlour_server_options *parlour_server_options_new(void);

/**
 * Frees options. NULL is fine. What was made with them stays.
 */
void parlour_server_options_free(parlour_server_options *options);

/**
 * The transports to offer, as numbers of enum parlour_transport. Default: the one in the address, or unix.
 */
parlour_status parlour_server_options_transports(parlour_server_options *options, const int *transports, size_t count);

/**
 * The mode of the socket, as for chmod(1): who may connect. Default 0600: this user, and root.
 */
parlour_status parlour_server_options_mode(parlour_server_options *options, uint32_t mode);

/**
 * The group that the socket belongs to. Default: this process's own.
 */
parlour_status parlour_server_options_group(parlour_server_options *options, uint32_t gid);

/**
 * Who may connect, among those that the mode lets in. Default: with a mode without rights for others, this user
 * and root; else everybody. The function may be called by any thread that accepts, as long as the server lives,
 * and must return.
 */
parlour_status parlour_server_options_allow(parlour_server_options *options, parlour_allow allow, void *user);

/**
 * The longest message in bytes, sent or received. Default 16 MiB; at most 2 GiB - 1.
 */
parlour_status parlour_server_options_message_max(parlour_server_options *options, size_t bytes);

/**
 * How many descriptors may come with one message, shared blocks among them. Default 0; at most 253.
 */
parlour_status parlour_server_options_fds_max(parlour_server_options *options, size_t count);

/**
 * Connections at once, of all users and of each. Default 65536 and 4096; at least 1.
 */
parlour_status parlour_server_options_connections_max(parlour_server_options *options,
                                                      size_t of_all,
                                                      size_t of_each_user);

/**
 * Handshakes under way at once, on transports that have one. Default 128; 1 to 65536.
 */
parlour_status parlour_server_options_half_open_max(parlour_server_options *options, size_t count);

/**
 * Clients that may wait to be accepted. Default 4096; the kernel caps it.
 */
parlour_status parlour_server_options_backlog(parlour_server_options *options, uint32_t count);

/**
 * How long a client may take for its handshake, in milliseconds. Default 5000; more than 0.
 */
parlour_status parlour_server_options_handshake_timeout(parlour_server_options *options, int64_t ms);

/**
 * What to make of the clients' own files on unix: a number of enum parlour_client_file.
 */
parlour_status parlour_server_options_client_file(parlour_server_options *options, int policy);

/**
 * How much a connection over shm holds of what this side sends, in bytes. Default 1 MiB; a power of two from 64
 * KiB to 64 MiB.
 */
parlour_status parlour_server_options_ring_size(parlour_server_options *options, size_t bytes);

/**
 * How often a blocking call looks again, yielding the processor in between, before it sleeps. Default 40; 0 sleeps
 * at once.
 */
parlour_status parlour_server_options_spin_limit(parlour_server_options *options, uint32_t count);

/**
 * The defaults. Free them with parlour_connect_options_free.
 */
parlour_connect_options *parlour_connect_options_new(void);

/**
 * Frees options. NULL is fine. What was made with them stays.
 */
void parlour_connect_options_free(parlour_connect_options *options);

/**
 * How long connecting to a server that is there may take, in milliseconds. Default 5000; more than 0.
 */
parlour_status parlour_connect_options_timeout(parlour_connect_options *options, int64_t ms);

/**
 * How long to wait for a server that is not there yet, in milliseconds; less than 0 is for ever. Default 0: not at
 * all.
 */
parlour_status parlour_connect_options_wait_for_server(parlour_connect_options *options, int64_t ms);

/**
 * The user that the server must run as. Default: our own user, or root.
 */
parlour_status parlour_connect_options_server_uid(parlour_connect_options *options, uint32_t uid);

/**
 * Whether to bind a file of our own on unix, where we may. Default true.
 */
parlour_status parlour_connect_options_client_file(parlour_connect_options *options, bool bind);

/**
 * The longest message in bytes, sent or received. Default 16 MiB; at most 2 GiB - 1.
 */
parlour_status parlour_connect_options_message_max(parlour_connect_options *options, size_t bytes);

/**
 * How many descriptors may come with one message, shared blocks among them. Default 0; at most 253.
 */
parlour_status parlour_connect_options_fds_max(parlour_connect_options *options, size_t count);

/**
 * How much a connection over shm holds of what this side sends, in bytes. Default 1 MiB; a power of two from 64
 * KiB to 64 MiB.
 */
parlour_status parlour_connect_options_ring_size(parlour_connect_options *options, size_t bytes);

/**
 * How often a blocking call looks again, yielding the processor in between, before it sleeps. Default 40; 0 sleeps
 * at once.
 */
parlour_status parlour_connect_options_spin_limit(parlour_connect_options *options, uint32_t count);

/**
 * The defaults. Free them with parlour_hub_options_free.
 */
parlour_hub_options *parlour_hub_options_new(void);

/**
 * Frees options. NULL is fine. What was made with them stays.
 */
void parlour_hub_options_free(parlour_hub_options *options);

/**
 * How many bytes may wait to be sent to one client, beyond what the kernel holds for it. Default 1 MiB.
 */
parlour_status parlour_hub_options_unsent_max(parlour_hub_options *options, size_t bytes);

/**
 * What happens to a client for which more would wait: a number of enum parlour_slow_client_policy. `wait_ms` is for
 * PARLOUR_SLOW_CLIENT_WAIT.
 */
parlour_status parlour_hub_options_when_slow(parlour_hub_options *options, int what, int64_t wait_ms);

/**
 * Copies bytes into a block, the only copy that is ever made. `data` may be NULL when `length` is 0.
 */
parlour_status parlour_shared_new(const void *data, size_t length, parlour_shared **shared);

/**
 * Has a block of `length` bytes written in place by `fill`, which is called once, with `user`, before this returns.
 */
parlour_status parlour_shared_build(size_t length, parlour_fill fill, void *user, parlour_shared **shared);

/**
 * Makes a block of a descriptor of one that came by another way. Takes the descriptor in any case: it is not to be
 * closed.
 */
parlour_status parlour_shared_from_fd(int fd, parlour_shared **shared);

/**
 * Another handle to the same memory, to be freed on its own.
 */
parlour_status parlour_shared_clone(const parlour_shared *shared, parlour_shared **clone);

/**
 * The bytes, as long as the block lives. Writing to them is a fault. NULL for NULL.
 */
const void *parlour_shared_data(const parlour_shared *shared);

/**
 * How many bytes; 0 for NULL.
 */
size_t parlour_shared_length(const parlour_shared *shared);

/**
 * The descriptor of the memory, which stays the block's; -1 for NULL.
 */
int parlour_shared_fd(const parlour_shared *shared);

/**
 * Frees a handle; the memory goes with the last one of all processes. NULL is fine.
 */
void parlour_shared_free(parlour_shared *shared);

/**
 * The bytes, as long as the message lives; not NULL, also of an empty one (NULL for NULL).
 */
const void *parlour_message_data(const parlour_message *message);

/**
 * How many bytes; 0 for NULL.
 */
size_t parlour_message_length(const parlour_message *message);

/**
 * How many descriptors came along and were not taken out; 0 for NULL.
 */
size_t parlour_message_fd_count(const parlour_message *message);

/**
 * Takes all descriptors out: they are the caller's to close. `capacity` is how many `fds` has room for; where
 * there are more, nothing is taken and the status is PARLOUR_BUFFER_TOO_SMALL. `count` gets how many there are.
 */
parlour_status parlour_message_take_fds(parlour_message *message, int *fds, size_t capacity, size_t *count);

/**
 * Takes all descriptors out as shared blocks, which are the caller's to free. When one is no such block, all are
 * closed, and the status is PARLOUR_PROTOCOL. Room is as for parlour_message_take_fds.
 */
parlour_status parlour_message_take_shared(parlour_message *message,
                                           parlour_shared **blocks,
                                           size_t capacity,
                                           size_t *count);

/**
 * Frees a message, and closes the descriptors that were not taken out. NULL is fine.
 */
void parlour_message_free(parlour_message *message);

/**
 * Connects to the server with this name, over the best transport on offer if the address demands none, and makes
 * sure that it runs as this user or root. `options` may be NULL: the defaults.
 */
parlour_status parlour_connect(const char *address,
                               const parlour_connect_options *options,
                               parlour_connection **connection);

/**
 * Sends one message. Waits up to `timeout_ms` (less than 0: for ever; 0: not at all) while the channel is full;
 * after PARLOUR_TIMED_OUT nothing of it was sent. `data` may be NULL when `length` is 0.
 */
parlour_status parlour_send(parlour_connection *connection, const void *data, size_t length, int64_t timeout_ms);

/**
 * Sends one message that lies in parts, without copying them together. Waits for ever.
 */
parlour_status parlour_sendv(parlour_connection *connection, const struct iovec *parts, size_t count);

/**
 * Sends a message with open descriptors: the receiver has copies of them, ours stay ours to close. Over unix and
 * packet, where the other side allows some.
 */
parlour_status parlour_send_fds(parlour_connection *connection,
                                const void *data,
                                size_t length,
                                const int *fds,
                                size_t count,
                                int64_t timeout_ms);

/**
 * Sends a message with shared blocks, which are not copied, however large. Over shm, packet and unix, where the
 * other side allows descriptors.
 */
parlour_status parlour_send_shared(parlour_connection *connection,
                                   const void *data,
                                   size_t length,
                                   const parlour_shared *const *blocks,
                                   size_t count,
                                   int64_t timeout_ms);

/**
 * Takes a message to go with the next ones, in one write: with the next send, with parlour_flush, before this
 * connection sleeps in a receive, or when 64 KiB have come together. Waits, for ever, only when it has to write.
 */
parlour_status parlour_feed(parlour_connection *connection, const void *data, size_t length);

/**
 * Sends what was fed. Waits for ever while the channel is full.
 */
parlour_status parlour_flush(parlour_connection *connection);

/**
 * Sends what was fed, without waiting. PARLOUR_TIMED_OUT: something is left.
 */
parlour_status parlour_try_flush(parlour_connection *connection);

/**
 * Waits up to `timeout_ms` (less than 0: for ever; 0: not at all) until a whole message has arrived, and gives it
 * without copying it. Free it with parlour_message_free. PARLOUR_END: the other side sends no more. After
 * PARLOUR_TIMED_OUT what has arrived of one is kept.
 */
parlour_status parlour_recv(parlour_connection *connection, int64_t timeout_ms, parlour_message **message);

/**
 * parlour_recv into memory of the caller's. `length` gets how long the message is. PARLOUR_BUFFER_TOO_SMALL: it is
 * longer than `size`, nothing was written, and it stays for the next receive. Descriptors that came along are
 * closed.
 */
parlour_status parlour_recv_into(parlour_connection *connection,
                                 void *buffer,
                                 size_t size,
                                 size_t *length,
                                 int64_t timeout_ms);

/**
 * Whether a receive has an answer that it need not wait for and that no descriptor will announce. Ask before
 * poll(2), or receive with 0 until PARLOUR_TIMED_OUT. False for NULL.
 */
bool parlour_has_message(const parlour_connection *connection);

/**
 * Ends sending, after what was fed is sent; the peer gets PARLOUR_END after the last message. Receiving goes on.
 */
parlour_status parlour_finish(parlour_connection *connection);

/**
 * Gives each direction to a handle of its own, for two threads. Takes the connection: it is not to be freed any
 * more. Freeing one of the halves ends its direction and leaves the other. A half cannot be split:
 * PARLOUR_UNSUPPORTED, and it stays.
 */
parlour_status parlour_connection_split(parlour_connection *connection,
                                        parlour_connection **sending,
                                        parlour_connection **receiving);

/**
 * Who is at the other end.
 */
parlour_status parlour_connection_peer(const parlour_connection *connection, parlour_peer *peer);

/**
 * A descriptor of the peer's process, the caller's to close, for watching its life: pidfd_open(2).
 * PARLOUR_UNSUPPORTED where the kernel vouches for nobody, and for a half.
 */
parlour_status parlour_connection_pidfd(const parlour_connection *connection, int *pidfd);

/**
 * The transport that was chosen; PARLOUR_TRANSPORT_NONE for NULL.
 */
parlour_transport parlour_connection_transport(const parlour_connection *connection);

/**
 * What this connection can do. Not for a half: PARLOUR_UNSUPPORTED.
 */
parlour_status parlour_connection_capabilities(const parlour_connection *connection,
                                               parlour_capabilities *capabilities);

/**
 * Readable when a receive may go on. For waiting only, while parlour_has_message says no. -1 for NULL and where
 * nothing is received.
 */
int parlour_connection_recv_fd(const parlour_connection *connection);

/**
 * Writable when a send may go on. For waiting only. -1 for NULL and where nothing is sent any more.
 */
int parlour_connection_send_fd(const parlour_connection *connection);

/**
 * Sends what was fed, ends the connection, frees it, and says how that went; it is freed in any case.
 */
parlour_status parlour_connection_close(parlour_connection *connection);

/**
 * Ends the connection without waiting: what was fed and a full channel does not take is lost. NULL is fine.
 */
void parlour_connection_free(parlour_connection *connection);

/**
 * Takes the name of an address and listens. An address is "name", "transport:name", or either with
 * "/absolute/directory/" in front of the name. `options` may be NULL: the defaults.
 */
parlour_status parlour_server_bind(const char *address, const parlour_server_options *options, parlour_server **server);

/**
 * Serves on the sockets that a service manager made and handed over, sd_listen_fds(3). `fd_name` is the descriptor
 * name to take (FileDescriptorName=), or NULL for all; `options` may be NULL. PARLOUR_UNSUPPORTED: nothing was
 * handed over.
 */
parlour_status parlour_server_bind_listen_fds(const char *fd_name,
                                              const parlour_server_options *options,
                                              parlour_server **server);

/**
 * Waits up to `timeout_ms` (less than 0: for ever; 0: not at all) until a client has connected. PARLOUR_TIMED_OUT
 * loses no client.
 */
parlour_status parlour_server_accept(const parlour_server *server, int64_t timeout_ms, parlour_connection **connection);

/**
 * A descriptor that is readable when parlour_server_accept would not wait: call it with 0 then, until it says
 * PARLOUR_TIMED_OUT. For waiting only. -1 for NULL.
 */
int parlour_server_fd(const parlour_server *server);

/**
 * The bare name, as long as the server lives. NULL for NULL.
 */
const char *parlour_server_name(const parlour_server *server);

/**
 * The name's directory, as long as the server lives. NULL for NULL.
 */
const char *parlour_server_path(const parlour_server *server);

/**
 * How many clients were turned away; 0 for NULL.
 */
uint64_t parlour_server_refused(const parlour_server *server);

/**
 * Makes everybody who accepts, now and later, get PARLOUR_SHUTDOWN. Safe in a signal handler. NULL is fine.
 */
void parlour_server_shutdown(const parlour_server *server);

/**
 * A handle for doing that which may outlive the server. Free it with parlour_shutdown_free.
 */
parlour_status parlour_server_shutdown_handle(const parlour_server *server, parlour_shutdown **shutdown);

/**
 * Asks the server, or the hub, to stop. Safe in a signal handler, also when it is gone. NULL is fine.
 */
void parlour_shutdown_ask(const parlour_shutdown *shutdown);

/**
 * Frees a shutdown handle. NULL is fine.
 */
void parlour_shutdown_free(parlour_shutdown *shutdown);

/**
 * Gives the name up, frees the server, and says how that went; it is freed in any case. Connections go on. Nobody
 * may be in a call of it any more: shut it down first.
 */
parlour_status parlour_server_close(parlour_server *server);

/**
 * parlour_server_close for who does not want to know how it went. NULL is fine.
 */
void parlour_server_free(parlour_server *server);

/**
 * Takes a name and serves whoever comes. Both options may be NULL: the defaults.
 */
parlour_status parlour_hub_bind(const char *address,
                                const parlour_server_options *server_options,
                                const parlour_hub_options *hub_options,
                                parlour_hub **hub);

/**
 * Waits up to `timeout_ms` (less than 0: for ever; 0: not at all) until something happens, and fills `event`.
 * PARLOUR_TIMED_OUT: nothing has. No failure ends a connection, and the call may be repeated. PARLOUR_SHUTDOWN:
 * the hub was told to stop.
 */
parlour_status parlour_hub_next_event(parlour_hub *hub, int64_t timeout_ms, parlour_event *event);

/**
 * Sends one message to a client. It goes out together with others, at the latest when the hub has nothing else to
 * do. Nothing happens if the client has gone. PARLOUR_BUSY: no room, with PARLOUR_SLOW_CLIENT_REFUSE.
 */
parlour_status parlour_hub_send(parlour_hub *hub, uint64_t client, const void *data, size_t length);

/**
 * Sends one message to everybody who has joined. `missed` (may be NULL) gets how many did not get it: none but with
 * PARLOUR_SLOW_CLIENT_REFUSE.
 */
parlour_status parlour_hub_broadcast(parlour_hub *hub, const void *data, size_t length, size_t *missed);

/**
 * Writes what waits to be sent, as far as the system takes it: for a program that is about to do something that
 * takes long.
 */
parlour_status parlour_hub_flush(parlour_hub *hub);

/**
 * Ends sending to a client, after what was sent before. What it sends is still received.
 */
parlour_status parlour_hub_finish(parlour_hub *hub, uint64_t client);

/**
 * Ends the connection of a client; what the system does not take at once of what was sent to it is lost.
 * PARLOUR_EVENT_LEFT follows.
 */
parlour_status parlour_hub_disconnect(parlour_hub *hub, uint64_t client);

/**
 * Who has joined and not left, in the order in which they came. `capacity` is how many `clients` has room for;
 * where there are more, the status is PARLOUR_BUFFER_TOO_SMALL. `count` gets how many there are.
 */
parlour_status parlour_hub_clients(const parlour_hub *hub, uint64_t *clients, size_t capacity, size_t *count);

/**
 * Who a client is. PARLOUR_DISCONNECTED: it has gone.
 */
parlour_status parlour_hub_peer(const parlour_hub *hub, uint64_t client, parlour_peer *peer);

/**
 * The transport over which a client came; PARLOUR_TRANSPORT_NONE when it has gone, and for NULL.
 */
parlour_transport parlour_hub_transport(const parlour_hub *hub, uint64_t client);

/**
 * How many bytes wait in the hub to be sent to a client; 0 when it has gone, and for NULL.
 */
size_t parlour_hub_unsent(const parlour_hub *hub, uint64_t client);

/**
 * A descriptor that is readable when parlour_hub_next_event has something to do. Call that with 0 until
 * PARLOUR_TIMED_OUT before each wait, also after sending something: it writes what is to be written. For waiting
 * only. -1 for NULL.
 */
int parlour_hub_fd(const parlour_hub *hub);

/**
 * The bare name, as long as the hub lives. NULL for NULL.
 */
const char *parlour_hub_name(const parlour_hub *hub);

/**
 * The name's directory, as long as the hub lives. NULL for NULL.
 */
const char *parlour_hub_path(const parlour_hub *hub);

/**
 * A handle with which any thread and any signal handler can make parlour_hub_next_event return. Free it with
 * parlour_shutdown_free.
 */
parlour_status parlour_hub_shutdown_handle(const parlour_hub *hub, parlour_shutdown **shutdown);

/**
 * Gives the name up, ends every connection after what was sent has gone, for which it waits up to `timeout_ms`
 * (less than 0: for ever), and frees the hub, in any case.
 */
parlour_status parlour_hub_close(parlour_hub *hub, int64_t timeout_ms);

/**
 * parlour_hub_close without waiting. NULL is fine.
 */
void parlour_hub_free(parlour_hub *hub);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* PARLOUR_H */
