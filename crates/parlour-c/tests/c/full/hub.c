/* A hub in a poll loop: clients join, send messages and leave, and one client is refused. */
#include "pair.h"
#include <poll.h>

#define CLIENTS 3

/* Tells the client that is refused to connect. */
static int turn[2];

/* Connects for a client of another host. */
static parlour_status connect_for(const char *host, parlour_connection **connection)
{
    parlour_connect_options *options = parlour_connect_options_new();

    OK(parlour_connect_options_origin(options, host, 1000, 7, "wc"));
    parlour_status status = parlour_connect(address, options, connection);
    parlour_connect_options_free(options);
    return status;
}

static void talk_over(parlour_connection *connection)
{
    parlour_message *message;

    OK(parlour_send(connection, "hello", 5, -1));
    OK(parlour_recv(connection, -1, &message));
    CHECK(parlour_message_length(message) == 5);
    parlour_message_free(message);
    /* The broadcast, when all clients have joined. */
    OK(parlour_recv(connection, -1, &message));
    CHECK(parlour_message_length(message) == 3 && memcmp(parlour_message_data(message), "all", 3) == 0);
    parlour_message_free(message);
    received(connection, "again");
    OK(parlour_finish(connection, 30000));
    CHECK(parlour_recv(connection, -1, &message) == PARLOUR_END);
    parlour_connection_free(connection);
}

static void talk(void)
{
    parlour_connection *connection;

    OK(parlour_connect(address, NULL, &connection));
    talk_over(connection);
}

static void talk_from_afar(void)
{
    parlour_connection *connection;

    OK(connect_for("a.example", &connection));
    talk_over(connection);
}

static void be_refused(void)
{
    parlour_connection *connection;
    parlour_message *message;
    parlour_status status;
    char byte;

    CHECK(read(turn[0], &byte, 1) == 1);
    status = connect_for("b.example", &connection);
    if (status == PARLOUR_OK) {
        status = parlour_recv(connection, 30000, &message);
        parlour_connection_free(connection);
    }
    CHECK(status == PARLOUR_REFUSED || status == PARLOUR_END || status == PARLOUR_DISCONNECTED);
}

static bool admit_one_host(const parlour_peer *peer, const parlour_origin *origin, void *count)
{
    CHECK(peer->uid == (int64_t)geteuid());
    ++*(int *)count;
    return origin == NULL || strcmp(origin->host, "a.example") == 0;
}

/* The functions that send, also with an empty payload and one that a hub does not carry. */
static void answer(parlour_hub *hub, uint64_t client, const parlour_message *message)
{
    static const int fd = STDIN_FILENO;
    struct iovec parts[] = {{(void *)parlour_message_data(message), 2}, {(char *)parlour_message_data(message) + 2, 3}};
    parlour_payload in_parts = {.parts = parts, .part_count = 2};
    parlour_payload with_fd = {.data = "x", .length = 1, .fds = &fd, .fd_count = 1};
    parlour_payload both = {.data = "x", .length = 1, .parts = parts, .part_count = 2};

    CHECK(parlour_message_length(message) == 5);
    GIVES(parlour_hub_send_payload(hub, client, &with_fd), PARLOUR_UNSUPPORTED);
    GIVES(parlour_hub_send_payload(hub, client, &both), PARLOUR_INVALID_ARGUMENT);
    if (client % 2 == 0)
        OK(parlour_hub_send(hub, client, parlour_message_data(message), 5));
    else
        OK(parlour_hub_send_payload(hub, client, &in_parts));
    CHECK(parlour_hub_write_buffer_len(hub, client) <= 9);
    OK(parlour_hub_flush(hub));
    CHECK(parlour_hub_write_buffer_len(hub, client) == 0);
}

static void tell_all(parlour_hub *hub)
{
    static const int fd = STDIN_FILENO;
    uint64_t clients[CLIENTS];
    size_t count, missed = 1;
    parlour_payload payload = {.data = "all", .length = 3};
    parlour_payload with_fd = {.fds = &fd, .fd_count = 1};

    CHECK(parlour_hub_clients(hub, clients, 1, &count) == PARLOUR_BUFFER_TOO_SMALL && count == CLIENTS);
    OK(parlour_hub_clients(hub, clients, CLIENTS, &count));
    CHECK(count == CLIENTS);
    GIVES(parlour_hub_broadcast_payload(hub, &with_fd, &missed), PARLOUR_UNSUPPORTED);
    CHECK(missed == 0);
    OK(parlour_hub_broadcast_payload(hub, &payload, &missed));
    OK(parlour_hub_broadcast(hub, "again", 5, NULL));
    CHECK(missed == 0);
}

static void check_stats(const parlour_hub *hub, uint64_t accepted, size_t open, uint64_t refused)
{
    parlour_stats stats;

    OK(parlour_hub_stats(hub, &stats));
    CHECK(stats.accepted == accepted && stats.open == open && stats.refused == refused);
    for (int reason = -1; reason < 100; reason++)
        CHECK(parlour_hub_refused_by(hub, reason) == (reason == PARLOUR_REFUSAL_POLICY ? refused : 0));
}

static pid_t start(void (*client)(void))
{
    pid_t child = fork();

    CHECK(child >= 0);
    if (child == 0) {
        client();
        /* The parent frees what the child has copies of. */
        _exit(0);
    }
    return child;
}

int main(int argc, char **argv)
{
    parlour_server_options *server_options = parlour_server_options_new();
    parlour_hub_options *hub_options = parlour_hub_options_new();
    parlour_hub *hub;
    parlour_event event;
    parlour_shutdown *shutdown;
    parlour_peer peer;
    parlour_origin origin;
    uint64_t from_a = 0;
    pid_t children[CLIENTS + 1];
    int asked = 0, heard = 0, left = 0, refused = 0;

    CHECK(argc == 2);
    alarm(100);
    address = argv[1];
    OK(parlour_server_options_connections_max(server_options, 100, 100));
    OK(parlour_server_options_allow(server_options, admit_one_host, &asked));
    OK(parlour_hub_options_write_buffer_max(hub_options, 100000));
    OK(parlour_hub_options_slow_client_policy(hub_options, PARLOUR_SLOW_CLIENT_REFUSE, 0));
    CHECK(parlour_hub_options_slow_client_policy(hub_options, 77, 0) == PARLOUR_INVALID_ARGUMENT);
    OK(parlour_hub_bind(address, server_options, hub_options, &hub));
    parlour_server_options_free(server_options);
    parlour_hub_options_free(hub_options);
    CHECK(strcmp(parlour_hub_name(hub), "name") == 0 && strstr(address, parlour_hub_path(hub)) != NULL);
    GIVES(parlour_hub_next_event(hub, 0, &event), PARLOUR_TIMED_OUT);
    GIVES(parlour_hub_next_event(hub, 10, &event), PARLOUR_TIMED_OUT);
    CHECK(event.kind == PARLOUR_EVENT_NONE);
    check_stats(hub, 0, 0, 0);
    for (int i = 0; i < CLIENTS; i++)
        children[i] = start(i == 0 ? talk_from_afar : talk);
    /* Forked now, because valgrind reports memory of the hub that a later child inherits as possibly lost. */
    CHECK(pipe(turn) == 0);
    children[CLIENTS] = start(be_refused);
    while (left < CLIENTS) {
        struct pollfd fd = {.fd = parlour_hub_fd(hub), .events = POLLIN};
        parlour_status status;

        while ((status = parlour_hub_next_event(hub, 0, &event)) == PARLOUR_OK) {
            switch (event.kind) {
            case PARLOUR_EVENT_JOINED:
                CHECK(event.client > 0 && event.peer.uid == (int64_t)geteuid());
                OK(parlour_hub_peer(hub, event.client, &peer));
                CHECK(memcmp(&peer.uid, &event.peer.uid, sizeof peer.uid) == 0);
                OK(parlour_hub_origin(hub, event.client, &origin));
                if (event.origin != NULL) {
                    CHECK(strcmp(event.origin->host, "a.example") == 0 && event.origin->uid == 1000);
                    CHECK(strcmp(event.origin->host, origin.host) == 0 && from_a == 0);
                    from_a = event.client;
                }
                CHECK((origin.host[0] == 0) == (event.origin == NULL));
                CHECK(parlour_hub_transport(hub, event.client) != PARLOUR_TRANSPORT_NONE);
                break;
            case PARLOUR_EVENT_MESSAGE:
                answer(hub, event.client, event.message);
                parlour_message_free(event.message);
                if (++heard == CLIENTS)
                    CHECK(write(turn[1], "x", 1) == 1);
                break;
            case PARLOUR_EVENT_REFUSED:
                CHECK(++refused == 1 && event.refusal == PARLOUR_REFUSAL_POLICY && strlen(event.text) > 0);
                CHECK(event.peer.uid == (int64_t)geteuid() && event.client == 0);
                CHECK(strcmp(event.origin->host, "b.example") == 0 && event.origin->pid == 7);
                check_stats(hub, CLIENTS, CLIENTS, 1);
                tell_all(hub);
                break;
            case PARLOUR_EVENT_FINISHED:
                OK(parlour_hub_finish(hub, event.client));
                break;
            case PARLOUR_EVENT_LEFT:
                CHECK(event.reason == PARLOUR_DISCONNECT_CLOSED && event.status == PARLOUR_OK && strlen(event.text) > 0);
                /* These do nothing for a client that has left. */
                OK(parlour_hub_send(hub, event.client, "x", 1));
                OK(parlour_hub_disconnect(hub, event.client));
                CHECK(parlour_hub_peer(hub, event.client, &peer) == PARLOUR_DISCONNECTED);
                CHECK(parlour_hub_origin(hub, event.client, &origin) == PARLOUR_DISCONNECTED && event.origin == NULL);
                CHECK(parlour_hub_transport(hub, event.client) == PARLOUR_TRANSPORT_NONE);
                left++;
                break;
            default:
                CHECK(!"an unexpected event");
            }
        }
        CHECK(status == PARLOUR_TIMED_OUT);
        if (left < CLIENTS)
            CHECK(poll(&fd, 1, 30000) == 1);
    }
    for (int i = 0; i <= CLIENTS; i++)
        check_child(children[i]);
    check_stats(hub, CLIENTS, 0, 1);
    CHECK(from_a != 0 && asked == CLIENTS + 1);
    OK(parlour_hub_shutdown_handle(hub, &shutdown));
    parlour_shutdown_ask(shutdown);
    parlour_shutdown_free(shutdown);
    CHECK(parlour_hub_next_event(hub, -1, &event) == PARLOUR_SHUTDOWN);
    OK(parlour_hub_close(hub, 1000));
    return 0;
}
