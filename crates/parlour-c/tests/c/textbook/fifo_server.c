/* An echo server over FIFOs, as in a course on operating systems: it serves one client after the other. */
#include <parlour/fifo.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define MAX_LEN 1024

struct server server;

void handler(int sig)
{
    (void)sig;
    destroy_server(&server);
    _exit(0);
}

int main(int argc, char *argv[])
{
    struct comm_channel channel;
    char buf[MAX_LEN];
    int n;

    if (argc != 2) {
        fprintf(stderr, "Usage: %s server_name\n", argv[0]);
        exit(1);
    }
    if (new_server(argv[1], &server) == -1) {
        perror("new_server");
        exit(1);
    }
    signal(SIGINT, handler);
    signal(SIGTERM, handler);
    printf("Server started\n");
    fflush(stdout);
    while (1) {
        if (accept_client(&server, &channel) == -1) {
            perror("accept_client");
            exit(1);
        }
        while ((n = recv_info(&channel, buf, MAX_LEN)) > 0) {
            if (send_info(&channel, buf, n) == -1) {
                perror("send_info");
                break;
            }
        }
        if (n == -1)
            perror("recv_info");
        disconnect_from(&channel);
    }
}
