/* Servers of a name that come, end, yield and are killed, as a watch reports them: name_watch ADDRESS. */
#include "../check.h"
#include <parlour.h>
#include <poll.h>
#include <pthread.h>
#include <sys/resource.h>

static const int LONG = 30000;

/* Returns the next state, for which it waits with poll(2). */
static parlour_name_event next(parlour_name_watch *watch)
{
    parlour_name_event event;
    struct pollfd fd = {.fd = parlour_name_watch_fd(watch), .events = POLLIN};
    parlour_status status;

    while ((status = parlour_name_watch_next(watch, 0, &event)) == PARLOUR_TIMED_OUT) {
        CHECK(event.state == PARLOUR_NAME_ABSENT && event.pid == -1);
        CHECK(poll(&fd, 1, LONG) == 1);
    }
    CHECK(status == PARLOUR_OK);
    return event;
}

static void is_absent(parlour_name_watch *watch)
{
    parlour_name_event event = next(watch);

    CHECK(event.state == PARLOUR_NAME_ABSENT && event.pid == -1 && event.uid == -1 && !event.yields);
}

/* Waits until this process holds the name. Its files appear one after the other. */
static void is_held(parlour_name_watch *watch, pid_t pid, bool yields)
{
    parlour_name_event event;

    do
        event = next(watch);
    while (event.state != PARLOUR_NAME_LIVE || event.pid != pid || event.yields != yields);
    CHECK(event.uid == (int64_t)geteuid());
}

/* Holds the name until another server takes it. */
static void *yield(void *server)
{
    parlour_connection *connection;

    CHECK(parlour_server_accept(server, LONG, &connection) == PARLOUR_HANDED_OVER);
    return NULL;
}

int main(int argc, char **argv)
{
    parlour_server_options *options = parlour_server_options_new();
    parlour_name_watch *watch = (parlour_name_watch *)1;
    parlour_name_event event;
    parlour_server *server, *real;
    struct rlimit plenty, none;
    pthread_t thread;

    CHECK(argc == 2);
    alarm(100);
    CHECK(parlour_name_watch_new("no/name", NULL, &watch) == PARLOUR_INVALID_NAME && watch == NULL);
    CHECK(parlour_name_watch_fd(NULL) == -1);
    parlour_name_watch_free(NULL);

    /* The first state is there at once, and the next one only after a change. */
    CHECK(parlour_name_watch_new(argv[1], NULL, &watch) == PARLOUR_OK);
    CHECK(parlour_name_watch_next(watch, -1, &event) == PARLOUR_OK && event.state == PARLOUR_NAME_ABSENT);
    CHECK(parlour_name_watch_next(watch, 0, &event) == PARLOUR_TIMED_OUT);
    CHECK(parlour_name_watch_next(watch, 10, &event) == PARLOUR_TIMED_OUT);

    /* A server comes, and one that it yields to. */
    CHECK(parlour_server_options_yields(options, true) == PARLOUR_OK);
    CHECK(parlour_server_bind(argv[1], options, &server) == PARLOUR_OK);
    is_held(watch, getpid(), true);
    CHECK(pthread_create(&thread, NULL, yield, server) == 0);
    CHECK(parlour_server_bind(argv[1], NULL, &real) == PARLOUR_OK);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(parlour_server_close(server) == PARLOUR_OK);
    is_held(watch, getpid(), false);
    CHECK(parlour_server_close(real) == PARLOUR_OK);
    is_absent(watch);

    /* Another process takes the name, and is killed. A blocking call returns then. */
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        alarm(100);
        CHECK(parlour_server_bind(argv[1], NULL, &server) == PARLOUR_OK);
        for (;;)
            pause();
    }
    is_held(watch, child, false);
    CHECK(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child);
    do
        CHECK(parlour_name_watch_next(watch, -1, &event) == PARLOUR_OK);
    while (event.state != PARLOUR_NAME_ABSENT);
    CHECK(event.pid == -1);

    /* The next server removes the files of the dead one. Without descriptors, it is not known, but not absent. */
    CHECK(parlour_server_bind(argv[1], NULL, &server) == PARLOUR_OK);
    CHECK(getrlimit(RLIMIT_NOFILE, &plenty) == 0);
    none = plenty;
    none.rlim_cur = 3;
    CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
    for (int i = 0; i < 2; i++)
        CHECK(parlour_name_watch_next(watch, 0, &event) == PARLOUR_IO && event.pid == -1);
    CHECK(setrlimit(RLIMIT_NOFILE, &plenty) == 0);
    is_held(watch, getpid(), false);
    CHECK(parlour_server_close(server) == PARLOUR_OK);
    is_absent(watch);
    parlour_name_watch_free(watch);
    parlour_server_options_free(options);
    return 0;
}
