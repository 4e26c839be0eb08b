/*
 * An echo server with the full API, over every transport: one thread per client.
 *
 *     gcc echo_server.c $(pkg-config --cflags --libs parlour) -lpthread -o echo_server && ./echo_server echo
 */
#include <parlour.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>

static parlour_server *server;

static void stop(int number)
{
    (void)number;
    parlour_server_shutdown(server);
}

static void *serve(void *client)
{
    parlour_message *message;
    parlour_status status;

    while ((status = parlour_recv(client, -1, &message)) == PARLOUR_OK) {
        status = parlour_send(client, parlour_message_data(message), parlour_message_length(message), -1);
        parlour_message_free(message);
        if (status != PARLOUR_OK)
            break;
    }
    if (status != PARLOUR_END)
        fprintf(stderr, "%s\n", parlour_error_message());
    parlour_connection_free(client);
    return NULL;
}

int main(int argc, char **argv)
{
    static const int all[] = {PARLOUR_TRANSPORT_SHM, PARLOUR_TRANSPORT_PACKET, PARLOUR_TRANSPORT_UNIX,
                              PARLOUR_TRANSPORT_FIFO};
    parlour_server_options *options = parlour_server_options_new();
    parlour_connection *client;
    parlour_status status;

    parlour_server_options_transports(options, all, 4);
    status = parlour_server_bind(argc > 1 ? argv[1] : "echo", options, &server);
    parlour_server_options_free(options);
    if (status != PARLOUR_OK) {
        fprintf(stderr, "%s\n", parlour_error_message());
        return 1;
    }
    signal(SIGINT, stop);
    signal(SIGTERM, stop);
    while ((status = parlour_server_accept(server, -1, &client)) == PARLOUR_OK) {
        pthread_t thread;

        if (pthread_create(&thread, NULL, serve, client) == 0)
            pthread_detach(thread);
        else
            parlour_connection_free(client);
    }
    if (status != PARLOUR_SHUTDOWN)
        fprintf(stderr, "%s\n", parlour_error_message());
    return parlour_server_close(server) == PARLOUR_OK && status == PARLOUR_SHUTDOWN ? 0 : 1;
}
