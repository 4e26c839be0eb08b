/* A process forks while threads of it call, serve, and hold a call. In the child every call returns. */
#include "pair.h"
#include <semaphore.h>

static parlour_caller *caller;
static parlour_call *held;
static parlour_call_stream *stream;
static parlour_pusher *pusher;
static int is_done;
static sem_t is_held;

static void *call_often(void *unused)
{
    while (!__atomic_load_n(&is_done, __ATOMIC_SEQ_CST)) {
        parlour_message *message;

        OK(parlour_caller_call(caller, "echo", 4, 30000, &message));
        CHECK(parlour_message_length(message) == 4);
        parlour_message_free(message);
    }
    return unused;
}

static void *serve(void *server)
{
    parlour_status status;
    parlour_call *call;

    while ((status = parlour_call_server_next(server, -1, &call)) == PARLOUR_OK) {
        if (memcmp(parlour_call_data(call), "hold", 4) == 0) {
            held = call;
            CHECK(sem_post(&is_held) == 0);
        } else {
            OK(parlour_call_reply(call, parlour_call_data(call), parlour_call_length(call)));
        }
    }
    CHECK(status == PARLOUR_SHUTDOWN);
    return NULL;
}

static void use_every_call(parlour_call_server *server)
{
    parlour_message *message;
    parlour_call_stream *begun;
    parlour_call *call;
    parlour_call_stats stats;

    GIVES(parlour_call_stream_next(stream, -1, &message), PARLOUR_NAME_LOST);
    CHECK(parlour_call_stream_next(stream, -1, &message) == PARLOUR_END);
    for (int64_t timeout_ms = -1; timeout_ms <= 1; timeout_ms++) {
        GIVES(parlour_caller_call(caller, "x", 1, timeout_ms, &message), PARLOUR_NAME_LOST);
        GIVES(parlour_caller_call_stream(caller, "x", 1, timeout_ms, &begun), PARLOUR_NAME_LOST);
        GIVES(parlour_caller_next_push(caller, timeout_ms, &message), PARLOUR_NAME_LOST);
        GIVES(parlour_call_server_next(server, timeout_ms, &call), PARLOUR_NAME_LOST);
        GIVES(parlour_call_item(held, "x", 1, timeout_ms), PARLOUR_NAME_LOST);
        GIVES(parlour_call_wait_cancelled(held, timeout_ms), PARLOUR_NAME_LOST);
    }
    GIVES(parlour_pusher_push_all(pusher, "x", 1), PARLOUR_NAME_LOST);
    OK(parlour_caller_stats(caller, &stats));
    CHECK(stats.open == 0 && !parlour_call_is_cancelled(held));
}

static void in_child(parlour_call_server *server, int answers)
{
    pid_t child = fork();

    CHECK(child >= 0);
    if (child == 0) {
        alarm(30);
        use_every_call(server);
        parlour_call_stream_free(stream);
        parlour_caller_free(caller);
        parlour_pusher_free(pusher);
        if (answers)
            GIVES(parlour_call_reply(held, "x", 1), PARLOUR_NAME_LOST);
        else
            parlour_call_free(held);
        /* Memory that was in use at the fork is leaked on purpose. Another program has no leaks to report. */
        execl("/bin/true", "true", (char *)NULL);
        _exit(1);
    }
    check_child(child);
}

int main(int argc, char **argv)
{
    parlour_call_server *server;
    parlour_shutdown *stop;
    parlour_message *message;
    pthread_t serving, calling[2];

    CHECK(argc == 2);
    alarm(100);
    address = argv[1];
    OK(parlour_call_server_bind(address, NULL, &server));
    OK(parlour_pusher_new(server, &pusher));
    OK(parlour_call_server_shutdown_handle(server, &stop));
    CHECK(sem_init(&is_held, 0, 0) == 0);
    CHECK(pthread_create(&serving, NULL, serve, server) == 0);
    OK(parlour_caller_connect(address, NULL, &caller));
    OK(parlour_caller_call_stream(caller, "hold", 4, 30000, &stream));
    CHECK(sem_wait(&is_held) == 0);
    for (int i = 0; i < 2; i++)
        CHECK(pthread_create(&calling[i], NULL, call_often, NULL) == 0);
    for (int i = 0; i < (getenv("LIGHT") ? 2 : 10); i++)
        in_child(server, i % 2);
    __atomic_store_n(&is_done, 1, __ATOMIC_SEQ_CST);
    for (int i = 0; i < 2; i++)
        CHECK(pthread_join(calling[i], NULL) == 0);
    /* The children have neither answered the call nor given it up. */
    CHECK(!parlour_call_is_cancelled(held));
    OK(parlour_call_reply(held, "done", 4));
    OK(parlour_call_stream_next(stream, 30000, &message));
    CHECK(parlour_message_length(message) == 4);
    parlour_message_free(message);
    parlour_call_stream_free(stream);
    parlour_caller_free(caller);
    parlour_pusher_free(pusher);
    parlour_shutdown_ask(stop);
    CHECK(pthread_join(serving, NULL) == 0);
    parlour_shutdown_free(stop);
    OK(parlour_call_server_close(server, 5000));
    return 0;
}
