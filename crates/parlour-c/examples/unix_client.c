/*
 * A client over UNIX sockets: sends each line of the standard input, and prints each message as it arrives.
 *
 *     gcc unix_client.c $(pkg-config --cflags --libs parlour) -o unix_client && ./unix_client echo
 */
#include <parlour/unix_sockets.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    int server = connect_to(argc > 1 ? argv[1] : "echo");
    struct pollfd fds[2] = {{STDIN_FILENO, POLLIN, 0}, {server, POLLIN, 0}};
    char text[4096];
    int length;

    if (server == -1) {
        fprintf(stderr, "%s\n", parlour_error_message());
        return 1;
    }
    /* stdio must not read ahead, or poll would not report lines that it has buffered. */
    setbuf(stdin, NULL);
    while (poll(fds, 2, -1) != -1) {
        if (fds[1].revents) {
            length = recv_info(server, text, sizeof text);
            if (length <= 0)
                break;
            printf("%.*s\n", length, text);
            fflush(stdout);
        } else if (fds[0].revents) {
            if (fgets(text, sizeof text, stdin) == NULL)
                break;
            if (send_info(server, text, strcspn(text, "\n")) == -1) {
                perror("send_info");
                break;
            }
        }
    }
    disconnect_from(server);
    return 0;
}
