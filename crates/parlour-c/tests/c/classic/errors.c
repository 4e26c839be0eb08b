/* Each failure sets errno and the error text, and has no other effect. */
#include "classic.h"
#include <sys/socket.h>
#include <fcntl.h>

static void names(const char *name)
{
    server_t server, other;
    channel_t channel;
    static const char *const bad[] = {"", "..", ".hidden", "a/b", "a b", "nothing:name", "/", "packet:name"};

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK_FAILS(OPEN_SERVER(bad[i], server), EINVAL);
        CHECK_FAILS(CONNECT(bad[i], channel), EINVAL);
    }
    CHECK_FAILS(CONNECT("\xff\xfe", channel), EINVAL);
    CHECK_FAILS(CONNECT(name, channel), ENOENT);
    CHECK(strstr(parlour_error_message(), "start the server") != NULL);
    CHECK(OPEN_SERVER(name, server) == 0);
    CHECK_FAILS(OPEN_SERVER(name, other), EADDRINUSE);
    CHECK(strstr(parlour_error_message(), "held by") != NULL);
    destroy_server(SERVER(server));
    CHECK_FAILS(ACCEPT(server, channel), EBADF);
    destroy_server(SERVER(server));
    CHECK_FAILS(CONNECT(name, channel), ENOENT);
}

static void ends(const char *name)
{
    pair_t pair;
    char buffer[8] = "";

    /* The peer has disconnected: each receive returns the end of the stream, and sending raises no signal. */
    open_pair(name, &pair);
    disconnect_from(CHANNEL(pair.client));
    ENDED(pair.served);
    ENDED(pair.served);
    CHECK_FAILS(SEND(pair.served, "x"), EPIPE);
    CHECK_FAILS(SEND(pair.served, "x"), EPIPE);

    /* A handle that was disconnected. */
    CHECK_FAILS(SEND(pair.client, "x"), EBADF);
    CHECK_FAILS(recv_info(CHANNEL(pair.client), buffer, sizeof buffer), EBADF);
    disconnect_from(CHANNEL(pair.client));
    close_pair(&pair);

    /* The peer disconnects in the middle of a length, and in the middle of a message. */
    for (int cut = 1; cut < 7; cut++) {
        open_pair(name, &pair);
        CHECK(write(SEND_FD(pair.client), "\0\0\0\3ab", (size_t)cut) == cut);
        disconnect_from(CHANNEL(pair.client));
        CHECK_FAILS(recv_info(CHANNEL(pair.served), buffer, sizeof buffer), ECONNABORTED);
        close_pair(&pair);
    }

#ifndef FIFO
    /* The server refuses this client. */
    for (const char *notice = "\x81\x82\x83"; *notice; notice++) {
        open_pair(name, &pair);
        CHECK(send(SEND_FD(pair.served), notice, 1, MSG_OOB) == 1);
        disconnect_from(CHANNEL(pair.served));
        CHECK_FAILS(recv_info(CHANNEL(pair.client), buffer, sizeof buffer), *notice == '\x81' ? ECONNREFUSED : EBUSY);
        close_pair(&pair);
    }
#endif

    /* The peer announces a message longer than the limit. */
    open_pair(name, &pair);
    CHECK(write(SEND_FD(pair.client), "\1\0\0\1", 4) == 4);
    CHECK_FAILS(recv_info(CHANNEL(pair.served), buffer, sizeof buffer), EBADMSG);
    CHECK_FAILS(recv_info(CHANNEL(pair.served), buffer, sizeof buffer), EBADMSG);
    close_pair(&pair);

    /* A length that arrives byte by byte is received. */
    open_pair(name, &pair);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        for (int i = 0; i < 6; i++) {
            CHECK(write(SEND_FD(pair.client), &"\0\0\0\2ok"[i], 1) == 1);
            usleep(20000);
        }
        _exit(0);
    }
    RECEIVED(pair.served, "ok");
    check_child(child);
    close_pair(&pair);
}

#ifndef FIFO
static void non_blocking(const char *name)
{
    pair_t pair;
    char buffer[8] = "";
    static char large[1024 * 1024];

    open_pair(name, &pair);
    CHECK((fcntl(pair.served, F_GETFL) & O_NONBLOCK) == 0);
    CHECK((fcntl(pair.served, F_GETFD) & FD_CLOEXEC) != 0);
    CHECK(fcntl(pair.served, F_SETFL, O_NONBLOCK) == 0);
    CHECK_FAILS(recv_info(pair.served, buffer, sizeof buffer), EAGAIN);
    SENT(pair.client, "x");
    RECEIVED(pair.served, "x");
    /* A part of a length is not a message. */
    CHECK(write(pair.client, "\0\0", 2) == 2);
    CHECK_FAILS(recv_info(pair.served, buffer, sizeof buffer), EAGAIN);
    CHECK(write(pair.client, "\0\1y", 3) == 3);
    RECEIVED(pair.served, "y");

    /* A full channel. A message of which a part was sent is sent in full, so only small messages are tried. */
    int sent = 0;
    while (send_info(pair.served, large, 1000) == 1000)
        sent++;
    CHECK(errno == EAGAIN && sent > 10);
    for (int i = 0; i < sent; i++)
        CHECK(recv_info(pair.client, large, sizeof large) == 1000);
    SENT(pair.served, "room again");
    RECEIVED(pair.client, "room again");

    /* Descriptors that are not handles are not closed. */
    int file = open("/dev/null", O_RDWR);
    CHECK(file >= 0);
    CHECK_FAILS(recv_info(file, buffer, sizeof buffer), ENOTSOCK);
    CHECK_FAILS(send_info(file, buffer, 1), ENOTSOCK);
    CHECK_FAILS(accept_client(file), EBADF);
    disconnect_from(file);
    destroy_server(file);
    CHECK(fcntl(file, F_GETFD) >= 0);
    CHECK_FAILS(accept_client(pair.client), EBADF);
    destroy_server(pair.client);
    SENT(pair.client, "still here");
    CHECK_FAILS(recv_info(-1, buffer, sizeof buffer), EBADF);
    CHECK_FAILS(send_info(-1, buffer, 1), EBADF);
    CHECK_FAILS(accept_client(-1), EBADF);
    disconnect_from(-1);
    destroy_server(-1);

    /* The number of a duplicate of a server that was closed, while the server goes on. */
    int number = dup(pair.server);
    CHECK(number >= 0);
    close(number);
    close(file);
    close_pair(&pair);
}
#endif

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    alarm(100);
    CHECK(strcmp(parlour_error_message(), "") == 0);
    names(argv[1]);
    ends(argv[1]);
#ifndef FIFO
    non_blocking(argv[1]);
#endif
    return 0;
}
