/*
 * A client with the full API: waits for the server, sends one question over the best transport that the server offers,
 * and prints the identity of the server and the answer.
 *
 *     gcc call.c $(pkg-config --cflags --libs parlour) -o call && ./call echo "how are you"
 */
#include <parlour.h>
#include <stdio.h>
#include <string.h>

static int failed(void)
{
    fprintf(stderr, "%s\n", parlour_error_message());
    return 1;
}

int main(int argc, char **argv)
{
    const char *question = argc > 2 ? argv[2] : "hello";
    parlour_connect_options *options = parlour_connect_options_new();
    parlour_connection *connection;
    parlour_message *answer;
    parlour_peer peer;
    parlour_status status;

    parlour_connect_options_wait_for_server(options, 10000);
    status = parlour_connect(argc > 1 ? argv[1] : "echo", options, &connection);
    parlour_connect_options_free(options);
    if (status != PARLOUR_OK)
        return failed();
    if (parlour_connection_peer(connection, &peer) == PARLOUR_OK)
        fprintf(stderr, "process %lld of user %lld\n", (long long)peer.pid, (long long)peer.uid);
    if (parlour_send(connection, question, strlen(question), 5000) != PARLOUR_OK)
        return failed();
    status = parlour_recv(connection, 5000, &answer);
    if (status == PARLOUR_END) {
        fprintf(stderr, "the server closed the connection without an answer\n");
        return 1;
    }
    if (status != PARLOUR_OK)
        return failed();
    printf("%.*s\n", (int)parlour_message_length(answer), (const char *)parlour_message_data(answer));
    parlour_message_free(answer);
    return parlour_connection_close(connection, 5000) == PARLOUR_OK ? 0 : failed();
}
