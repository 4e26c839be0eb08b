/*
 * A client over FIFOs: sends each line of the standard input, and prints the answer.
 *
 *     gcc fifo_client.c $(pkg-config --cflags --libs parlour) -o fifo_client && ./fifo_client echo
 */
#include <parlour/fifo.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    struct comm_channel server;
    char text[4096];
    int length = 1;

    if (connect_to(argc > 1 ? argv[1] : "echo", &server) == -1) {
        fprintf(stderr, "%s\n", parlour_error_message());
        return 1;
    }
    while (length > 0 && fgets(text, sizeof text, stdin) != NULL) {
        if (send_info(&server, text, strcspn(text, "\n")) == -1) {
            perror("send_info");
            break;
        }
        length = recv_info(&server, text, sizeof text);
        if (length > 0)
            printf("%.*s\n", length, text);
        else if (length == -1)
            perror("recv_info");
    }
    disconnect_from(&server);
    return 0;
}
