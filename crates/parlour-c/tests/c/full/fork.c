/* A process forks while another thread holds the lock of the server. In the child every call returns. */
#include "pair.h"

static int parked[2], go_on[2];

static void latch_wait(const int *latch)
{
    char byte;
    CHECK(read(latch[0], &byte, 1) == 1);
}

static void latch_open(const int *latch)
{
    CHECK(write(latch[1], "x", 1) == 1);
}

/* The policy is called while the server works. It lets the client in when the children have ended. */
static bool park(const parlour_peer *peer, const parlour_origin *origin, void *user)
{
    (void)peer;
    (void)origin;
    (void)user;
    latch_open(parked);
    latch_wait(go_on);
    return true;
}

static void *accept_one(void *server)
{
    parlour_connection *served;

    OK(parlour_server_accept(server, 30000, &served));
    return served;
}

static void use_every_call(parlour_server *server)
{
    parlour_connection *connection = (parlour_connection *)1;
    parlour_shutdown *shutdown;
    parlour_stats stats;

    for (int64_t timeout_ms = -1; timeout_ms <= 1; timeout_ms++) {
        GIVES(parlour_server_accept(server, timeout_ms, &connection), PARLOUR_NAME_LOST);
        CHECK(connection == NULL);
    }
    OK(parlour_server_stats(server, &stats));
    CHECK(parlour_server_refused_by(server, 0) == 0);
    OK(parlour_server_shutdown_handle(server, &shutdown));
    parlour_shutdown_free(shutdown);
    CHECK(parlour_server_fd(server) >= 0 && parlour_server_name(server) && parlour_server_path(server));
}

static void in_child(parlour_server *server, int closes)
{
    pid_t child = fork();

    CHECK(child >= 0);
    if (child == 0) {
        alarm(30);
        use_every_call(server);
        if (closes)
            OK(parlour_server_close(server));
        else
            parlour_server_free(server);
        /* Memory that was in use at the fork is leaked on purpose. Another program has no leaks to report. */
        execl("/bin/true", "true", (char *)NULL);
        _exit(1);
    }
    check_child(child);
}

int main(int argc, char **argv)
{
    parlour_server_options *options;
    parlour_server *server;
    parlour_connection *client;
    pthread_t accepting, connecting;
    void *served;

    CHECK(argc == 2);
    alarm(100);
    address = argv[1];
    CHECK(pipe(parked) == 0 && pipe(go_on) == 0);
    options = parlour_server_options_new();
    CHECK(options != NULL);
    OK(parlour_server_options_allow(options, park, NULL));
    OK(parlour_server_bind(address, options, &server));
    parlour_server_options_free(options);
    CHECK(pthread_create(&accepting, NULL, accept_one, server) == 0);
    CHECK(pthread_create(&connecting, NULL, connect_client, &client) == 0);
    latch_wait(parked);
    in_child(server, 0);
    in_child(server, 1);
    latch_open(go_on);
    CHECK(pthread_join(accepting, &served) == 0);
    CHECK(pthread_join(connecting, NULL) == 0);
    OK(parlour_send(client, "hello", 5, -1));
    received(served, "hello");
    OK(parlour_connection_close(client, 1000));
    parlour_connection_free(served);
    OK(parlour_server_close(server));
    return 0;
}
