/*
 * parlour/fifo.h - the seven classic operations over FIFOs
 *
 *     #include <parlour/fifo.h>      link with -lparlour
 *
 * A server takes a name. Clients find it by the name. Each client gets a private two-way channel of messages. A name
 * is 1 to 64 of A-Z a-z 0-9 . _ - and does not begin with a dot. "/absolute/directory/name" selects the directory of
 * the name. The peer may be any program that speaks parlour over `fifo`, in any language.
 *
 * Handles
 *   Handles are structs in the memory of the caller. They need no initialisation before the call that fills them. The
 *   descriptors in them may be used with poll(2) and select(2); all other fields are private. Nothing beyond the
 *   requested message is read, except its length, so poll(2) reports every message. A struct may be copied and moved;
 *   only one of the copies of a channel may be used from then on. A forked child can use its copy of a channel:
 *   disconnect_from in one process does not affect the other. In a forked child the server belongs to the parent:
 *   accept_client fails with ESTALE, and destroy_server only closes the descriptor.
 *
 *   new_server, accept_client and connect_to return 0.
 *
 * Return values and errors
 *   Failure is -1 with errno set. After new_server, connect_to and accept_client, parlour_error_message() has the
 *   text. Besides the errors that a function lists, and those of the system calls that it uses:
 *
 *     EINVAL           the name is not well formed
 *     EADDRINUSE       a live server has the name
 *     ENOENT           no server has the name
 *     ECONNREFUSED     the server rejected the connection
 *     EACCES           the system, or the check of the peer's identity, does not permit the operation
 *     EPERM            another user could interfere with a directory
 *     EBUSY            the server had no room until the deadline, or another call uses the handle and excludes this one
 *     ETIMEDOUT        the server did not answer in time
 *     ESTALE           the server's name was lost, or this is a forked child
 *     EBADF            the handle is invalid, or was destroyed or disconnected
 *     EFAULT           a pointer is NULL
 *     EPROTO           the peer does not speak the protocol
 *     ENOTSUP          this system or state does not support the operation
 *     ENOTRECOVERABLE  a bug in the library
 *
 * Signals
 *   destroy_server, send_info and disconnect_from are async-signal-safe. They allocate no memory, and take no lock
 *   that the interrupted code could hold. A call that blocks while a handler destroys or disconnects its own handle
 *   returns -1 with EBADF. After any other handler, a blocked call goes on if all handlers of the process were
 *   installed with SA_RESTART, as signal(3) does. Otherwise it returns -1 with EINTR, unless it is in the middle of a
 *   message. SIGPIPE is never raised.
 *
 * Threads
 *   Any thread may use any handle. On one connection, one thread may receive while another one sends. Several threads
 *   may accept clients of one server. Destroying or disconnecting a handle wakes the threads that are blocked on it.
 */
#ifndef PARLOUR_FIFO_H
#define PARLOUR_FIFO_H

#ifdef PARLOUR_UNIX_SOCKETS_H
#error "parlour/unix_sockets.h and parlour/fifo.h declare the same names: include one of them"
#endif

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * In the library these functions have other names, because parlour/unix_sockets.h declares the same ones. A label sets
 * the name, and not a macro or a wrapper, so &send_info is the address of a function, the same in every source file,
 * and no code is compiled into the program.
 */
#define PARLOUR_LABEL_(name) PARLOUR_LABEL_OF_(__USER_LABEL_PREFIX__, name)
#define PARLOUR_LABEL_OF_(prefix, name) PARLOUR_LABEL_TEXT_(prefix) name
#define PARLOUR_LABEL_TEXT_(prefix) #prefix

/* The classic signature has no const. C++ needs it to pass a string literal. */
#ifdef __cplusplus
#define PARLOUR_CONST_ const
#else
#define PARLOUR_CONST_
#endif

/* A server: a name that is held. */
struct server {
    int fd;                            /* readable when accept_client would not block; O_NONBLOCK may be set on it */
    unsigned int parlour_private_state;
    __extension__ unsigned long long parlour_private_id; /* for programs in C89 */
    unsigned int parlour_private_reserved[12];
};

/* One end of a connection. */
struct comm_channel {
    int recv_fd;                       /* readable when recv_info would not block */
    int send_fd;                       /* writable when send_info of less than 4 KiB would not block */
    unsigned int parlour_private_state;
    unsigned int parlour_private_header;
    unsigned int parlour_private_header_length;
    unsigned int parlour_private_reserved[11];
};

/*
 * Takes a name and fills `*server`. With O_NONBLOCK set on the server's descriptor, accept_client fails with EAGAIN
 * and does not block. The name of a dead server is free.
 */
int new_server(const char *name, struct server *server) __asm__(PARLOUR_LABEL_("parlour_fifo_new_server"));

/*
 * Gives the name up, and disconnects the clients that were not accepted yet. Connections that are open go on.
 * Async-signal-safe.
 */
void destroy_server(struct server *server) __asm__(PARLOUR_LABEL_("parlour_fifo_destroy_server"));

/*
 * Blocks until a client has connected, and fills `*channel`. A client over FIFOs waits in connect_to until the server
 * is in this call, up to 5 seconds.
 */
int accept_client(struct server *server, struct comm_channel *channel)
    __asm__(PARLOUR_LABEL_("parlour_fifo_accept_client"));

/*
 * Connects to the server that has this name, and fills `*channel`. Checks that the server runs as this user.
 */
int connect_to(const char *name, struct comm_channel *channel) __asm__(PARLOUR_LABEL_("parlour_fifo_connect_to"));

/*
 * Closes this end of a connection. Async-signal-safe.
 */
void disconnect_from(struct comm_channel *channel) __asm__(PARLOUR_LABEL_("parlour_fifo_disconnect_from"));

/*
 * Receives one message into a buffer of `size` bytes, and returns its length. Blocks until a whole message has
 * arrived.
 *
 *     0, errno 0        the peer has disconnected
 *     0, errno ENOMSG   an empty message has arrived
 *     -1, EMSGSIZE      the message is longer than the buffer; it stays, for a call with a larger buffer
 *     -1, ECONNABORTED  the peer disconnected mid-message
 *     -1, EBADMSG       the peer announced a message of more than 16 MiB
 *     -1, EBUSY         another call is in the middle of receiving a message
 */
int recv_info(struct comm_channel *channel, void *buffer, size_t size)
    __asm__(PARLOUR_LABEL_("parlour_fifo_recv_info"));

/*
 * Sends one message of `length` bytes, and returns `length`. Does not change the message. Blocks while the channel is
 * full. Async-signal-safe.
 *
 *     -1, EPIPE         the peer has disconnected
 *     -1, EMSGSIZE      the message is longer than 16 MiB; nothing was sent
 *     -1, EBUSY         another call, perhaps one that this handler interrupted, is in the middle of a message
 */
int send_info(struct comm_channel *channel, PARLOUR_CONST_ void *message, size_t length)
    __asm__(PARLOUR_LABEL_("parlour_fifo_send_info"));

/*
 * Returns the text of the last failure of new_server, connect_to or accept_client in the calling thread, or "" if none
 * has failed. The library owns the string. It is valid until the next of these calls fails in this thread. Not
 * async-signal-safe.
 */
const char *parlour_error_message(void);

#undef PARLOUR_LABEL_
#undef PARLOUR_CONST_

#ifdef __cplusplus
}
#endif

#endif
