/* A process forks while other threads hold the lock of the clients of a hub. In the child every call returns. */
#include "pair.h"

/* Looking up so many numbers holds the lock for most of the time. */
#define NUMBERS 20000
#define THREADS 2

static uint64_t numbers[NUMBERS];
static parlour_hub_handle *handle;
static volatile int is_over;

static void *look_up(void *unused)
{
    parlour_payload payload = {.data = "x", .length = 1};

    while (!is_over)
        OK(parlour_hub_handle_send_to(handle, numbers, NUMBERS, &payload));
    return unused;
}

static void use_every_call(parlour_hub *hub, uint64_t client)
{
    parlour_payload payload = {.data = "child", .length = 5};
    parlour_event event;

    GIVES(parlour_hub_handle_send(handle, client, &payload), PARLOUR_NAME_LOST);
    GIVES(parlour_hub_handle_send_to(handle, &client, 1, &payload), PARLOUR_NAME_LOST);
    GIVES(parlour_hub_handle_broadcast(handle, &payload), PARLOUR_NAME_LOST);
    GIVES(parlour_hub_handle_broadcast_except(handle, client, &payload), PARLOUR_NAME_LOST);
    GIVES(parlour_hub_handle_publish(handle, "topic", &payload), PARLOUR_NAME_LOST);
    parlour_hub_wake(handle);
    GIVES(parlour_hub_next_event(hub, -1, &event), PARLOUR_NAME_LOST);
}

static void in_child(parlour_hub *hub, uint64_t client, int frees_the_hub_first)
{
    pid_t child = fork();

    CHECK(child >= 0);
    if (child == 0) {
        alarm(30);
        use_every_call(hub, client);
        if (frees_the_hub_first)
            parlour_hub_free(hub);
        parlour_hub_handle_free(handle);
        if (!frees_the_hub_first)
            parlour_hub_free(hub);
        /* Memory that was in use at the fork is leaked on purpose. Another program has no leaks to report. */
        execl("/bin/true", "true", (char *)NULL);
        _exit(1);
    }
    check_child(child);
}

int main(int argc, char **argv)
{
    parlour_payload payload = {.data = "parent", .length = 6};
    int forks = getenv("LIGHT") ? 4 : 20;
    pthread_t connecting, threads[THREADS];
    parlour_connection *client;
    parlour_event event;
    parlour_hub *hub;
    uint64_t number;

    CHECK(argc == 2);
    alarm(100);
    address = argv[1];
    OK(parlour_hub_bind(address, NULL, NULL, &hub));
    CHECK(pthread_create(&connecting, NULL, connect_client, &client) == 0);
    OK(parlour_hub_next_event(hub, 30000, &event));
    CHECK(event.kind == PARLOUR_EVENT_JOINED);
    number = event.client;
    CHECK(pthread_join(connecting, NULL) == 0);
    OK(parlour_hub_handle_new(hub, &handle));
    /* Clients that have never joined. */
    for (int i = 0; i < NUMBERS; i++)
        numbers[i] = number + 1000 + (uint64_t)i;
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, look_up, NULL) == 0);
    for (int i = 0; i < forks; i++)
        in_child(hub, number, i % 2);
    is_over = 1;
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    /* Nothing of the children has arrived. */
    OK(parlour_hub_handle_send(handle, number, &payload));
    CHECK(parlour_hub_next_event(hub, 0, &event) == PARLOUR_TIMED_OUT || event.kind == PARLOUR_EVENT_WOKEN);
    OK(parlour_hub_flush(hub));
    received(client, "parent");
    parlour_hub_handle_free(handle);
    OK(parlour_hub_close(hub, 1000));
    parlour_connection_free(client);
    return 0;
}
