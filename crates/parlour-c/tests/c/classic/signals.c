/* Signal handlers call destroy_server, send_info and disconnect_from, whatever they interrupt. */
#include "classic.h"
#include <sys/time.h>

static const char *name;
static pair_t pair;
static server_t server;
static volatile sig_atomic_t handled;
static int sent;
static int sent_errno;

static void on_signal(int number, void (*handler)(int), int flags)
{
    struct sigaction action;

    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    action.sa_flags = flags;
    CHECK(sigaction(number, &action, NULL) == 0);
}

/* Raises SIGALRM once, after the next call has blocked (unless the machine is very slow). */
static void soon(void)
{
    struct itimerval timer = {.it_value = {.tv_usec = 100000}};
    handled = 0;
    CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
}

/* Raises SIGALRM repeatedly, so that at some time the next call has blocked. */
static void again_and_again(void)
{
    struct itimerval timer = {.it_value = {.tv_usec = 50000}, .it_interval = {.tv_usec = 50000}};
    handled = 0;
    CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
}

static void no_more(void)
{
    struct itimerval never = {.it_value = {0}};
    CHECK(setitimer(ITIMER_REAL, &never, NULL) == 0);
}

static void destroy(int number)
{
    (void)number;
    destroy_server(SERVER(server));
    handled = 1;
}

static void send_hello(int number)
{
    (void)number;
    sent = SEND(pair.served, "from a handler");
    handled = 1;
}

static void send_too(int number)
{
    (void)number;
    sent = SEND(pair.client, "from a handler");
    sent_errno = errno;
    handled = 1;
    /* Ends the blocked call. */
    disconnect_from(CHANNEL(pair.served));
}

static void disconnect(int number)
{
    (void)number;
    disconnect_from(CHANNEL(pair.served));
    handled = 1;
}

static void answer(int number)
{
    (void)number;
    (void)!SEND(pair.client, "woken");
    handled = 1;
}

static void note(int number)
{
    (void)number;
    handled = 1;
}

static void destroyed_while_accepting(void)
{
    channel_t channel;

    on_signal(SIGALRM, destroy, SA_RESTART);
    CHECK(OPEN_SERVER(name, server) == 0);
    soon();
    CHECK_FAILS(ACCEPT(server, channel), EBADF);
    CHECK(handled);
    /* The name is free, and a new server can take it. */
    CHECK_FAILS(CONNECT(name, channel), ENOENT);
    CHECK(OPEN_SERVER(name, server) == 0);
    destroy_server(SERVER(server));
}

/* A handler destroys the server at any moment. */
static void destroyed_at_any_moment(int times)
{
    on_signal(SIGALRM, destroy, SA_RESTART);
    for (int i = 0; i < times; i++) {
        struct itimerval timer = {.it_value = {.tv_usec = 300 + i * 37 % 900}};
        channel_t channel;

        handled = 0;
        CHECK(OPEN_SERVER(name, server) == 0);
        CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
        /* The handler mostly interrupts the allocator: if it allocated, it would deadlock. */
        while (!handled) {
            void *memory[16];
            for (int k = 0; k < 16; k++)
                memory[k] = malloc((size_t)(k * 1000 + 1));
            for (int k = 0; k < 16; k++)
                free(memory[k]);
        }
        CHECK_FAILS(ACCEPT(server, channel), EBADF);
    }
}

static void sent_while_receiving(void)
{
    on_signal(SIGALRM, send_hello, SA_RESTART);
    open_pair(name, &pair);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        RECEIVED(pair.client, "from a handler");
        SENT(pair.client, "heard");
        _exit(0);
    }
    soon();
    RECEIVED(pair.served, "heard");
    CHECK(handled && sent == (int)strlen("from a handler"));
    check_child(child);
    close_pair(&pair);
}

static void disconnected_while_receiving(void)
{
    char byte;

    on_signal(SIGALRM, disconnect, SA_RESTART);
    open_pair(name, &pair);
    soon();
    CHECK_FAILS(recv_info(CHANNEL(pair.served), &byte, 1), EBADF);
    CHECK(handled);
    ENDED(pair.client);
    disconnect_from(CHANNEL(pair.client));
    destroy_server(SERVER(pair.server));
}

/* In the middle of a message no other message can be sent: the handler gets EBUSY, and ends the blocked call. */
static void sent_while_sending(void)
{
    static char large[8 * 1024 * 1024];

    on_signal(SIGALRM, send_too, SA_RESTART);
    /* If the handler runs before the call has begun, it can send. The test is then repeated. */
    sent = 0;
    for (int i = 0; i < 20 && sent != -1; i++) {
        open_pair(name, &pair);
        soon();
        CHECK_FAILS(send_info(CHANNEL(pair.client), large, sizeof large), EPIPE);
        CHECK(handled);
        disconnect_from(CHANNEL(pair.client));
        destroy_server(SERVER(pair.server));
    }
    CHECK(sent == -1 && sent_errno == EBUSY);
}

static pair_t other;
static volatile sig_atomic_t ticks;

static void tick(int number)
{
    (void)number;
    if (SEND(other.served, "tick") > 0)
        ticks++;
}

/* A handler that runs very often finds no lock held and no operation half done. */
static void a_storm(int rounds)
{
    /* The interval leaves the program time to run. */
    suseconds_t pause = getenv("LIGHT") ? 20000 : 300;
    struct itimerval often = {.it_value = {.tv_usec = pause}, .it_interval = {.tv_usec = pause}};
    char other_name[4096];
    int heard = 0;

    on_signal(SIGALRM, tick, SA_RESTART);
    snprintf(other_name, sizeof other_name, "%s-other", name);
    open_pair(name, &pair);
    open_pair(other_name, &other);
    snprintf(other_name, sizeof other_name, "%s-third", name);
    CHECK(setitimer(ITIMER_REAL, &often, NULL) == 0);
    for (int i = 0; i < rounds; i++) {
        SENT(pair.client, "round");
        RECEIVED(pair.served, "round");
        while (heard < ticks) {
            RECEIVED(other.client, "tick");
            heard++;
        }
        if (i % 100 == 0) {
            CHECK(OPEN_SERVER(other_name, server) == 0);
            destroy_server(SERVER(server));
        }
    }
    no_more();
    CHECK(ticks > 0);
    close_pair(&other);
    close_pair(&pair);
}

static void goes_on_or_not(void)
{
    char byte;
    channel_t channel;
    sigset_t before, after;

    open_pair(name, &pair);
    sigemptyset(&before);
    sigaddset(&before, SIGUSR2);
    CHECK(pthread_sigmask(SIG_BLOCK, &before, NULL) == 0);
    CHECK(pthread_sigmask(SIG_SETMASK, NULL, &before) == 0);

    /* With SA_RESTART the call goes on, and receives the message of the handler. */
    on_signal(SIGALRM, answer, SA_RESTART);
    soon();
    RECEIVED(pair.served, "woken");
    CHECK(handled);

    /* Without SA_RESTART the call fails, and no message is lost. */
    on_signal(SIGALRM, note, 0);
    again_and_again();
    CHECK_FAILS(recv_info(CHANNEL(pair.served), &byte, 1), EINTR);
    CHECK(handled);
    CHECK_FAILS(ACCEPT(pair.server, channel), EINTR);
    no_more();
    SENT(pair.client, "all is well");
    RECEIVED(pair.served, "all is well");

    /* The signal mask is unchanged. */
    CHECK(pthread_sigmask(SIG_SETMASK, NULL, &after) == 0);
    for (int i = 1; i < 32; i++)
        CHECK(sigismember(&before, i) == sigismember(&after, i));
    close_pair(&pair);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    name = argv[1];
    CHECK(signal(SIGPIPE, SIG_DFL) != SIG_ERR);
    destroyed_while_accepting();
    sent_while_receiving();
    /* The process has had a second thread, so the allocator takes locks. */
    destroyed_at_any_moment(getenv("LIGHT") ? 10 : 200);
    disconnected_while_receiving();
    sent_while_sending();
    goes_on_or_not();
    a_storm(getenv("LIGHT") ? 200 : 20000);
    return 0;
}
