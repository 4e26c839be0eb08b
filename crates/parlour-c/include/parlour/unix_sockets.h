/*
 * The seven operations over UNIX sockets. Handles are ints.
 *
 *     #include <parlour/unix_sockets.h>      link with -lparlour
 *
 * A server takes a name; clients find it by the name; each gets a private two-way channel of messages. A name is 1
 * to 64 of A-Z a-z 0-9 . _ - and does not begin with a dot; "/absolute/directory/name" says where it lives. Whoever
 * speaks parlour over `unix`, in any language, is at the other end.
 *
 * The ints are real descriptors, close-on-exec. Nothing is read ahead of the message that was asked for: poll(2)
 * and select(2) tell the truth, a forked child can go on with them, and close(2) of them after fork(2) is harmless.
 * In a forked child the server is the parent's: there, accepting fails with ESTALE, and destroy_server only closes
 * the descriptor.
 *
 * Failure is -1 with errno set, and parlour_error_message() has the whole sentence after new_server, connect_to and
 * accept_client. Besides those named below, and those of the system calls behind them:
 *
 *     EINVAL        the name is not well formed          ENOENT        nobody serves the name
 *     EADDRINUSE    a live server has the name           ECONNREFUSED  the server said no
 *     EACCES        the system, or a check of who the other side is, does not permit it
 *     EBUSY         the server had no room until the deadline, or a handle is in use in a way that excludes this
 *     ETIMEDOUT     the server did not answer in time    EPERM         a directory is not safe from others
 *     ESTALE        the server's name was lost, or this is a forked child
 *     EBADF         the handle is none, or not any more  EFAULT        a pointer is NULL
 *     EPROTO        the other side does not speak this    ENOTSUP       this system or state cannot do it
 *     ENOTRECOVERABLE  a bug in the library
 *
 * Signals. destroy_server, send_info and disconnect_from may be called in a signal handler, whatever it interrupts:
 * they take no memory and no lock that the interrupted code could hold. A call that is blocked while a handler
 * destroys or disconnects its own handle returns -1 with EBADF. After any other handler it goes on if the handlers
 * of this process were installed with SA_RESTART, as signal(3) does, and is -1 with EINTR if one was not, unless it
 * is in the middle of a message. SIGPIPE is never raised.
 *
 * Threads. Any thread may use any handle; one at a time may receive on it, and one send. Several may accept.
 * Destroying or disconnecting a handle wakes those who are blocked on it.
 */
#ifndef PARLOUR_UNIX_SOCKETS_H
#define PARLOUR_UNIX_SOCKETS_H

#ifdef PARLOUR_FIFO_H
#error "parlour/unix_sockets.h and parlour/fifo.h give the same names to different things: include one of them"
#endif

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The library has these functions under names of its own, since parlour/fifo.h has others of the same names. A
 * label, and not a macro or a wrapper: so &send_info is a function's address, the same everywhere, and no code is
 * compiled in.
 */
#define PARLOUR_LABEL_(name) PARLOUR_LABEL_OF_(__USER_LABEL_PREFIX__, name)
#define PARLOUR_LABEL_OF_(prefix, name) PARLOUR_LABEL_TEXT_(prefix) name
#define PARLOUR_LABEL_TEXT_(prefix) #prefix

/* The classic signature has no const, and C++ cannot pass a literal without one. */
#ifdef __cplusplus
#define PARLOUR_CONST_ const
#else
#define PARLOUR_CONST_
#endif

/*
 * Takes a name, and gives a server. The descriptor is readable when accept_client would not block; with O_NONBLOCK
 * set on it, accept_client is -1 with EAGAIN instead of blocking. A name that a dead server had is free. Give the
 * server back with destroy_server, and not with close(2), which in this process would leave the name taken.
 */
int new_server(const char *name) __asm__(PARLOUR_LABEL_("parlour_unix_new_server"));

/*
 * Gives the name up, and disconnects who was not accepted yet. Connections go on. May be called in a signal handler.
 */
void destroy_server(int server) __asm__(PARLOUR_LABEL_("parlour_unix_destroy_server"));

/*
 * Blocks until a client has connected, and gives its connection.
 */
int accept_client(int server) __asm__(PARLOUR_LABEL_("parlour_unix_accept_client"));

/*
 * Connects to the server with this name, and makes sure that it is this user's or root's.
 */
int connect_to(const char *name) __asm__(PARLOUR_LABEL_("parlour_unix_connect_to"));

/*
 * Blocks until a whole message has arrived, puts it into the buffer, and gives its length.
 *
 *     0, errno 0       the other side has disconnected
 *     0, errno ENOMSG  an empty message has arrived
 *     -1, EMSGSIZE     the message is longer than the buffer; it stays, for a call with a larger one
 *     -1, EAGAIN       with O_NONBLOCK: there is nothing (of a message whose length is there the rest is waited for)
 *     -1, ECONNABORTED the other side went in the middle of a message
 *     -1, ECONNRESET   it went without having read all that was sent to it
 *     -1, EBADMSG      it announced a message of more than 16 MiB
 */
int recv_info(int connection, void *buffer, size_t size) __asm__(PARLOUR_LABEL_("parlour_unix_recv_info"));

/*
 * Sends one message, which it only reads, and gives its length. Blocks while the other side has no room. May be
 * called in a signal handler.
 *
 *     -1, EPIPE        the other side has gone
 *     -1, EMSGSIZE     the message is longer than 16 MiB; nothing was sent
 *     -1, EAGAIN       with O_NONBLOCK: there is no room; nothing was sent
 *     -1, EBUSY        another call, perhaps one that this handler has interrupted, is in the middle of a message
 */
int send_info(int connection, PARLOUR_CONST_ void *message, size_t length)
    __asm__(PARLOUR_LABEL_("parlour_unix_send_info"));

/*
 * Closes this end of a connection. A forked child that has it too can go on. May be called in a signal handler.
 */
void disconnect_from(int connection) __asm__(PARLOUR_LABEL_("parlour_unix_disconnect_from"));

/*
 * What went wrong in this thread's last new_server, connect_to or accept_client that failed, as a sentence; ""
 * before. It is valid until the next one fails. Not for signal handlers.
 */
const char *parlour_error_message(void);

#undef PARLOUR_LABEL_
#undef PARLOUR_CONST_

#ifdef __cplusplus
}
#endif

#endif
