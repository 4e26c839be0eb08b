/* A hub that other threads wake and send through, with groups, topics and blocks, and that drains at its end. */
#include "pair.h"

#define CLIENTS 3
#define MESSAGES 200

static parlour_connection *clients[CLIENTS];
static uint64_t numbers[CLIENTS];
static parlour_hub_handle *handle;

static void *connect_one(void *at)
{
    parlour_connect_options *options = parlour_connect_options_new();

    OK(parlour_connect_options_fds_max(options, 1));
    OK(parlour_connect(address, options, at));
    parlour_connect_options_free(options);
    return NULL;
}

static parlour_event next(parlour_hub *hub, parlour_event_kind kind)
{
    parlour_event event;

    OK(parlour_hub_next_event(hub, 30000, &event));
    CHECK(event.kind == kind);
    return event;
}

static void connect_all(parlour_hub *hub)
{
    for (int i = 0; i < CLIENTS; i++) {
        pthread_t thread;

        CHECK(pthread_create(&thread, NULL, connect_one, &clients[i]) == 0);
        numbers[i] = next(hub, PARLOUR_EVENT_JOINED).client;
        CHECK(pthread_join(thread, NULL) == 0);
    }
}

/* Sends numbered messages to one client, and tries again while the queue is full. */
static void *send_many(void *client)
{
    for (int i = 0; i < MESSAGES; i++) {
        parlour_payload payload = {.data = &i, .length = sizeof i};
        parlour_status status;

        while ((status = parlour_hub_handle_send(handle, *(uint64_t *)client, &payload)) == PARLOUR_TIMED_OUT)
            usleep(100);
        OK(status);
    }
    parlour_hub_wake(handle);
    return NULL;
}

static void send_from_threads(parlour_hub *hub)
{
    pthread_t threads[CLIENTS];
    parlour_message *message;
    parlour_event event;
    parlour_status status;

    for (int i = 0; i < CLIENTS; i++)
        CHECK(pthread_create(&threads[i], NULL, send_many, &numbers[i]) == 0);
    for (int i = 0; i < CLIENTS; i++) {
        for (int number = 0; number < MESSAGES; number++) {
            while (parlour_recv(clients[i], 0, &message) == PARLOUR_TIMED_OUT) {
                status = parlour_hub_next_event(hub, 1, &event);
                CHECK(status == PARLOUR_TIMED_OUT || (status == PARLOUR_OK && event.kind == PARLOUR_EVENT_WOKEN));
            }
            CHECK(parlour_message_length(message) == sizeof number);
            CHECK(memcmp(parlour_message_data(message), &number, sizeof number) == 0);
            parlour_message_free(message);
        }
    }
    for (int i = 0; i < CLIENTS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    parlour_hub_wake(handle);
    next(hub, PARLOUR_EVENT_WOKEN);
    GIVES(parlour_hub_next_event(hub, 0, &event), PARLOUR_TIMED_OUT);
}

static void send_to_groups(parlour_hub *hub)
{
    uint64_t group[] = {numbers[0], 77, numbers[2]};
    parlour_payload group_text = {.data = "group", .length = 5}, others = {.data = "others", .length = 6};
    parlour_payload topic_text = {.data = "topic", .length = 5}, late = {.data = "late", .length = 4};
    parlour_event event;
    size_t missed = 1;

    OK(parlour_hub_send_to(hub, group, 3, &group_text, &missed));
    CHECK(missed == 0);
    OK(parlour_hub_send_to(hub, NULL, 0, &group_text, NULL));
    OK(parlour_hub_broadcast_except(hub, numbers[0], &others, &missed));
    OK(parlour_hub_handle_send_to(handle, group, 3, &group_text));
    OK(parlour_hub_handle_broadcast_except(handle, numbers[0], &others));
    OK(parlour_hub_handle_send(handle, 77, &group_text));
    OK(parlour_hub_subscribe(hub, numbers[1], "weather/"));
    OK(parlour_hub_subscribe(hub, numbers[2], "weather/vienna"));
    GIVES(parlour_hub_subscribe(hub, numbers[2], "one too many"), PARLOUR_BUSY);
    OK(parlour_hub_unsubscribe(hub, numbers[2], "weather/vienna"));
    OK(parlour_hub_publish(hub, "weather/vienna", &topic_text, &missed));
    OK(parlour_hub_handle_publish(handle, "weather/graz", &late));
    OK(parlour_hub_handle_broadcast(handle, &others));
    GIVES(parlour_hub_next_event(hub, 0, &event), PARLOUR_TIMED_OUT);
    /* The last values. */
    OK(parlour_hub_forget(hub, "weather/vienna"));
    OK(parlour_hub_subscribe(hub, numbers[0], ""));
    OK(parlour_hub_flush(hub));
    received(clients[0], "group");
    received(clients[0], "group");
    received(clients[0], "others");
    received(clients[0], "late");
    received(clients[1], "others");
    received(clients[1], "topic");
    received(clients[1], "others");
    received(clients[1], "late");
    received(clients[1], "others");
    received(clients[2], "group");
    received(clients[2], "others");
    received(clients[2], "group");
    received(clients[2], "others");
    received(clients[2], "others");
}

static void send_blocks(parlour_hub *hub)
{
    parlour_shared *block, *got;
    const parlour_shared *blocks[1];
    parlour_payload payload = {.data = "frame", .length = 5, .block_count = 1};
    parlour_message *message;
    parlour_capabilities capabilities;
    parlour_event event;
    size_t missed, count;

    OK(parlour_shared_new("block", 5, &block));
    blocks[0] = block;
    payload.blocks = blocks;
    OK(parlour_connection_capabilities(clients[0], &capabilities));
    OK(parlour_hub_broadcast_payload(hub, &payload, &missed));
    OK(parlour_hub_handle_broadcast(handle, &payload));
    if (!capabilities.zero_copy) {
        CHECK(missed == CLIENTS);
        GIVES(parlour_hub_send_payload(hub, numbers[0], &payload), PARLOUR_UNSUPPORTED);
        for (int i = 0; i < CLIENTS; i++)
            CHECK(next(hub, PARLOUR_EVENT_MISSED).client == numbers[i]);
        parlour_shared_free(block);
        return;
    }
    CHECK(missed == 0);
    GIVES(parlour_hub_next_event(hub, 0, &event), PARLOUR_TIMED_OUT);
    OK(parlour_hub_flush(hub));
    for (int i = 0; i < 2 * CLIENTS; i++) {
        OK(parlour_recv(clients[i / 2], 30000, &message));
        OK(parlour_message_take_shared(message, &got, 1, &count));
        CHECK(count == 1 && parlour_shared_length(got) == 5);
        CHECK(memcmp(parlour_shared_data(got), "block", 5) == 0);
        parlour_shared_free(got);
        parlour_message_free(message);
    }
    parlour_shared_free(block);
}

static void drain(parlour_hub *hub)
{
    parlour_payload payload = {.data = "x", .length = 1};
    parlour_server *server;
    parlour_event event;
    parlour_status status;
    int left = 0;

    OK(parlour_hub_drain(hub));
    OK(parlour_hub_drain(hub));
    /* The name is free, and the clients are still served. */
    OK(parlour_server_bind(address, NULL, &server));
    OK(parlour_hub_broadcast(hub, "still here", 10, NULL));
    OK(parlour_hub_flush(hub));
    for (int i = 0; i < CLIENTS; i++) {
        received(clients[i], "still here");
        parlour_connection_free(clients[i]);
    }
    while ((status = parlour_hub_next_event(hub, 30000, &event)) == PARLOUR_OK)
        left += event.kind == PARLOUR_EVENT_LEFT;
    CHECK(status == PARLOUR_SHUTDOWN && left == CLIENTS);
    OK(parlour_hub_close(hub, 1000));
    GIVES(parlour_hub_handle_send(handle, numbers[0], &payload), PARLOUR_SHUTDOWN);
    GIVES(parlour_hub_handle_broadcast(handle, &payload), PARLOUR_SHUTDOWN);
    parlour_hub_wake(handle);
    parlour_hub_handle_free(handle);
    parlour_server_free(server);
}

int main(int argc, char **argv)
{
    parlour_hub_options *options = parlour_hub_options_new();
    parlour_hub *hub;

    CHECK(argc == 2);
    alarm(100);
    address = argv[1];
    OK(parlour_hub_options_handle_queue_max(options, 5000));
    OK(parlour_hub_options_blocks_max(options, 4));
    OK(parlour_hub_options_kept_values(options, 10, 1000));
    OK(parlour_hub_options_subscriptions_max(options, 1));
    OK(parlour_hub_bind(address, NULL, options, &hub));
    parlour_hub_options_free(options);
    OK(parlour_hub_handle_new(hub, &handle));
    connect_all(hub);
    send_from_threads(hub);
    send_to_groups(hub);
    send_blocks(hub);
    drain(hub);
    return 0;
}
