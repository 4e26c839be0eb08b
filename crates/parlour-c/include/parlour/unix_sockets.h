/*
 * parlour/unix_sockets.h - the seven classic operations over UNIX sockets
 *
 *     #include <parlour/unix_sockets.h>      link with -lparlour
 *
 * A server takes a name. Clients find it by the name. Each client gets a private two-way channel of messages. A name
 * is 1 to 64 of A-Z a-z 0-9 . _ - and does not begin with a dot. "/absolute/directory/name" selects the directory of
 * the name. The peer may be any program that speaks parlour over `unix`, in any language.
 *
 * Handles
 *   Handles are ints: real descriptors, close-on-exec. Nothing beyond the requested message is read, so poll(2) and
 *   select(2) report every message. A forked child can use a connection, and close(2) of a descriptor after fork(2)
 *   affects only the process that calls it. In a forked child the server belongs to the parent: accept_client fails
 *   with ESTALE, and destroy_server only closes the descriptor.
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
#ifndef PARLOUR_UNIX_SOCKETS_H
#define PARLOUR_UNIX_SOCKETS_H

#ifdef PARLOUR_FIFO_H
#error "parlour/unix_sockets.h and parlour/fifo.h declare the same names: include one of them"
#endif

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * In the library these functions have other names, because parlour/fifo.h declares the same ones. A label sets the
 * name, and not a macro or a wrapper, so &send_info is the address of a function, the same in every source file, and
 * no code is compiled into the program.
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

/*
 * Takes a name and returns a server. The descriptor is readable when accept_client would not block. With O_NONBLOCK
 * set on it, accept_client fails with EAGAIN and does not block. The name of a dead server is free. Free the server
 * with destroy_server, not with close(2): close(2) in this process would leave the name taken.
 */
int new_server(const char *name) __asm__(PARLOUR_LABEL_("parlour_unix_new_server"));

/*
 * Gives the name up, and disconnects the clients that were not accepted yet. Connections that are open go on.
 * Async-signal-safe.
 */
void destroy_server(int server) __asm__(PARLOUR_LABEL_("parlour_unix_destroy_server"));

/*
 * Blocks until a client has connected, and returns its connection.
 */
int accept_client(int server) __asm__(PARLOUR_LABEL_("parlour_unix_accept_client"));

/*
 * Connects to the server that has this name, and returns the connection. Checks that the server runs as this user or
 * root.
 */
int connect_to(const char *name) __asm__(PARLOUR_LABEL_("parlour_unix_connect_to"));

/*
 * Receives one message into a buffer of `size` bytes, and returns its length. Blocks until a whole message has
 * arrived.
 *
 *     0, errno 0        the peer has disconnected
 *     0, errno ENOMSG   an empty message has arrived
 *     -1, EMSGSIZE      the message is longer than the buffer; it stays, for a call with a larger buffer
 *     -1, EAGAIN        with O_NONBLOCK: no message has arrived (once its length is there, the call waits for the rest)
 *     -1, ECONNABORTED  the peer disconnected mid-message
 *     -1, ECONNRESET    the peer disconnected without reading all that was sent to it
 *     -1, ECONNREFUSED  the policy of the server does not admit this client
 *     -1, EBUSY         the server cannot accept more clients at present
 *     -1, EBADMSG       the peer announced a message of more than 16 MiB
 *     -1, EBUSY         another call is in the middle of receiving a message
 */
int recv_info(int connection, void *buffer, size_t size) __asm__(PARLOUR_LABEL_("parlour_unix_recv_info"));

/*
 * Sends one message of `length` bytes, and returns `length`. Does not change the message. Blocks while the channel is
 * full. Async-signal-safe.
 *
 *     -1, EPIPE         the peer has disconnected
 *     -1, EMSGSIZE      the message is longer than 16 MiB; nothing was sent
 *     -1, EAGAIN        with O_NONBLOCK: the channel is full; nothing was sent
 *     -1, EBUSY         another call, perhaps one that this handler interrupted, is in the middle of a message
 */
int send_info(int connection, PARLOUR_CONST_ void *message, size_t length)
    __asm__(PARLOUR_LABEL_("parlour_unix_send_info"));

/*
 * Closes this end of a connection. A forked child that has the descriptor, too, can go on. Async-signal-safe.
 */
void disconnect_from(int connection) __asm__(PARLOUR_LABEL_("parlour_unix_disconnect_from"));

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
