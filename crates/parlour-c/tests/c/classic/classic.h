/* Macros over both classic headers, so that one program tests each. With -DFIFO it uses fifo.h, else unix_sockets.h. */
#ifndef CLASSIC_H
#define CLASSIC_H

#include "../check.h"

#ifdef FIFO
#include <parlour/fifo.h>

typedef struct server server_t;
typedef struct comm_channel channel_t;
#define SERVER(server) (&(server))
#define CHANNEL(channel) (&(channel))
#define SERVER_FD(server) ((server).fd)
#define RECV_FD(channel) ((channel).recv_fd)
#define SEND_FD(channel) ((channel).send_fd)
#define OPEN_SERVER(name, server) new_server(name, &(server))
#define ACCEPT(server, channel) accept_client(&(server), &(channel))
#define CONNECT(name, channel) connect_to(name, &(channel))
#else
#include <parlour/unix_sockets.h>

typedef int server_t;
typedef int channel_t;
#define SERVER(server) (server)
#define CHANNEL(channel) (channel)
#define SERVER_FD(server) (server)
#define RECV_FD(channel) (channel)
#define SEND_FD(channel) (channel)
#define ZERO_OR(result) ((result) < 0 ? -1 : 0)
#define OPEN_SERVER(name, server) ZERO_OR((server) = new_server(name))
#define ACCEPT(server, channel) ZERO_OR((channel) = accept_client(server))
#define CONNECT(name, channel) ZERO_OR((channel) = connect_to(name))
#endif

#define SEND(channel, text) send_info(CHANNEL(channel), (void *)(text), strlen(text))
#define SENT(channel, text) CHECK(SEND(channel, text) == (int)strlen(text))
#define RECEIVED(channel, text)                                                                                \
    do {                                                                                                       \
        char buffer_[256];                                                                                     \
        int length_ = recv_info(CHANNEL(channel), buffer_, sizeof buffer_);                                    \
        CHECK(length_ == (int)strlen(text));                                                                   \
        CHECK(memcmp(buffer_, text, strlen(text)) == 0);                                                       \
    } while (0)
#define ENDED(channel)                                                                                         \
    do {                                                                                                       \
        char byte_;                                                                                            \
        errno = 77;                                                                                            \
        CHECK(recv_info(CHANNEL(channel), &byte_, 1) == 0);                                                    \
        CHECK(errno == 0);                                                                                     \
    } while (0)

/* A server, a client, and the connection that the server accepted, in one process. */
typedef struct {
    server_t server;
    channel_t client;
    channel_t served;
} pair_t;

#include <pthread.h>

static const char *pair_name;

static inline void *pair_connect(void *channel)
{
    channel_t *client = channel;
    CHECK(CONNECT(pair_name, *client) == 0);
    return NULL;
}

/* Over FIFOs a client waits for the answer of the server, so it connects in another thread. */
static inline void connect_pair(const char *name, server_t *server, channel_t *client, channel_t *served)
{
    pthread_t thread;
    pair_name = name;
    CHECK(pthread_create(&thread, NULL, pair_connect, client) == 0);
    CHECK(ACCEPT(*server, *served) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
}

static inline void open_pair(const char *name, pair_t *pair)
{
    CHECK(OPEN_SERVER(name, pair->server) == 0);
    connect_pair(name, &pair->server, &pair->client, &pair->served);
}

static inline void close_pair(pair_t *pair)
{
    disconnect_from(CHANNEL(pair->client));
    disconnect_from(CHANNEL(pair->served));
    destroy_server(SERVER(pair->server));
}

#endif
