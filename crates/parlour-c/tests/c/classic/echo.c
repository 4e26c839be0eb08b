/* Messages of many lengths return whole. An empty message is distinguished from the end of the stream. */
#include "classic.h"

#define LONGEST (3 * 1024 * 1024)

static const size_t lengths[] = {1, 5, 4096, 65536, 70000, 0, 1, LONGEST, 0, 7};
#define COUNT (sizeof lengths / sizeof lengths[0])

static void serve(server_t *server)
{
    channel_t client;
    unsigned char *buffer = malloc(LONGEST);
    int length;

    CHECK(buffer != NULL);
    CHECK(ACCEPT(*server, client) == 0);
    while ((length = recv_info(CHANNEL(client), buffer, LONGEST)) > 0 || (length == 0 && errno == ENOMSG))
        CHECK(send_info(CHANNEL(client), buffer, (size_t)length) == length);
    CHECK(length == 0 && errno == 0);
    disconnect_from(CHANNEL(client));
    free(buffer);
}

static void ask(const char *name)
{
    channel_t server;
    unsigned char *message = malloc(LONGEST), *reply = malloc(LONGEST);

    CHECK(message != NULL && reply != NULL);
    CHECK(CONNECT(name, server) == 0);
    for (unsigned i = 0; i < COUNT; i++) {
        fill(message, lengths[i], i);
        CHECK(send_info(CHANNEL(server), message, lengths[i]) == (int)lengths[i]);
        errno = 77;
        CHECK(recv_info(CHANNEL(server), reply, LONGEST) == (int)lengths[i]);
        CHECK(errno == (lengths[i] == 0 ? ENOMSG : 0));
        CHECK(is_filled(reply, lengths[i], i));
    }
    disconnect_from(CHANNEL(server));
    free(message);
    free(reply);
}

int main(int argc, char **argv)
{
    server_t server;
    pid_t child;

    CHECK(argc == 2);
    alarm(100);
    CHECK(OPEN_SERVER(argv[1], server) == 0);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        ask(argv[1]);
        return 0;
    }
    serve(&server);
    check_child(child);
    destroy_server(SERVER(server));
    return 0;
}
