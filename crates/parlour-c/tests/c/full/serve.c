/* An echo server for one client: serve ADDRESS. */
#include "../check.h"
#include <parlour.h>

int main(int argc, char **argv)
{
    parlour_server *server;
    parlour_connection *client;
    parlour_message *message;
    parlour_status status;

    CHECK(argc == 2);
    alarm(100);
    CHECK(parlour_server_bind(argv[1], NULL, &server) == PARLOUR_OK);
    CHECK(parlour_server_accept(server, 60000, &client) == PARLOUR_OK);
    while ((status = parlour_recv(client, -1, &message)) == PARLOUR_OK) {
        CHECK(parlour_send(client, parlour_message_data(message), parlour_message_length(message), -1) == PARLOUR_OK);
        parlour_message_free(message);
    }
    CHECK(status == PARLOUR_END);
    parlour_connection_free(client);
    CHECK(parlour_server_close(server) == PARLOUR_OK);
    return 0;
}
