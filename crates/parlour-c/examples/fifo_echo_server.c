/*
 * An echo server over FIFOs: one thread per client, so that a client which stops in the middle of a message, or does not
 * receive, holds up nobody else.
 *
 *     gcc fifo_echo_server.c $(pkg-config --cflags --libs parlour) -lpthread -o fifo_echo_server
 *     ./fifo_echo_server echo         in another terminal: parlour call fifo:echo hello
 */
#include <parlour/fifo.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static struct server server;

static void stop(int number)
{
    (void)number;
    destroy_server(&server);
    _exit(0);
}

static void *serve(void *argument)
{
    struct comm_channel *client = argument;
    char message[65536];
    int length;

    while ((length = recv_info(client, message, sizeof message)) > 0)
        if (send_info(client, message, (size_t)length) == -1)
            break;
    disconnect_from(client);
    free(client);
    return NULL;
}

int main(int argc, char **argv)
{
    struct comm_channel *client;

    if (new_server(argc > 1 ? argv[1] : "echo", &server) == -1) {
        fprintf(stderr, "%s\n", parlour_error_message());
        return 1;
    }
    signal(SIGINT, stop);
    signal(SIGTERM, stop);
    while ((client = malloc(sizeof *client)) != NULL && accept_client(&server, client) == 0) {
        pthread_t thread;

        if (pthread_create(&thread, NULL, serve, client) == 0) {
            pthread_detach(thread);
        } else {
            disconnect_from(client);
            free(client);
        }
    }
    fprintf(stderr, "%s\n", parlour_error_message());
    destroy_server(&server);
    return 1;
}
