/* One child process per client. The child goes on with its connection after the parent has closed its copy, and it
 * neither keeps nor releases the name. The parent's accept_client goes on after SIGCHLD. */
#include "classic.h"

#define CLIENTS 4

static volatile sig_atomic_t reaped, failed;

static void reap(int signal)
{
    int before = errno, status;
    (void)signal;
    while (waitpid(-1, &status, WNOHANG) > 0) {
        reaped++;
        if (status != 0)
            failed++;
    }
    errno = before;
}

static void ask(const char *name, int number)
{
    channel_t server;
    char text[32];

    CHECK(CONNECT(name, server) == 0);
    for (int i = 0; i < 5; i++) {
        snprintf(text, sizeof text, "client %d: %d", number, i);
        SENT(server, text);
        RECEIVED(server, text);
    }
    disconnect_from(CHANNEL(server));
}

static void serve(server_t *server, channel_t *client)
{
    char buffer[64];
    int length;
    channel_t nobody;

    /* In the child the server belongs to the parent. */
    CHECK_FAILS(ACCEPT(*server, nobody), ESTALE);
    destroy_server(SERVER(*server));
    while ((length = recv_info(CHANNEL(*client), buffer, sizeof buffer)) > 0)
        CHECK(send_info(CHANNEL(*client), buffer, (size_t)length) == length);
    CHECK(length == 0);
    disconnect_from(CHANNEL(*client));
    exit(0);
}

int main(int argc, char **argv)
{
    server_t server, other;
    pid_t asking;

    CHECK(argc == 2);
    alarm(100);
    CHECK(signal(SIGCHLD, reap) != SIG_ERR);
    CHECK(OPEN_SERVER(argv[1], server) == 0);
    asking = fork();
    CHECK(asking >= 0);
    if (asking == 0) {
        CHECK(signal(SIGCHLD, SIG_DFL) != SIG_ERR);
        pid_t children[CLIENTS];
        for (int i = 0; i < CLIENTS; i++)
            if ((children[i] = fork()) == 0) {
                ask(argv[1], i);
                exit(0);
            }
        for (int i = 0; i < CLIENTS; i++)
            check_child(children[i]);
        exit(0);
    }
    for (int i = 0; i < CLIENTS; i++) {
        channel_t client;
        pid_t child;

        CHECK(ACCEPT(server, client) == 0);
        child = fork();
        CHECK(child >= 0);
        if (child == 0)
            serve(&server, &client);
        /* An int may be closed with close(2), a struct only with disconnect_from. */
#ifdef FIFO
        disconnect_from(&client);
#else
        if (i % 2 == 0)
            close(client);
        else
            disconnect_from(client);
#endif
    }
    while (reaped < CLIENTS + 1)
        usleep(1000);
    CHECK(failed == 0);
    /* The children that destroyed their copies of the server did not release the name. */
    CHECK_FAILS(OPEN_SERVER(argv[1], other), EADDRINUSE);
    destroy_server(SERVER(server));
    CHECK(OPEN_SERVER(argv[1], other) == 0);
    destroy_server(SERVER(other));
    return 0;
}
