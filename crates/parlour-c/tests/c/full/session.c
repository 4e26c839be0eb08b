/* A session, and the servers that it outlives, in one process. */
#include "pair.h"

static int hook_calls;

/* Returns the numbers of `user`, one in each call, and then logs in. */
static int log_in(parlour_connection *connection, void *user)
{
    const int *numbers = user;
    parlour_transport transport = parlour_connection_transport(connection);
    parlour_connection *sending, *receiving;
    int number = numbers[hook_calls];

    CHECK(transport != PARLOUR_TRANSPORT_NONE && parlour_connection_recv_fd(connection) >= 0);
    GIVES(parlour_connection_split(connection, &sending, &receiving), PARLOUR_UNSUPPORTED);
    if (number != PARLOUR_OK) {
        hook_calls++;
        return number;
    }
    return (int)parlour_send(connection, "log in", 6, 1000);
}

static void *connect_session(void *session)
{
    OK(parlour_session_connect(session, 30000));
    return NULL;
}

/* Over `shm` and `fifo` a client waits for the answer of the server, so it connects in another thread. */
static parlour_connection *serve(parlour_server *server, parlour_session *session)
{
    parlour_connection *served;
    pthread_t thread;

    CHECK(pthread_create(&thread, NULL, connect_session, session) == 0);
    OK(parlour_server_accept(server, 30000, &served));
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(parlour_session_is_connected(session));
    return served;
}

static void without_a_server(void)
{
    parlour_session *session;
    parlour_message *message;
    parlour_loss loss;
    parlour_peer peer;
    char buffer[8];
    size_t length;

    GIVES(parlour_session_open("", NULL, &session), PARLOUR_INVALID_NAME);
    CHECK(session == NULL);
    OK(parlour_connect_options_reconnect(connect_options, 0, 1000, 1000));
    GIVES(parlour_session_open(address, connect_options, &session), PARLOUR_INVALID_OPTION);
    OK(parlour_connect_options_reconnect(connect_options, 1, 1000, 1000));
    OK(parlour_session_open(address, connect_options, &session));
    for (int timeout_ms = 0; timeout_ms <= 20; timeout_ms += 20) {
        GIVES(parlour_session_connect(session, timeout_ms), PARLOUR_TIMED_OUT);
        GIVES(parlour_session_send(session, "x", 1, timeout_ms), PARLOUR_TIMED_OUT);
        GIVES(parlour_session_feed(session, "x", 1, timeout_ms), PARLOUR_TIMED_OUT);
        GIVES(parlour_session_recv(session, timeout_ms, &message), PARLOUR_TIMED_OUT);
        GIVES(parlour_session_recv_into(session, buffer, sizeof buffer, &length, timeout_ms), PARLOUR_TIMED_OUT);
        OK(parlour_session_flush(session, timeout_ms));
    }
    CHECK(!parlour_session_is_connected(session) && parlour_session_recv_fd(session) == -1);
    CHECK(parlour_session_transport(session) == PARLOUR_TRANSPORT_NONE);
    GIVES(parlour_session_peer(session, &peer), PARLOUR_NO_SERVER);
    OK(parlour_session_loss(session, &loss));
    CHECK(loss.connections_ended == 0 && loss.sent == 0);
    OK(parlour_session_close(session, 0));
}

/* Each of several servers gets a message and answers, and is gone. */
static void restarts(parlour_session *session)
{
    parlour_server *server;
    parlour_connection *served;
    parlour_message *message;
    parlour_payload payload = {.data = "payload", .length = 7};
    parlour_loss loss;
    parlour_peer peer;
    char buffer[8];
    size_t length;

    for (uint64_t number = 1; number <= 3; number++) {
        OK(parlour_server_bind(address, NULL, &server));
        served = serve(server, session);
        OK(parlour_session_peer(session, &peer));
        CHECK(peer.uid == (int64_t)geteuid() && parlour_session_recv_fd(session) >= 0);
        OK(parlour_session_send(session, "sent", 4, 1000));
        OK(parlour_session_send_payload(session, &payload, 1000));
        OK(parlour_session_feed(session, "fed", 3, 1000));
        OK(parlour_session_flush(session, 1000));
        received(served, "log in");
        received(served, "sent");
        received(served, "payload");
        received(served, "fed");
        OK(parlour_send(served, "answer that is long", 19, 1000));
        GIVES(parlour_session_recv_into(session, buffer, sizeof buffer, &length, 30000), PARLOUR_BUFFER_TOO_SMALL);
        CHECK(length == 19);
        OK(parlour_session_recv(session, 30000, &message));
        CHECK(parlour_message_length(message) == 19);
        parlour_message_free(message);
        OK(parlour_session_send(session, "unread", 6, 1000));
        parlour_connection_free(served);
        OK(parlour_server_close(server));
        GIVES(parlour_session_recv(session, 30000, &message), PARLOUR_LOST);
        CHECK(message == NULL && !parlour_session_is_connected(session));
        OK(parlour_session_loss(session, &loss));
        CHECK(loss.connections_ended == number);
        CHECK(loss.sent == 4 && loss.received == 1 && loss.sent_since_received == 1 && loss.unreceived == 0);
        GIVES(parlour_session_recv(session, 20, &message), PARLOUR_TIMED_OUT);
    }
}

static void unreceived(parlour_session *session)
{
    parlour_server *server;
    parlour_connection *served;
    parlour_message *message;
    parlour_loss loss;
    parlour_status status;

    OK(parlour_server_bind(address, NULL, &server));
    served = serve(server, session);
    OK(parlour_send(served, "bye", 3, 1000));
    parlour_connection_free(served);
    while ((status = parlour_session_send(session, "x", 1, 1000)) == PARLOUR_OK)
        ;
    CHECK(status == PARLOUR_LOST);
    OK(parlour_session_loss(session, &loss));
    CHECK(loss.unreceived == 1);
    OK(parlour_session_next_unreceived(session, &message));
    CHECK(parlour_message_length(message) == 3);
    parlour_message_free(message);
    CHECK(parlour_session_next_unreceived(session, &message) == PARLOUR_END && message == NULL);
    served = serve(server, session);
    received(served, "log in");
    OK(parlour_session_feed(session, "last", 4, 0));
    OK(parlour_session_close(session, 1000));
    received(served, "last");
    parlour_connection_free(served);
    OK(parlour_server_close(server));
}

static void *accept_all(void *server)
{
    parlour_connection *served;

    while (parlour_server_accept(server, -1, &served) == PARLOUR_OK)
        parlour_connection_free(served);
    return NULL;
}

/* A hook that fails ends the call, unless the server was not ready. */
static void failing_hooks(void)
{
    /* The second failure is passed over, so a call fails only at the third. */
    static const int numbers[] = {PARLOUR_DENIED, PARLOUR_TIMED_OUT, 12345, PARLOUR_OK};
    parlour_server *server;
    parlour_session *session;
    pthread_t thread;

    hook_calls = 0;
    OK(parlour_server_bind(address, NULL, &server));
    CHECK(pthread_create(&thread, NULL, accept_all, server) == 0);
    OK(parlour_session_open(address, connect_options, &session));
    OK(parlour_session_on_connect(session, log_in, (void *)numbers));
    GIVES(parlour_session_connect(session, 30000), PARLOUR_DENIED);
    CHECK(hook_calls == 1 && strstr(parlour_error_message(), "parlour_session_on_connect") != NULL);
    GIVES(parlour_session_connect(session, 30000), PARLOUR_INVALID_ARGUMENT);
    CHECK(hook_calls == 3);
    parlour_session_free(session);
    parlour_server_shutdown(server);
    CHECK(pthread_join(thread, NULL) == 0);
    OK(parlour_server_close(server));
}

int main(int argc, char **argv)
{
    static const int succeed[] = {PARLOUR_OK};
    parlour_session *session;

    CHECK(argc == 2);
    alarm(100);
    address = argv[1];
    connect_options = parlour_connect_options_new();
    without_a_server();
    OK(parlour_session_open(address, connect_options, &session));
    OK(parlour_session_on_connect(session, log_in, (void *)succeed));
    restarts(session);
    unreceived(session);
    failing_hooks();
    parlour_connect_options_free(connect_options);
    return 0;
}
