/*
 * A camera: lends each of its pictures to every worker, without a copy. A worker that keeps its pictures misses some. It
 * ends on SIGINT or SIGTERM.
 *
 *     gcc camera.c $(pkg-config --cflags --libs parlour) -o camera && ./camera camera &
 *     gcc camera_worker.c $(pkg-config --cflags --libs parlour) -o camera_worker && ./camera_worker camera
 */
#include <parlour.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define WIDTH 1920
#define HEIGHT 1080

static parlour_shutdown *stop;

static void on_signal(int number)
{
    (void)number;
    parlour_shutdown_ask(stop);
}

/* Stands for the camera. */
static void take_picture(parlour_frame *frame, uint32_t number)
{
    memset(parlour_frame_buffer(frame), (int)(number & 0xff), parlour_frame_length(frame));
}

/* Serves the clients until nothing has happened for a moment. A client that does not attach ends. */
static parlour_status serve(parlour_hub *hub, parlour_frame_pool *pool)
{
    parlour_event event;
    parlour_status status;

    while ((status = parlour_hub_next_event(hub, 10, &event)) == PARLOUR_OK) {
        if (event.kind == PARLOUR_EVENT_MESSAGE &&
            parlour_frame_pool_admit_client(pool, hub, event.client, event.message, NULL) != PARLOUR_OK) {
            fprintf(stderr, "%s\n", parlour_error_message());
            parlour_hub_disconnect(hub, event.client);
        }
    }
    return status;
}

int main(int argc, char **argv)
{
    parlour_server_options *server_options = parlour_server_options_new();
    parlour_frame_pool_options *options = parlour_frame_pool_options_new((size_t)WIDTH * HEIGHT);
    parlour_hub *hub;
    parlour_frame_pool *pool;
    parlour_frame *frame;

    parlour_server_options_fds_max(server_options, 2); /* a worker attaches with two descriptors */
    parlour_frame_pool_options_readers(options, 4, 2); /* four workers with two pictures each */
    parlour_frame_pool_options_at_share(options, PARLOUR_AT_SHARE_REFUSE, 0);
    if (parlour_hub_bind(argc > 1 ? argv[1] : "camera", server_options, NULL, &hub) != PARLOUR_OK ||
        parlour_hub_shutdown_handle(hub, &stop) != PARLOUR_OK ||
        parlour_frame_pool_new(options, &pool) != PARLOUR_OK) {
        fprintf(stderr, "%s\n", parlour_error_message());
        return 1;
    }
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    for (uint32_t number = 0; serve(hub, pool) == PARLOUR_TIMED_OUT; number++) {
        if (parlour_frame_pool_loan(pool, -1, &frame) != PARLOUR_OK)
            break;
        take_picture(frame, number);
        if (parlour_frame_pool_broadcast(pool, hub, frame, &number, sizeof number, -1, NULL) != PARLOUR_OK)
            fprintf(stderr, "%s\n", parlour_error_message());
        parlour_frame_free(frame);
    }
    parlour_frame_pool_free(pool);
    return parlour_hub_close(hub, 1000) != PARLOUR_OK;
}
