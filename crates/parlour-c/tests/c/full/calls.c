/* A caller that many threads use, and a server of calls that answers from several threads. */
#include "pair.h"
#include <semaphore.h>

#define THREADS 6
#define MAX_WORKERS 1000

static parlour_caller *caller;
static parlour_pusher *pusher;
static parlour_shutdown *stop;
static sem_t cancelled;
static pthread_t workers[MAX_WORKERS];
static int worker_count;

static int calls_of_each(void)
{
    return getenv("LIGHT") ? 20 : 100;
}

static int is(const parlour_call *call, const char *text)
{
    return parlour_call_length(call) == strlen(text) && memcmp(parlour_call_data(call), text, strlen(text)) == 0;
}

static void *wait_cancelled(void *call)
{
    OK(parlour_call_wait_cancelled(call, -1));
    CHECK(parlour_call_is_cancelled(call));
    GIVES(parlour_call_item(call, "late", 4, 0), PARLOUR_DISCONNECTED);
    GIVES(parlour_call_reply(call, "late", 4), PARLOUR_DISCONNECTED);
    CHECK(sem_post(&cancelled) == 0);
    return NULL;
}

static void *reply_later(void *call)
{
    if (is(call, "later")) {
        GIVES(parlour_call_wait_cancelled(call, 0), PARLOUR_TIMED_OUT);
        GIVES(parlour_call_wait_cancelled(call, 1), PARLOUR_TIMED_OUT);
    }
    OK(parlour_call_reply(call, parlour_call_data(call), parlour_call_length(call)));
    return NULL;
}

static void *send_items(void *call)
{
    parlour_status status = PARLOUR_OK;

    for (int i = 0; i < 300 && status == PARLOUR_OK; i++) {
        unsigned char item[10000];

        fill(item, sizeof item, (unsigned)i);
        status = parlour_call_item(call, item, sizeof item, 30000);
    }
    if (status == PARLOUR_OK) {
        OK(parlour_call_end(call));
        return NULL;
    }
    /* The stream was freed before its end. */
    CHECK(status == PARLOUR_DISCONNECTED);
    parlour_call_free(call);
    CHECK(sem_post(&cancelled) == 0);
    return NULL;
}

/* Only the thread that serves begins others. */
static void in_thread(void *(*work)(void *), parlour_call *call)
{
    CHECK(worker_count < MAX_WORKERS);
    CHECK(pthread_create(&workers[worker_count++], NULL, work, call) == 0);
}

static void take_descriptor(parlour_call *call)
{
    parlour_message *request;
    int fd;
    size_t count;

    OK(parlour_call_take_request(call, &request));
    CHECK(parlour_call_length(call) == 0 && parlour_call_data(call) != NULL);
    OK(parlour_message_take_fds(request, &fd, 1, &count));
    CHECK(count == 1 && write(fd, "x", 1) == 1 && close(fd) == 0);
    parlour_message_free(request);
    OK(parlour_call_reply(call, NULL, 0));
}

static void refuse_arguments(parlour_call *call)
{
    CHECK(!parlour_call_is_cancelled(call));
    GIVES(parlour_call_wait_cancelled(call, -1), PARLOUR_BUSY);
    GIVES(parlour_call_item(call, NULL, 1, 0), PARLOUR_NULL_POINTER);
    GIVES(parlour_call_take_request(call, NULL), PARLOUR_NULL_POINTER);
    GIVES(parlour_call_peer(call, NULL), PARLOUR_NULL_POINTER);
    /* Frees the call, and its caller is told. */
    GIVES(parlour_call_reply(call, NULL, 1), PARLOUR_NULL_POINTER);
}

static void answer(parlour_call *call)
{
    static unsigned char too_long[70000];
    uint64_t client = parlour_call_client(call);
    parlour_peer peer;

    OK(parlour_call_peer(call, &peer));
    CHECK(peer.pid == getpid() && peer.uid == (int64_t)getuid());
    if (is(call, "slow"))
        in_thread(wait_cancelled, call);
    else if (is(call, "later"))
        in_thread(reply_later, call);
    else if (is(call, "list"))
        in_thread(send_items, call);
    else if (is(call, "who"))
        OK(parlour_call_reply(call, &client, sizeof client));
    else if (is(call, "fail"))
        OK(parlour_call_fail(call, "no such\nnote"));
    else if (is(call, "not a text"))
        GIVES(parlour_call_fail(call, "\xff"), PARLOUR_INVALID_ARGUMENT);
    else if (is(call, "too long"))
        GIVES(parlour_call_reply(call, too_long, sizeof too_long), PARLOUR_MESSAGE_TOO_LONG);
    else if (is(call, "drop"))
        parlour_call_free(call);
    else if (is(call, "arguments"))
        refuse_arguments(call);
    else if (is(call, "descriptor"))
        take_descriptor(call);
    else if (parlour_call_length(call) % 2 == 0)
        in_thread(reply_later, call);
    else
        OK(parlour_call_reply(call, parlour_call_data(call), parlour_call_length(call)));
}

static void *serve(void *server)
{
    parlour_status status;
    parlour_call *call;

    while ((status = parlour_call_server_next(server, -1, &call)) == PARLOUR_OK)
        answer(call);
    CHECK(status == PARLOUR_SHUTDOWN && call == NULL);
    for (int i = 0; i < worker_count; i++)
        CHECK(pthread_join(workers[i], NULL) == 0);
    return NULL;
}

static void gets(const char *request, const char *expected)
{
    parlour_message *message;

    OK(parlour_caller_call(caller, request, strlen(request), 30000, &message));
    CHECK(parlour_message_length(message) == strlen(expected));
    CHECK(memcmp(parlour_message_data(message), expected, strlen(expected)) == 0);
    parlour_message_free(message);
}

static void fails(const char *request, parlour_status status, int64_t timeout_ms)
{
    parlour_message *message = (parlour_message *)1;

    GIVES(parlour_caller_call(caller, request, strlen(request), timeout_ms, &message), status);
    CHECK(message == NULL);
}

static void *call_often(void *seed)
{
    for (int i = 0; i < calls_of_each(); i++) {
        unsigned char request[300];
        size_t length = 11 + (size_t)i % 90;
        parlour_message *message;

        fill(request, length, (unsigned)(size_t)seed * 1000 + (unsigned)i);
        OK(parlour_caller_call(caller, request, length, 30000, &message));
        CHECK(parlour_message_length(message) == length);
        CHECK(memcmp(parlour_message_data(message), request, length) == 0);
        parlour_message_free(message);
    }
    return NULL;
}

static void call_from_threads(void)
{
    pthread_t threads[THREADS];

    for (size_t i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, call_often, (void *)i) == 0);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
}

static void report_failures(void)
{
    fails("fail", PARLOUR_CALL_FAILED, 30000);
    CHECK(strcmp(parlour_error_failure(), "no such\nnote") == 0);
    CHECK(strstr(parlour_error_message(), "no such\\nnote") != NULL);
    fails("drop", PARLOUR_CALL_FAILED, 30000);
    CHECK(strcmp(parlour_error_failure(), "the server dropped the call") == 0);
    fails("slow", PARLOUR_TIMED_OUT, 1);
    CHECK(strcmp(parlour_error_failure(), "") == 0);
    CHECK(sem_wait(&cancelled) == 0);
    fails("not a text", PARLOUR_CALL_FAILED, -1);
    fails("too long", PARLOUR_CALL_FAILED, -1);
    fails("arguments", PARLOUR_CALL_FAILED, -1);
    fails("list", PARLOUR_UNSUPPORTED, -1);
    CHECK(sem_wait(&cancelled) == 0);
}

static void give_up(void)
{
    parlour_call_stats stats;

    fails("slow", PARLOUR_TIMED_OUT, 20);
    CHECK(sem_wait(&cancelled) == 0);
    gets("later", "later");
    fails("slow", PARLOUR_TIMED_OUT, 0);
    CHECK(sem_wait(&cancelled) == 0);
    OK(parlour_caller_stats(caller, &stats));
    CHECK(stats.open == 0 && stats.pushes_dropped == 0);
}

static void stream(void)
{
    parlour_call_stream *one, *many, *freed;
    parlour_message *message;

    OK(parlour_caller_call_stream(caller, "later", 5, 30000, &one));
    OK(parlour_caller_call_stream(caller, "list", 4, -1, &many));
    for (int i = 0; i < 300; i++) {
        OK(parlour_call_stream_next(many, 30000, &message));
        CHECK(parlour_message_length(message) == 10000);
        CHECK(is_filled(parlour_message_data(message), 10000, (unsigned)i));
        parlour_message_free(message);
    }
    for (int i = 0; i < 2; i++)
        CHECK(parlour_call_stream_next(many, -1, &message) == PARLOUR_END && message == NULL);
    OK(parlour_call_stream_next(one, -1, &message));
    parlour_message_free(message);
    CHECK(parlour_call_stream_next(one, 0, &message) == PARLOUR_END);
    OK(parlour_caller_call_stream(caller, "list", 4, 30000, &freed));
    OK(parlour_call_stream_next(freed, -1, &message));
    parlour_message_free(message);
    parlour_call_stream_free(freed);
    CHECK(sem_wait(&cancelled) == 0);
    OK(parlour_caller_call_stream(caller, "slow", 4, 30000, &freed));
    GIVES(parlour_call_stream_next(freed, 1, &message), PARLOUR_TIMED_OUT);
    parlour_call_stream_free(freed);
    CHECK(sem_wait(&cancelled) == 0);
    parlour_call_stream_free(many);
    parlour_call_stream_free(one);
}

static void push(void)
{
    parlour_message *message;
    uint64_t client;

    OK(parlour_caller_call(caller, "who", 3, -1, &message));
    CHECK(parlour_message_length(message) == sizeof client);
    memcpy(&client, parlour_message_data(message), sizeof client);
    parlour_message_free(message);
    GIVES(parlour_caller_next_push(caller, 0, &message), PARLOUR_TIMED_OUT);
    GIVES(parlour_caller_next_push(caller, 1, &message), PARLOUR_TIMED_OUT);
    OK(parlour_pusher_push(pusher, client, "one", 3));
    OK(parlour_pusher_push(pusher, client + 1000, "nobody", 6));
    OK(parlour_pusher_push_all(pusher, "two!", 4));
    for (int i = 0; i < 2; i++) {
        OK(parlour_caller_next_push(caller, 30000, &message));
        CHECK(parlour_message_length(message) == 3 + (size_t)i);
        CHECK(memcmp(parlour_message_data(message), i == 0 ? "one" : "two!", 3 + (size_t)i) == 0);
        parlour_message_free(message);
    }
}

static void pass_descriptor(parlour_transport transport)
{
    int ends[2];
    char byte;
    parlour_payload payload = {.data = "descriptor", .length = 10, .fd_count = 1};
    parlour_message *message;

    CHECK(pipe(ends) == 0);
    payload.fds = &ends[1];
    if (transport == PARLOUR_TRANSPORT_UNIX || transport == PARLOUR_TRANSPORT_PACKET) {
        OK(parlour_caller_call_payload(caller, &payload, 30000, &message));
        CHECK(parlour_message_length(message) == 0 && read(ends[0], &byte, 1) == 1);
        parlour_message_free(message);
    } else {
        GIVES(parlour_caller_call_payload(caller, &payload, 30000, &message), PARLOUR_UNSUPPORTED);
    }
    CHECK(close(ends[0]) == 0 && close(ends[1]) == 0);
}

/* A caller over a connection that exists. A connection that cannot become one is as before. */
static void take_connection(void)
{
    parlour_connection *connection, *sending, *receiving;
    parlour_caller *other;
    parlour_message *message;

    OK(parlour_connect(address, connect_options, &connection));
    OK(parlour_caller_new(connection, connect_options, &other));
    OK(parlour_caller_call(other, "later", 5, 30000, &message));
    parlour_message_free(message);
    parlour_caller_free(other);
    OK(parlour_connect(address, connect_options, &connection));
    GIVES(parlour_caller_new(connection, NULL, NULL), PARLOUR_NULL_POINTER);
    OK(parlour_connection_split(connection, &sending, &receiving));
    GIVES(parlour_caller_new(sending, NULL, &other), PARLOUR_UNSUPPORTED);
    CHECK(other == NULL);
    parlour_connection_free(sending);
    parlour_connection_free(receiving);
}

/* A server that waits at its descriptor, and a client that asks for more than it may. */
static void serve_one_by_one(void)
{
    parlour_server_options *options = parlour_server_options_new();
    parlour_call_server *server;
    parlour_call *first, *second, *none;
    parlour_call_stream *one, *two, *three, *four;
    parlour_message *message;
    parlour_stats stats;
    parlour_status status;

    OK(parlour_server_options_calls_max(options, 2));
    OK(parlour_server_options_request_bytes_max(options, 5));
    OK(parlour_call_server_bind(address, options, &server));
    parlour_server_options_free(options);
    GIVES(parlour_call_server_next(server, 1, &first), PARLOUR_TIMED_OUT);
    CHECK(parlour_call_server_fd(server) >= 0);
    CHECK(strcmp(parlour_call_server_name(server), "name") == 0 && parlour_call_server_path(server) != NULL);
    if (strncmp(address, "unix:", 5) == 0 || strncmp(address, "packet:", 7) == 0) {
        /* Over these a client connects without the server. */
        OK(parlour_caller_connect(address, NULL, &caller));
        GIVES(parlour_caller_call_stream(caller, "one", 3, 1, &one), PARLOUR_TIMED_OUT);
        GIVES(parlour_call_server_next(server, 20, &first), PARLOUR_TIMED_OUT);
        OK(parlour_call_server_stats(server, &stats));
        CHECK(stats.open == 1);
        OK(parlour_caller_call_stream(caller, "one", 3, 1000, &one));
        OK(parlour_caller_call_stream(caller, "two", 3, 1000, &two));
        OK(parlour_caller_call_stream(caller, "", 0, 1000, &three));
        OK(parlour_caller_call_stream(caller, "", 0, 1000, &four));
        while ((status = parlour_call_server_next(server, 0, &first)) == PARLOUR_TIMED_OUT)
            usleep(100);
        OK(status);
        OK(parlour_call_server_next(server, 1000, &second));
        CHECK(parlour_call_length(second) == 0 && parlour_call_client(first) == parlour_call_client(second));
        GIVES(parlour_call_server_next(server, 20, &none), PARLOUR_TIMED_OUT);
        GIVES(parlour_call_stream_next(two, 30000, &message), PARLOUR_BUSY);
        CHECK(strstr(parlour_error_message(), "too many bytes") != NULL);
        CHECK(parlour_call_stream_next(two, 30000, &message) == PARLOUR_END);
        GIVES(parlour_call_stream_next(four, 30000, &message), PARLOUR_BUSY);
        CHECK(strstr(parlour_error_message(), "too many open calls") != NULL);
        parlour_call_free(second);
        /* The answers of this thread are sent by the next call. */
        OK(parlour_call_reply(first, "done", 4));
        GIVES(parlour_call_server_next(server, 0, &none), PARLOUR_TIMED_OUT);
        OK(parlour_call_stream_next(one, 30000, &message));
        parlour_message_free(message);
        GIVES(parlour_call_stream_next(three, 30000, &message), PARLOUR_CALL_FAILED);
        parlour_call_stream_free(one);
        parlour_call_stream_free(two);
        parlour_call_stream_free(three);
        parlour_call_stream_free(four);
        parlour_caller_free(caller);
    }
    parlour_call_server_free(server);
}

int main(int argc, char **argv)
{
    parlour_server_options *options = parlour_server_options_new();
    parlour_call_server *server;
    parlour_transport transport;
    parlour_message *message;
    parlour_peer peer;
    pthread_t serving;

    CHECK(argc == 2);
    alarm(100);
    address = argv[1];
    CHECK(sem_init(&cancelled, 0, 0) == 0);
    serve_one_by_one();

    OK(parlour_server_options_fds_max(options, 1));
    OK(parlour_server_options_message_max(options, 65536));
    OK(parlour_call_server_bind(address, options, &server));
    parlour_server_options_free(options);
    OK(parlour_pusher_new(server, &pusher));
    OK(parlour_call_server_shutdown_handle(server, &stop));
    CHECK(pthread_create(&serving, NULL, serve, server) == 0);

    connect_options = parlour_connect_options_new();
    OK(parlour_connect_options_stream_buffer_max(connect_options, 8 << 20));
    OK(parlour_connect_options_push_buffer_max(connect_options, 1000));
    OK(parlour_connect_options_message_max(connect_options, 65536));
    OK(parlour_caller_connect(address, connect_options, &caller));
    OK(parlour_caller_peer(caller, &peer));
    CHECK(peer.uid == (int64_t)getuid());
    transport = parlour_caller_transport(caller);
    CHECK(transport != PARLOUR_TRANSPORT_NONE);
    gets("later", "later");
    gets("", "");
    call_from_threads();
    report_failures();
    give_up();
    stream();
    push();
    pass_descriptor(transport);
    take_connection();

    parlour_shutdown_ask(stop);
    CHECK(pthread_join(serving, NULL) == 0);
    OK(parlour_call_server_close(server, 5000));
    fails("later", PARLOUR_DISCONNECTED, -1);
    CHECK(parlour_caller_next_push(caller, -1, &message) != PARLOUR_OK && message == NULL);
    GIVES(parlour_pusher_push_all(pusher, "late", 4), PARLOUR_SHUTDOWN);
    parlour_pusher_free(pusher);
    parlour_shutdown_free(stop);
    parlour_caller_free(caller);
    parlour_connect_options_free(connect_options);
    return 0;
}
