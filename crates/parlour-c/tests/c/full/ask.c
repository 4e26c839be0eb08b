/* A client of any echo server: ask ADDRESS. */
#include "../check.h"
#include <parlour.h>

int main(int argc, char **argv)
{
    static unsigned char sent[300000], back[sizeof sent];
    static const size_t lengths[] = {1, 0, 5, 4096, 100000, sizeof sent};
    parlour_connect_options *options = parlour_connect_options_new();
    parlour_connection *connection;
    parlour_status status;

    CHECK(argc == 2);
    alarm(100);
    CHECK(parlour_connect_options_wait_for_server(options, 30000) == PARLOUR_OK);
    status = parlour_connect(argv[1], options, &connection);
    parlour_connect_options_free(options);
    if (status != PARLOUR_OK)
        fprintf(stderr, "%s\n", parlour_error_message());
    CHECK(status == PARLOUR_OK);
    for (unsigned i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        size_t length;
        fill(sent, lengths[i], i);
        CHECK(parlour_send(connection, sent, lengths[i], -1) == PARLOUR_OK);
        CHECK(parlour_recv_into(connection, back, sizeof back, &length, 30000) == PARLOUR_OK);
        CHECK(length == lengths[i] && is_filled(back, length, i));
    }
    CHECK(parlour_finish(connection, 30000) == PARLOUR_OK);
    parlour_message *message;
    CHECK(parlour_recv(connection, 30000, &message) == PARLOUR_END);
    CHECK(parlour_connection_close(connection, 30000) == PARLOUR_OK);
    return 0;
}
