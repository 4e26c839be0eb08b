/* Each call that can block: without blocking, with a timeout on a full channel, and with success after it. */
#include "pair.h"
#include <time.h>

static char chunk[100000];

static int64_t now_ms(void)
{
    struct timespec now;

    CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* The call gives up immediately with a timeout of 0, and not before 50 ms with one of 50. */
#define GIVES_UP(call_with)                                                                                    \
    do {                                                                                                       \
        int64_t timeout_ms = 0;                                                                                \
        GIVES(call_with, PARLOUR_TIMED_OUT);                                                                   \
        int64_t began_ = now_ms();                                                                             \
        timeout_ms = 50;                                                                                       \
        GIVES(call_with, PARLOUR_TIMED_OUT);                                                                   \
        CHECK(now_ms() - began_ >= 49);                                                                        \
    } while (0)

/* Fills a channel that the peer does not read, and the buffer of parlour_feed. Returns the number of messages. */
static int fill_channel(parlour_connection *connection)
{
    int count = 0;

    while (parlour_send(connection, chunk, sizeof chunk, 0) == PARLOUR_OK)
        count++;
    while (parlour_feed(connection, chunk, 1000, 0) == PARLOUR_OK)
        count++;
    CHECK(count > 0);
    return count;
}

static void *receive_all(void *connection)
{
    parlour_message *message;
    size_t *count = calloc(1, sizeof *count);
    parlour_status status;

    while ((status = parlour_recv(connection, 30000, &message)) == PARLOUR_OK) {
        parlour_message_free(message);
        ++*count;
    }
    CHECK(status == PARLOUR_END);
    return count;
}

static void with_room(parlour_connection *client, parlour_connection *served)
{
    parlour_payload payload = {.data = "payload", .length = 7};
    parlour_message *message;

    GIVES_UP(parlour_recv(served, timeout_ms, &message));
    for (int timeout = -1; timeout <= 1; timeout++) {
        OK(parlour_send(client, "sent", 4, timeout * 50));
        OK(parlour_send_payload(client, &payload, timeout * 50));
        OK(parlour_feed(client, "fed", 3, timeout * 50));
        OK(parlour_flush(client, timeout * 50));
        received(served, "sent");
        received(served, "payload");
        received(served, "fed");
    }
}

static void full(parlour_connection *client, parlour_connection *served)
{
    parlour_payload payload = {.data = chunk, .length = sizeof chunk};
    pthread_t thread;
    void *received_count;
    int count = fill_channel(client);

    GIVES_UP(parlour_send(client, chunk, sizeof chunk, timeout_ms));
    GIVES_UP(parlour_send_payload(client, &payload, timeout_ms));
    GIVES_UP(parlour_feed(client, chunk, 1000, timeout_ms));
    GIVES_UP(parlour_flush(client, timeout_ms));
    GIVES_UP(parlour_finish(client, timeout_ms));

    CHECK(pthread_create(&thread, NULL, receive_all, served) == 0);
    OK(parlour_send(client, chunk, sizeof chunk, 30000));
    OK(parlour_send_payload(client, &payload, 30000));
    OK(parlour_feed(client, chunk, 1000, 30000));
    OK(parlour_flush(client, 30000));
    OK(parlour_finish(client, 30000));
    OK(parlour_finish(client, 0));
    CHECK(pthread_join(thread, &received_count) == 0);
    /* Every message that was accepted arrived, and no other. */
    CHECK(*(size_t *)received_count == (size_t)count + 3);
    free(received_count);
}

static void closing(parlour_server *server)
{
    static const int64_t timeouts[] = {0, 50, 30000, -1};
    parlour_connection *client, *served;
    pthread_t thread;
    void *count;

    for (int i = 0; i < 4; i++) {
        connect_pair(server, &client, &served);
        fill_channel(client);
        if (i < 2) {
            GIVES(parlour_connection_close(client, timeouts[i]), PARLOUR_TIMED_OUT);
        } else {
            CHECK(pthread_create(&thread, NULL, receive_all, served) == 0);
            OK(parlour_connection_close(client, timeouts[i]));
            CHECK(pthread_join(thread, &count) == 0);
            free(count);
        }
        parlour_connection_free(served);
    }
    /* Nothing is buffered, so nothing can block. */
    connect_pair(server, &client, &served);
    OK(parlour_feed(client, "fed", 3, 0));
    OK(parlour_connection_close(client, 0));
    received(served, "fed");
    OK(parlour_finish(served, 0));
    OK(parlour_connection_close(served, 0));
}

int main(int argc, char **argv)
{
    parlour_server *server;
    parlour_connection *client, *served;

    CHECK(argc == 2);
    alarm(100);
    address = argv[1];
    OK(parlour_server_bind(address, NULL, &server));
    GIVES_UP(parlour_server_accept(server, timeout_ms, &served));
    connect_pair(server, &client, &served);
    with_room(client, served);
    full(client, served);
    parlour_connection_free(client);
    parlour_connection_free(served);
    closing(server);
    OK(parlour_server_close(server));
    return 0;
}
