/* A server in one thread: poll(2) reports every client and every message, because nothing is read ahead. */
#include "classic.h"
#include <fcntl.h>
#include <poll.h>

#define CLIENTS 3
#define ROUNDS 10

static void ask(const char *name, unsigned number)
{
    channel_t server;
    char text[64];

    CHECK(CONNECT(name, server) == 0);
    for (int round = 0; round < ROUNDS; round++) {
        /* Two messages together: the second one must not be missed. */
        for (int part = 0; part < 2; part++) {
            snprintf(text, sizeof text, "client %u round %d part %d", number, round, part);
            SENT(server, text);
        }
        for (int part = 0; part < 2; part++) {
            snprintf(text, sizeof text, "client %u round %d part %d", number, round, part);
            RECEIVED(server, text);
        }
    }
    disconnect_from(CHANNEL(server));
}

int main(int argc, char **argv)
{
    server_t server;
    channel_t clients[CLIENTS];
    struct pollfd fds[1 + CLIENTS];
    pid_t children[CLIENTS];
    int joined = 0, left = 0;

    CHECK(argc == 2);
    alarm(100);
    CHECK(OPEN_SERVER(argv[1], server) == 0);
    fds[0] = (struct pollfd){.fd = SERVER_FD(server), .events = POLLIN};
    CHECK(poll(fds, 1, 0) == 0);
    for (unsigned i = 0; i < CLIENTS; i++)
        if ((children[i] = fork()) == 0) {
            ask(argv[1], i);
            return 0;
        }
    /* A poll loop accepts without blocking: over FIFOs the server is readable before a client has connected. */
    CHECK(fcntl(SERVER_FD(server), F_SETFL, O_NONBLOCK) == 0);
    while (left < CLIENTS) {
        CHECK(poll(fds, (nfds_t)(1 + joined), 30000) > 0);
        for (int i = 0; i < joined; i++) {
            char buffer[64];
            int length;

            if (fds[1 + i].revents == 0)
                continue;
            length = recv_info(CHANNEL(clients[i]), buffer, sizeof buffer);
            CHECK(length >= 0);
            if (length > 0) {
                CHECK(send_info(CHANNEL(clients[i]), buffer, (size_t)length) == length);
                continue;
            }
            disconnect_from(CHANNEL(clients[i]));
            fds[1 + i].fd = -1;
            left++;
        }
        if (fds[0].revents != 0 && joined < CLIENTS) {
            if (ACCEPT(server, clients[joined]) == 0) {
                fds[1 + joined] = (struct pollfd){.fd = RECV_FD(clients[joined]), .events = POLLIN};
                joined++;
            } else {
                CHECK(errno == EAGAIN);
            }
        }
    }
    for (int i = 0; i < CLIENTS; i++)
        check_child(children[i]);
    /* The descriptor may report a timer of the server, which accepting clears. */
    CHECK_FAILS(ACCEPT(server, clients[0]), EAGAIN);
    CHECK(poll(fds, 1, 0) == 0);
    destroy_server(SERVER(server));
    return 0;
}
