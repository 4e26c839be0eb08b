/*
 * A chat room with the full API: a hub serves all clients in one thread.
 *
 *     gcc chat.c $(pkg-config --cflags --libs parlour) -o chat && ./chat chat
 *     parlour connect chat            in several terminals
 */
#include <parlour.h>
#include <signal.h>
#include <stdio.h>

static parlour_shutdown *shutdown_handle;

static void stop(int number)
{
    (void)number;
    parlour_shutdown_ask(shutdown_handle);
}

static void say(parlour_hub *hub, const parlour_event *event)
{
    char line[1024];
    int length = snprintf(line, sizeof line, "%llu: %.*s", (unsigned long long)event->client,
                          (int)parlour_message_length(event->message),
                          (const char *)parlour_message_data(event->message));

    if (length >= (int)sizeof line)
        length = (int)sizeof line - 1;
    parlour_hub_broadcast(hub, line, (size_t)length, NULL);
    parlour_message_free(event->message);
}

int main(int argc, char **argv)
{
    parlour_hub *hub;
    parlour_event event;
    parlour_status status;

    if (parlour_hub_bind(argc > 1 ? argv[1] : "chat", NULL, NULL, &hub) != PARLOUR_OK ||
        parlour_hub_shutdown_handle(hub, &shutdown_handle) != PARLOUR_OK) {
        fprintf(stderr, "%s\n", parlour_error_message());
        return 1;
    }
    signal(SIGINT, stop);
    signal(SIGTERM, stop);
    while ((status = parlour_hub_next_event(hub, -1, &event)) == PARLOUR_OK) {
        if (event.kind == PARLOUR_EVENT_JOINED)
            printf("%llu is process %lld\n", (unsigned long long)event.client, (long long)event.peer.pid);
        else if (event.kind == PARLOUR_EVENT_MESSAGE)
            say(hub, &event);
        else if (event.kind == PARLOUR_EVENT_FINISHED)
            parlour_hub_finish(hub, event.client);
        else
            printf("%llu: %s\n", (unsigned long long)event.client, event.text);
    }
    if (status != PARLOUR_SHUTDOWN)
        fprintf(stderr, "%s\n", parlour_error_message());
    parlour_shutdown_free(shutdown_handle);
    return parlour_hub_close(hub, 5000) == PARLOUR_OK && status == PARLOUR_SHUTDOWN ? 0 : 1;
}
