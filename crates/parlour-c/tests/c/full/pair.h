/* Helpers of the programs that have a server and its client in one process. */
#ifndef PAIR_H
#define PAIR_H

#include "../check.h"
#include <parlour.h>
#include <pthread.h>

#define OK(call)                                                                                               \
    do {                                                                                                       \
        parlour_status status_ = (call);                                                                       \
        if (status_ != PARLOUR_OK)                                                                             \
            fprintf(stderr, "%s: %s\n", parlour_status_name((int)status_), parlour_error_message());           \
        CHECK(status_ == PARLOUR_OK);                                                                          \
    } while (0)
/* A call that fails, with a text. */
#define GIVES(call, status) CHECK((call) == (status) && strlen(parlour_error_message()) > 0)

static const char *address;
static parlour_connect_options *connect_options;

static inline void *connect_client(void *client)
{
    OK(parlour_connect(address, connect_options, client));
    return NULL;
}

/* Over `shm` and `fifo` a client waits for the answer of the server, so it connects in another thread. */
static inline void connect_pair(parlour_server *server, parlour_connection **client, parlour_connection **served)
{
    pthread_t thread;

    CHECK(pthread_create(&thread, NULL, connect_client, client) == 0);
    OK(parlour_server_accept(server, 30000, served));
    CHECK(pthread_join(thread, NULL) == 0);
}

static inline void received(parlour_connection *connection, const char *text)
{
    parlour_message *message;

    OK(parlour_recv(connection, 30000, &message));
    CHECK(parlour_message_length(message) == strlen(text));
    CHECK(memcmp(parlour_message_data(message), text, strlen(text)) == 0);
    parlour_message_free(message);
}

#endif
