/*
 * An echo server over FIFOs: one thread that waits for all clients with poll(2).
 *
 *     gcc fifo_echo_server.c $(pkg-config --cflags --libs parlour) -o fifo_echo_server && ./fifo_echo_server echo
 *     parlour call fifo:echo hello
 */
#include <fcntl.h>
#include <parlour/fifo.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#define CLIENTS 100

static struct server server;

static void stop(int number)
{
    (void)number;
    destroy_server(&server);
    _exit(0);
}

int main(int argc, char **argv)
{
    struct comm_channel clients[CLIENTS];
    struct pollfd fds[1 + CLIENTS];
    char message[65536];
    int count = 0;

    if (new_server(argc > 1 ? argv[1] : "echo", &server) == -1) {
        fprintf(stderr, "%s\n", parlour_error_message());
        return 1;
    }
    signal(SIGINT, stop);
    signal(SIGTERM, stop);
    fcntl(server.fd, F_SETFL, O_NONBLOCK);
    for (;;) {
        fds[0] = (struct pollfd){server.fd, POLLIN, 0};
        for (int i = 0; i < count; i++)
            fds[1 + i] = (struct pollfd){clients[i].recv_fd, POLLIN, 0};
        if (poll(fds, (nfds_t)(1 + count), -1) == -1)
            continue;
        /* From the end, so that the last client can take the place of one that leaves. */
        for (int i = count - 1; i >= 0; i--) {
            int length = fds[1 + i].revents ? recv_info(&clients[i], message, sizeof message) : -2;

            if (length > 0)
                length = send_info(&clients[i], message, (size_t)length);
            if (length == 0 || length == -1) {
                disconnect_from(&clients[i]);
                clients[i] = clients[--count];
            }
        }
        if (fds[0].revents && count < CLIENTS && accept_client(&server, &clients[count]) == 0)
            count++;
    }
}
