/*
 * The seven operations over FIFOs. Handles are structs of the caller's.
 *
 *     #include <parlour/fifo.h>      link with -lparlour
 *
 * A server takes a name; clients find it by the name; each gets a private two-way channel of messages. A name is 1
 * to 64 of A-Z a-z 0-9 . _ - and does not begin with a dot; "/absolute/directory/name" says where it lives. Whoever
 * speaks parlour over `fifo`, in any language, is at the other end.
 *
 * The structs are the caller's memory: nothing is to be set before the call that fills one. The descriptors in them
 * may be given to poll(2) and select(2), and everything else in them is the library's. Nothing is read ahead of the
 * message that was asked for, but for its length: so poll tells the truth, and a forked child can go on with its
 * copy of a channel while the parent closes its own with disconnect_from, which does not harm the child's. A struct
 * may be copied and moved; of the copies of a channel only one may be used from then on. In a forked child the
 * server is the parent's: there, accepting fails with ESTALE, and destroy_server only closes the descriptor.
 *
 * new_server, accept_client and connect_to give 0. Failure is -1 with errno set, and parlour_error_message() has
 * the whole sentence after new_server, connect_to and accept_client. Besides those named below, and those of the
 * system calls behind them:
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
#ifndef PARLOUR_FIFO_H
#define PARLOUR_FIFO_H

#ifdef PARLOUR_UNIX_SOCKETS_H
#error "parlour/unix_sockets.h and parlour/fifo.h give the same names to different things: include one of them"
#endif

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The library has these functions under names of its own, since parlour/unix_sockets.h has others of the same
 * names. A label, and not a macro or a wrapper: so &send_info is a function's address, the same everywhere, and no
 * code is compiled in.
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

/* A name that is held. */
struct server {
    int fd;                            /* readable when accept_client would not block; O_NONBLOCK may be set on it */
    unsigned int parlour_private_state;
    unsigned long long parlour_private_id;
    unsigned int parlour_private_reserved[12];
};

/* One side of a connection. */
struct comm_channel {
    int recv_fd;                       /* readable when recv_info would not block */
    int send_fd;                       /* writable when send_info of less than 4 KiB would not block */
    unsigned int parlour_private_state;
    unsigned int parlour_private_header;
    unsigned int parlour_private_header_length;
    unsigned int parlour_private_reserved[11];
};

/*
 * Takes a name, and fills the server. With O_NONBLOCK set on the server's descriptor, accept_client is -1 with
 * EAGAIN instead of blocking. A name that a dead server had is free.
 */
int new_server(const char *name, struct server *server) __asm__(PARLOUR_LABEL_("parlour_fifo_new_server"));

/*
 * Gives the name up, and disconnects who was not accepted yet. Connections go on. May be called in a signal handler.
 */
void destroy_server(struct server *server) __asm__(PARLOUR_LABEL_("parlour_fifo_destroy_server"));

/*
 * Blocks until a client has connected, and fills its channel. A client of a FIFO waits for that, up to 5 seconds.
 */
int accept_client(struct server *server, struct comm_channel *channel)
    __asm__(PARLOUR_LABEL_("parlour_fifo_accept_client"));

/*
 * Connects to the server with this name, and makes sure that it is this user's.
 */
int connect_to(const char *name, struct comm_channel *channel) __asm__(PARLOUR_LABEL_("parlour_fifo_connect_to"));

/*
 * Closes this end of a connection. May be called in a signal handler.
 */
void disconnect_from(struct comm_channel *channel) __asm__(PARLOUR_LABEL_("parlour_fifo_disconnect_from"));

/*
 * Blocks until a whole message has arrived, puts it into the buffer, and gives its length.
 *
 *     0, errno 0       the other side has disconnected
 *     0, errno ENOMSG  an empty message has arrived
 *     -1, EMSGSIZE     the message is longer than the buffer; it stays, for a call with a larger one
 *     -1, ECONNABORTED the other side went in the middle of a message
 *     -1, EBADMSG      it announced a message of more than 16 MiB
 */
int recv_info(struct comm_channel *channel, void *buffer, size_t size)
    __asm__(PARLOUR_LABEL_("parlour_fifo_recv_info"));

/*
 * Sends one message, which it only reads, and gives its length. Blocks while the other side has no room. May be
 * called in a signal handler.
 *
 *     -1, EPIPE        the other side has gone
 *     -1, EMSGSIZE     the message is longer than 16 MiB; nothing was sent
 *     -1, EBUSY        another call, perhaps one that this handler has interrupted, is in the middle of a message
 */
int send_info(struct comm_channel *channel, PARLOUR_CONST_ void *message, size_t length)
    __asm__(PARLOUR_LABEL_("parlour_fifo_send_info"));

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
