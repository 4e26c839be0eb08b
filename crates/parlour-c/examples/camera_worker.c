/*
 * A worker of camera.c: reads each picture in the memory of the camera, and ends after so many of them.
 *
 *     ./camera_worker camera 100
 */
#include <parlour.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Stands for the work: every pixel has the number of the picture. */
static int is_whole(const unsigned char *pixels, size_t length, uint32_t number)
{
    for (size_t i = 0; i < length; i++)
        if (pixels[i] != (number & 0xff))
            return 0;
    return 1;
}

int main(int argc, char **argv)
{
    parlour_connect_options *options = parlour_connect_options_new();
    parlour_connection *camera;
    parlour_frame_reader *reader;
    parlour_message *message;
    parlour_received_frame *picture;
    uint32_t number;
    int pictures = argc > 2 ? atoi(argv[2]) : 100;

    parlour_connect_options_wait_for_server(options, 60000);
    /* The camera is a program of ours, and nobody else sends over this connection: it is trusted. */
    if (parlour_connect(argc > 1 ? argv[1] : "camera", options, &camera) != PARLOUR_OK ||
        parlour_frame_reader_attach(camera, 0, 0, -1, &reader) != PARLOUR_OK ||
        parlour_frame_reader_trust_publisher(reader, camera) != PARLOUR_OK) {
        fprintf(stderr, "%s\n", parlour_error_message());
        return 1;
    }
    while (pictures-- > 0) {
        if (parlour_recv(camera, -1, &message) != PARLOUR_OK ||
            parlour_frame_reader_open(reader, message, &picture) != PARLOUR_OK) {
            fprintf(stderr, "%s\n", parlour_error_message());
            return 1;
        }
        memcpy(&number, parlour_received_frame_note(picture), sizeof number);
        if (!is_whole(parlour_received_frame_data(picture), parlour_received_frame_length(picture), number)) {
            fprintf(stderr, "picture %u is torn\n", (unsigned)number);
            return 1;
        }
        parlour_received_frame_free(picture); /* returns the block */
    }
    parlour_frame_reader_free(reader);
    parlour_connection_free(camera);
    parlour_connect_options_free(options);
    return 0;
}
