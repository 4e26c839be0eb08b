/* The functions of parlour.h over one transport, with a server and its client in one process. */
#include "pair.h"
#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>

static void messages(parlour_connection *client, parlour_connection *served)
{
    static unsigned char large[2 * 1024 * 1024], back[sizeof large];
    struct iovec parts[] = {{(void *)"in ", 3}, {NULL, 0}, {(void *)"parts", 5}};
    parlour_payload payload = {.parts = parts, .part_count = 3};
    parlour_message *message = (parlour_message *)1;
    char small[4] = "...";
    size_t length = 99;

    GIVES(parlour_recv(served, 0, &message), PARLOUR_TIMED_OUT);
    CHECK(message == NULL);
    GIVES(parlour_recv(served, 10, &message), PARLOUR_TIMED_OUT);
    OK(parlour_send(client, "hello", 5, -1));
    received(served, "hello");
    OK(parlour_send(client, NULL, 0, 1000));
    received(served, "");
    OK(parlour_send_payload(client, &payload, -1));
    received(served, "in parts");

    OK(parlour_send(client, "longer", 6, 0));
    GIVES(parlour_recv_into(served, small, sizeof small, &length, 30000), PARLOUR_BUFFER_TOO_SMALL);
    CHECK(length == 6 && strcmp(small, "...") == 0 && parlour_has_message(served));
    OK(parlour_recv_into(served, back, sizeof back, &length, 0));
    CHECK(length == 6 && memcmp(back, "longer", 6) == 0 && !parlour_has_message(served));

    OK(parlour_feed(client, "fed", 3, -1));
    OK(parlour_feed(client, "and fed", 7, -1));
    OK(parlour_flush(client, -1));
    OK(parlour_flush(client, 0));
    received(served, "fed");
    received(served, "and fed");

    /* A channel that the peer does not read becomes full. No message is lost by that. */
    fill(large, sizeof large, 1);
    int sent = 0;
    while (parlour_send(client, large, sizeof large, 0) == PARLOUR_OK)
        sent++;
    CHECK(sent > 0);
    for (int i = 0; i < sent; i++) {
        if (i == 0)
            CHECK(parlour_flush(client, 0) == PARLOUR_OK || parlour_flush(client, 0) == PARLOUR_TIMED_OUT);
        parlour_status status;
        while ((status = parlour_recv_into(served, back, sizeof back, &length, 1)) == PARLOUR_TIMED_OUT)
            (void)parlour_flush(client, 0);
        CHECK(status == PARLOUR_OK && length == sizeof large && is_filled(back, length, 1));
    }
    GIVES(parlour_send(client, large, (size_t)17 * 1024 * 1024, -1), PARLOUR_MESSAGE_TOO_LONG);
}

static void identity(parlour_connection *client, parlour_connection *served, const char *name)
{
    parlour_peer peer;
    parlour_origin origin;
    parlour_capabilities can;
    int pidfd;

    OK(parlour_connection_peer(served, &peer));
    CHECK(peer.pid == (int64_t)getpid() && peer.uid == (int64_t)geteuid());
    OK(parlour_connection_origin(served, &origin));
    CHECK(strcmp(origin.host, "a.example") == 0 && strcmp(origin.program, "wc\xef\xbf\xbd") == 0);
    CHECK(origin.uid == 1000 && origin.pid == -1);
    OK(parlour_connection_origin(client, &origin));
    CHECK(origin.host[0] == 0 && origin.program[0] == 0 && origin.uid == -1);
    OK(parlour_connection_capabilities(served, &can));
    CHECK(can.message_max == 16 * 1024 * 1024);
    parlour_transport transport = parlour_connection_transport(served);
    if (strncmp(name, "fifo", 4) == 0) {
        CHECK(transport == PARLOUR_TRANSPORT_FIFO && !can.credentials && peer.gid == -1);
        CHECK(peer.uid_provenance == PARLOUR_PROVENANCE_FILE_OWNER && peer.gid_provenance == PARLOUR_PROVENANCE_UNKNOWN);
        GIVES(parlour_connection_pidfd(served, &pidfd), PARLOUR_UNSUPPORTED);
        CHECK(pidfd == -1);
    } else {
        CHECK(peer.uid_provenance == PARLOUR_PROVENANCE_KERNEL && can.credentials && can.zero_copy);
        CHECK(transport == (strncmp(name, "unix", 4) == 0     ? PARLOUR_TRANSPORT_UNIX
                            : strncmp(name, "packet", 6) == 0 ? PARLOUR_TRANSPORT_PACKET
                                                              : PARLOUR_TRANSPORT_SHM));
        if (parlour_connection_pidfd(served, &pidfd) == PARLOUR_OK)
            close(pidfd);
        /* Without a free descriptor the call fails. Valgrind keeps descriptors for itself, so the call succeeds there. */
        struct rlimit limit, none;
        CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
        none = limit;
        none.rlim_cur = 0;
        CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
        parlour_status status = parlour_connection_pidfd(served, &pidfd);
        int number = parlour_error_errno();
        CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
        if (status == PARLOUR_OK)
            close(pidfd);
        else
            CHECK(status == PARLOUR_UNSUPPORTED || (status == PARLOUR_IO && number == EMFILE));
    }
}

static void waiting(parlour_connection *client, parlour_connection *served)
{
    struct pollfd fd = {.fd = parlour_connection_recv_fd(served), .events = POLLIN};
    parlour_message *message;

    CHECK(fd.fd >= 0 && parlour_connection_send_fd(client) >= 0);
    GIVES(parlour_recv(served, 0, &message), PARLOUR_TIMED_OUT);
    CHECK(poll(&fd, 1, 0) == 0);
    OK(parlour_send(client, "wake up", 7, -1));
    CHECK(poll(&fd, 1, 30000) == 1);
    received(served, "wake up");
}

static void fill_block(void *data, size_t length, void *user)
{
    fill(data, length, *(unsigned *)user);
}

static void descriptors(parlour_connection *client, parlour_connection *served)
{
    parlour_capabilities can;
    parlour_message *message;
    int pipe_fds[2], taken[2];
    size_t count;
    char byte;

    OK(parlour_connection_capabilities(client, &can));
    CHECK(pipe(pipe_fds) == 0);
    parlour_payload with_fds = {.data = "two", .length = 3, .fds = pipe_fds, .fd_count = 2};
    if (!can.descriptors) {
        GIVES(parlour_send_payload(client, &with_fds, -1), PARLOUR_UNSUPPORTED);
    } else {
        OK(parlour_send_payload(client, &with_fds, 1000));
        OK(parlour_recv(served, 30000, &message));
        CHECK(parlour_message_fd_count(message) == 2);
        GIVES(parlour_message_take_fds(message, taken, 1, &count), PARLOUR_BUFFER_TOO_SMALL);
        CHECK(count == 2);
        OK(parlour_message_take_fds(message, taken, 2, &count));
        CHECK(count == 2 && parlour_message_fd_count(message) == 0);
        parlour_message_free(message);
        CHECK(write(taken[1], "x", 1) == 1 && read(pipe_fds[0], &byte, 1) == 1 && byte == 'x');
        close(taken[0]);
        close(taken[1]);
    }
    close(pipe_fds[0]);
    close(pipe_fds[1]);

    parlour_shared *block, *other;
    unsigned seed = 7;
    OK(parlour_shared_build(100000, fill_block, &seed, &block));
    CHECK(parlour_shared_length(block) == 100000 && is_filled(parlour_shared_data(block), 100000, 7));
    CHECK(parlour_shared_fd(block) >= 0);
    OK(parlour_shared_clone(block, &other));
    parlour_shared_free(other);
    const parlour_shared *sent[] = {block};
    parlour_payload with_block = {.data = "a block", .length = 7, .blocks = sent, .block_count = 1};
    if (!can.zero_copy) {
        GIVES(parlour_send_payload(client, &with_block, -1), PARLOUR_UNSUPPORTED);
    } else {
        OK(parlour_send_payload(client, &with_block, -1));
        OK(parlour_recv(served, 30000, &message));
        OK(parlour_message_take_shared(message, &other, 1, &count));
        CHECK(count == 1 && is_filled(parlour_shared_data(other), 100000, 7));
        parlour_message_free(message);
        parlour_shared_free(other);
    }
    int copy = dup(parlour_shared_fd(block));
    OK(parlour_shared_from_fd(copy, &other));
    parlour_shared_free(other);
    parlour_shared_free(block);
    OK(parlour_shared_new("abc", 3, &block));
    CHECK(memcmp(parlour_shared_data(block), "abc", 3) == 0);
    parlour_shared_free(block);
    GIVES(parlour_shared_from_fd(open("/dev/null", O_RDONLY), &other), PARLOUR_PROTOCOL);
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

static void halves(parlour_server *server)
{
    parlour_connection *client, *served, *sending, *receiving, *none, *other;
    parlour_message *message;
    pthread_t thread;
    void *count;

    connect_pair(server, &client, &served);
    OK(parlour_connection_split(client, &sending, &receiving));
    GIVES(parlour_connection_split(sending, &none, &other), PARLOUR_UNSUPPORTED);
    GIVES(parlour_recv(sending, 0, &message), PARLOUR_UNSUPPORTED);
    GIVES(parlour_send(receiving, "x", 1, 0), PARLOUR_UNSUPPORTED);
    CHECK(pthread_create(&thread, NULL, receive_all, receiving) == 0);
    for (int i = 0; i < 10; i++) {
        OK(parlour_send(sending, "to", 2, -1));
        received(served, "to");
        OK(parlour_send(served, "fro", 3, -1));
    }
    OK(parlour_finish(served, -1));
    CHECK(pthread_join(thread, &count) == 0 && *(size_t *)count == 10);
    free(count);
    OK(parlour_connection_close(sending, -1));
    CHECK(parlour_recv(served, 30000, &message) == PARLOUR_END && message == NULL);
    parlour_connection_free(receiving);
    parlour_connection_free(served);
}

static void closed(parlour_server *server)
{
    parlour_connection *client, *served, *sending, *receiving;

    connect_pair(server, &client, &served);
    OK(parlour_send(client, "sent", 4, -1));
    GIVES(parlour_connection_wait_closed(served, 0), PARLOUR_TIMED_OUT);
    GIVES(parlour_connection_wait_closed(served, 5), PARLOUR_TIMED_OUT);
    OK(parlour_connection_close(client, -1));
    OK(parlour_connection_wait_closed(served, -1));
    OK(parlour_connection_wait_closed(served, 0));
    received(served, "sent");
    OK(parlour_connection_split(served, &sending, &receiving));
    GIVES(parlour_connection_wait_closed(sending, 0), PARLOUR_UNSUPPORTED);
    parlour_connection_free(sending);
    parlour_connection_free(receiving);
}

static void aborted(parlour_server *server)
{
    parlour_connection *client, *served, *sending, *receiving;
    parlour_message *message;

    connect_pair(server, &client, &served);
    OK(parlour_send(client, "sent", 4, -1));
    parlour_connection_abort(client);
    received(served, "sent");
    GIVES(parlour_recv(served, 30000, &message), PARLOUR_TRUNCATED);
    CHECK(message == NULL);
    parlour_connection_free(served);

    connect_pair(server, &client, &served);
    OK(parlour_connection_split(served, &sending, &receiving));
    parlour_connection_abort(sending);
    GIVES(parlour_recv(client, 30000, &message), PARLOUR_TRUNCATED);
    OK(parlour_send(client, "still here", 10, -1));
    received(receiving, "still here");
    parlour_connection_abort(receiving);
    parlour_connection_free(client);
    parlour_connection_abort(NULL);
}

static void without_a_server(void)
{
    parlour_transport transport = strncmp(address, "unix", 4) == 0     ? PARLOUR_TRANSPORT_UNIX
                                  : strncmp(address, "packet", 6) == 0 ? PARLOUR_TRANSPORT_PACKET
                                  : strncmp(address, "fifo", 4) == 0   ? PARLOUR_TRANSPORT_FIFO
                                                                       : PARLOUR_TRANSPORT_SHM;
    parlour_connect_options *options = parlour_connect_options_new();
    parlour_connection *one, *other = (parlour_connection *)1;
    parlour_message *message;
    parlour_peer peer;

    GIVES(parlour_connection_pair(-1, NULL, &one, &other), PARLOUR_INVALID_ARGUMENT);
    CHECK(one == NULL && other == NULL);
    OK(parlour_connect_options_message_max(options, 5));
    OK(parlour_connection_pair(transport, options, &one, &other));
    parlour_connect_options_free(options);
    CHECK(parlour_connection_transport(one) == transport);
    OK(parlour_connection_peer(one, &peer));
    CHECK(peer.pid == (int64_t)getpid() && peer.uid == (int64_t)geteuid());
    OK(parlour_send(one, "hello", 5, -1));
    received(other, "hello");
    GIVES(parlour_send(other, "longer", 6, -1), PARLOUR_MESSAGE_TOO_LONG);
    OK(parlour_send(other, "", 0, -1));
    received(one, "");
    OK(parlour_connection_close(other, -1));
    CHECK(parlour_recv(one, 30000, &message) == PARLOUR_END);
    parlour_connection_free(one);
}

static bool admit_none(const parlour_peer *peer, const parlour_origin *origin, void *user)
{
    CHECK(peer->uid == (int64_t)geteuid() && origin == NULL);
    ++*(int *)user;
    return false;
}

static void refusal(void)
{
    parlour_server_options *options = parlour_server_options_new();
    parlour_server *server;
    parlour_connection *client;
    parlour_stats stats = {.accepted = 1, .open = 1, .refused = 1};
    parlour_refusal refused;
    int asked = 0;
    size_t count;

    OK(parlour_server_options_allow(options, admit_none, &asked));
    OK(parlour_server_options_memory_max(options, 9 << 20, 8 << 20));
    OK(parlour_server_options_connections_max(options, 7, 6));
    OK(parlour_server_options_stats(options, false));
    OK(parlour_server_bind(address, options, &server));
    parlour_server_options_free(options);
    CHECK(!parlour_server_next_refusal(server, &refused));
    CHECK(!parlour_server_next_refusal(server, NULL) && !parlour_server_next_refusal(NULL, &refused));
    pid_t child = fork();
    if (child == 0) {
        parlour_message *message;
        parlour_status status = parlour_connect(address, NULL, &client);
        if (status == PARLOUR_OK)
            status = parlour_recv(client, 30000, &message);
        _exit(status == PARLOUR_REFUSED ? 0 : 1);
    }
    while (asked == 0)
        GIVES(parlour_server_accept(server, 10, &client), PARLOUR_TIMED_OUT);
    OK(parlour_server_stats(server, &stats));
    CHECK(stats.accepted == 0 && stats.open == 0 && stats.refused == 1);
    CHECK(stats.connections_max == 7 && stats.connections_per_uid_max == 6);
    CHECK(stats.memory == 0 && stats.memory_max == 9 << 20 && stats.memory_per_uid_max == 8 << 20);
    for (int reason = -1; reason < 100; reason++)
        CHECK(parlour_server_refused_by(server, reason) == (reason == PARLOUR_REFUSAL_POLICY));
    CHECK(parlour_server_next_refusal(server, &refused));
    CHECK(refused.reason == PARLOUR_REFUSAL_POLICY && refused.peer.uid == (int64_t)geteuid());
    CHECK(strstr(refused.text, "policy") != NULL);
    CHECK(!parlour_server_next_refusal(server, &refused));
    GIVES(parlour_name_stats(address, NULL, &stats, NULL, 0, &count), PARLOUR_UNSUPPORTED);
    check_child(child);
    OK(parlour_server_close(server));
}

static void counters(parlour_server *server, parlour_connection *client, parlour_connection *served)
{
    parlour_stats before, stats;
    parlour_client_stats clients[2];
    char buffer[16], nobody[4096];
    size_t length, count = 9;

    OK(parlour_server_stats(server, &before));
    OK(parlour_send(client, "hello", 5, -1));
    OK(parlour_recv_into(served, buffer, sizeof buffer, &length, -1));
    OK(parlour_name_stats(address, NULL, &stats, clients, 2, &count));
    CHECK(count == 1 && stats.accepted == 1 && stats.open == 1 && stats.memory_max == 0);
    CHECK(stats.received.messages == before.received.messages + 1);
    CHECK(stats.received.bytes == before.received.bytes + 5 && stats.sent.bytes == before.sent.bytes);
    CHECK(clients[0].number == 1 && clients[0].pid > 0 && clients[0].uid == (int64_t)geteuid());
    CHECK(clients[0].transport != PARLOUR_TRANSPORT_NONE && clients[0].held == 0);
    CHECK(clients[0].received.bytes == stats.received.bytes && clients[0].sending == PARLOUR_WAIT_NONE);
    CHECK(strcmp(clients[0].origin.host, "a.example") == 0 && clients[0].origin.uid == 1000);
    OK(parlour_name_stats(address, NULL, &stats, NULL, 0, &count));
    CHECK(count == 1);
    parlour_connect_options *options = parlour_connect_options_new();
    OK(parlour_connect_options_server_uid(options, (uint32_t)geteuid() + 1));
    /* The server is not of the expected user. */
    CHECK(parlour_name_stats(address, options, &stats, NULL, 0, &count) != PARLOUR_OK);
    OK(parlour_connect_options_server_uid(options, geteuid()));
    OK(parlour_name_stats(address, options, &stats, NULL, 0, &count));
    CHECK(count == 1);
    parlour_connect_options_free(options);
    CHECK(snprintf(nobody, sizeof nobody, "%s-nobody", address) > 0);
    GIVES(parlour_name_stats(nobody, NULL, &stats, NULL, 0, &count), PARLOUR_NO_SERVER);
}

static void *accept_until_shutdown(void *server)
{
    parlour_connection *client;

    CHECK(parlour_server_accept(server, -1, &client) == PARLOUR_SHUTDOWN && client == NULL);
    return NULL;
}

int main(int argc, char **argv)
{
    parlour_server_options *options = parlour_server_options_new();
    parlour_server *server, *second;
    parlour_connection *client, *served;
    parlour_shutdown *shutdown;
    parlour_stats stats;
    pthread_t thread;

    CHECK(argc == 2);
    alarm(100);
    address = argv[1];
    GIVES(parlour_connect(address, NULL, &client), PARLOUR_NO_SERVER);
    GIVES(parlour_server_bind("no/name", NULL, &server), PARLOUR_INVALID_NAME);
    OK(parlour_server_options_fds_max(options, 1000));
    GIVES(parlour_server_bind(address, options, &server), PARLOUR_INVALID_OPTION);
    OK(parlour_server_options_fds_max(options, 4));
    OK(parlour_server_options_group(options, (uint32_t)-1));
    GIVES(parlour_server_bind(address, options, &server), PARLOUR_INVALID_OPTION);
    OK(parlour_server_options_group(options, getegid()));
    OK(parlour_server_bind(address, options, &server));
    parlour_server_options_free(options);
    GIVES(parlour_server_bind(address, NULL, &second), PARLOUR_NAME_IN_USE);
    CHECK(second == NULL);
    CHECK(strcmp(parlour_server_name(server), "name") == 0);
    CHECK(strstr(address, parlour_server_path(server)) != NULL);
    CHECK(parlour_server_fd(server) >= 0);
    connect_options = parlour_connect_options_new();
    OK(parlour_connect_options_fds_max(connect_options, 4));
    OK(parlour_connect_options_wait_for_server(connect_options, 30000));
    GIVES(parlour_connect_options_origin(connect_options, "a", (int64_t)1 << 32, -1, NULL), PARLOUR_INVALID_ARGUMENT);
    OK(parlour_connect_options_origin(connect_options, "a.example", 1000, -1, "wc\n"));

    connect_pair(server, &client, &served);
    OK(parlour_server_stats(server, &stats));
    CHECK(stats.accepted == 1 && stats.open > 0 && stats.refused == 0);
    messages(client, served);
    counters(server, client, served);
    identity(client, served, address);
    waiting(client, served);
    descriptors(client, served);
    OK(parlour_connection_close(client, 30000));
    parlour_message *message;
    CHECK(parlour_recv(served, 30000, &message) == PARLOUR_END);
    GIVES(parlour_send(served, "x", 1, -1), PARLOUR_DISCONNECTED);
    parlour_connection_free(served);

    halves(server);
    closed(server);
    aborted(server);

    OK(parlour_server_shutdown_handle(server, &shutdown));
    CHECK(pthread_create(&thread, NULL, accept_until_shutdown, server) == 0);
    parlour_shutdown_ask(shutdown);
    CHECK(pthread_join(thread, NULL) == 0);
    parlour_server_shutdown(server);
    OK(parlour_server_close(server));
    parlour_shutdown_ask(shutdown);
    parlour_shutdown_free(shutdown);

    without_a_server();
    refusal();
    parlour_connect_options_free(connect_options);
    return 0;
}
