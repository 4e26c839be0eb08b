/* One thread per client, and several that accept. Destroying or disconnecting a handle wakes the blocked threads. */
#include "classic.h"

#define CLIENTS 6
#define ACCEPTING 3

static server_t server;

static void *serve(void *argument)
{
    channel_t *client = argument;
    char buffer[64];
    int length;

    while ((length = recv_info(CHANNEL(*client), buffer, sizeof buffer)) > 0)
        CHECK(send_info(CHANNEL(*client), buffer, (size_t)length) == length);
    CHECK(length == 0);
    disconnect_from(CHANNEL(*client));
    free(client);
    return NULL;
}

static void *accept_all(void *unused)
{
    (void)unused;
    for (;;) {
        channel_t *client = malloc(sizeof *client);
        pthread_t thread;

        CHECK(client != NULL);
        if (ACCEPT(server, *client) != 0) {
            CHECK(errno == EBADF);
            free(client);
            return NULL;
        }
        CHECK(pthread_create(&thread, NULL, serve, client) == 0);
        CHECK(pthread_detach(thread) == 0);
    }
}

static void *ask(void *name)
{
    channel_t channel;
    char text[32];

    CHECK(CONNECT(name, channel) == 0);
    for (int i = 0; i < 5; i++) {
        snprintf(text, sizeof text, "message %d", i);
        SENT(channel, text);
        RECEIVED(channel, text);
    }
    disconnect_from(CHANNEL(channel));
    return NULL;
}

static void *receive_until_it_is_disconnected(void *argument)
{
    channel_t *channel = argument;
    char byte;

    CHECK_FAILS(recv_info(CHANNEL(*channel), &byte, 1), EBADF);
    return NULL;
}

/* Nothing reports that a thread is blocked. If it is not, the test passes and covers less. */
static void let_it_block(void)
{
    usleep(50000);
}

int main(int argc, char **argv)
{
    pthread_t accepting[ACCEPTING], asking[CLIENTS], blocked;
    pair_t pair;

    CHECK(argc == 2);
    alarm(100);
    CHECK(OPEN_SERVER(argv[1], server) == 0);
    for (int i = 0; i < ACCEPTING; i++)
        CHECK(pthread_create(&accepting[i], NULL, accept_all, NULL) == 0);
    for (int i = 0; i < CLIENTS; i++)
        CHECK(pthread_create(&asking[i], NULL, ask, argv[1]) == 0);
    for (int i = 0; i < CLIENTS; i++)
        CHECK(pthread_join(asking[i], NULL) == 0);
    let_it_block();
    destroy_server(SERVER(server));
    for (int i = 0; i < ACCEPTING; i++)
        CHECK(pthread_join(accepting[i], NULL) == 0);

    open_pair(argv[1], &pair);
    CHECK(pthread_create(&blocked, NULL, receive_until_it_is_disconnected, &pair.served) == 0);
    let_it_block();
    disconnect_from(CHANNEL(pair.served));
    CHECK(pthread_join(blocked, NULL) == 0);
    ENDED(pair.client);
    disconnect_from(CHANNEL(pair.client));
    /* At various moments: a thread that wakes just before the handle is closed must not sleep again. */
    for (unsigned i = 0; i < (getenv("LIGHT") ? 20u : 500u); i++) {
        connect_pair(argv[1], &pair.server, &pair.client, &pair.served);
        CHECK(pthread_create(&blocked, NULL, receive_until_it_is_disconnected, &pair.served) == 0);
        usleep(i % 50 * 10);
        disconnect_from(CHANNEL(pair.served));
        CHECK(pthread_join(blocked, NULL) == 0);
        disconnect_from(CHANNEL(pair.client));
    }
    destroy_server(SERVER(pair.server));
    return 0;
}
