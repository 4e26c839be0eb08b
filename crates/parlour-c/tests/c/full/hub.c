/* A hub: who joins, what they say, who goes; and a poll loop around it. */
#include "../check.h"
#include <parlour.h>
#include <poll.h>

#define OK(call)                                                                                               \
    do {                                                                                                       \
        parlour_status status_ = (call);                                                                       \
        if (status_ != PARLOUR_OK)                                                                             \
            fprintf(stderr, "%s: %s\n", parlour_status_name((int)status_), parlour_error_message());           \
        CHECK(status_ == PARLOUR_OK);                                                                          \
    } while (0)

#define CLIENTS 3

static void talk(const char *address)
{
    parlour_connection *connection;
    parlour_message *message;

    OK(parlour_connect(address, NULL, &connection));
    OK(parlour_send(connection, "hello", 5, -1));
    OK(parlour_recv(connection, -1, &message));
    CHECK(parlour_message_length(message) == 5);
    parlour_message_free(message);
    /* To everybody, when all are here. */
    OK(parlour_recv(connection, -1, &message));
    CHECK(parlour_message_length(message) == 3 && memcmp(parlour_message_data(message), "all", 3) == 0);
    parlour_message_free(message);
    OK(parlour_finish(connection));
    CHECK(parlour_recv(connection, -1, &message) == PARLOUR_END);
    parlour_connection_free(connection);
}

int main(int argc, char **argv)
{
    parlour_server_options *server_options = parlour_server_options_new();
    parlour_hub_options *hub_options = parlour_hub_options_new();
    parlour_hub *hub;
    parlour_event event;
    parlour_shutdown *shutdown;
    parlour_peer peer;
    pid_t children[CLIENTS];
    uint64_t clients[CLIENTS];
    size_t count, missed;
    int heard = 0, left = 0;

    CHECK(argc == 2);
    alarm(100);
    OK(parlour_server_options_connections_max(server_options, 100, 100));
    OK(parlour_hub_options_unsent_max(hub_options, 100000));
    OK(parlour_hub_options_when_slow(hub_options, PARLOUR_SLOW_CLIENT_REFUSE, 0));
    CHECK(parlour_hub_options_when_slow(hub_options, 77, 0) == PARLOUR_INVALID_ARGUMENT);
    OK(parlour_hub_bind(argv[1], server_options, hub_options, &hub));
    parlour_server_options_free(server_options);
    parlour_hub_options_free(hub_options);
    CHECK(strcmp(parlour_hub_name(hub), "name") == 0 && strstr(argv[1], parlour_hub_path(hub)) != NULL);
    CHECK(parlour_hub_next_event(hub, 0, &event) == PARLOUR_TIMED_OUT && event.kind == PARLOUR_EVENT_NONE);
    for (int i = 0; i < CLIENTS; i++)
        if ((children[i] = fork()) == 0) {
            talk(argv[1]);
            /* What the parent has is the parent's to free. */
            _exit(0);
        }
    while (left < CLIENTS) {
        struct pollfd fd = {.fd = parlour_hub_fd(hub), .events = POLLIN};
        parlour_status status;

        while ((status = parlour_hub_next_event(hub, 0, &event)) == PARLOUR_OK) {
            switch (event.kind) {
            case PARLOUR_EVENT_JOINED:
                CHECK(event.client > 0 && event.peer.uid == (int64_t)geteuid());
                OK(parlour_hub_peer(hub, event.client, &peer));
                CHECK(memcmp(&peer.uid, &event.peer.uid, sizeof peer.uid) == 0);
                CHECK(parlour_hub_transport(hub, event.client) != PARLOUR_TRANSPORT_NONE);
                break;
            case PARLOUR_EVENT_MESSAGE:
                CHECK(parlour_message_length(event.message) == 5);
                OK(parlour_hub_send(hub, event.client, parlour_message_data(event.message), 5));
                OK(parlour_hub_flush(hub));
                CHECK(parlour_hub_unsent(hub, event.client) == 0);
                parlour_message_free(event.message);
                if (++heard == CLIENTS) {
                    CHECK(parlour_hub_clients(hub, clients, 1, &count) == PARLOUR_BUFFER_TOO_SMALL && count == CLIENTS);
                    OK(parlour_hub_clients(hub, clients, CLIENTS, &count));
                    OK(parlour_hub_broadcast(hub, "all", 3, &missed));
                    CHECK(missed == 0 && count == CLIENTS);
                }
                break;
            case PARLOUR_EVENT_FINISHED:
                OK(parlour_hub_finish(hub, event.client));
                break;
            case PARLOUR_EVENT_LEFT:
                CHECK(event.why == PARLOUR_DISCONNECT_CLOSED && event.status == PARLOUR_OK && strlen(event.text) > 0);
                /* Nothing happens for one who has gone. */
                OK(parlour_hub_send(hub, event.client, "x", 1));
                OK(parlour_hub_disconnect(hub, event.client));
                CHECK(parlour_hub_peer(hub, event.client, &peer) == PARLOUR_DISCONNECTED);
                CHECK(parlour_hub_transport(hub, event.client) == PARLOUR_TRANSPORT_NONE);
                left++;
                break;
            default:
                CHECK(!"no such event was expected");
            }
        }
        CHECK(status == PARLOUR_TIMED_OUT);
        if (left < CLIENTS)
            CHECK(poll(&fd, 1, 30000) == 1);
    }
    for (int i = 0; i < CLIENTS; i++)
        check_child(children[i]);
    OK(parlour_hub_shutdown_handle(hub, &shutdown));
    parlour_shutdown_ask(shutdown);
    parlour_shutdown_free(shutdown);
    CHECK(parlour_hub_next_event(hub, -1, &event) == PARLOUR_SHUTDOWN);
    OK(parlour_hub_close(hub, 1000));
    return 0;
}
