/* The server stops counting a connection (4096 of each user) in whichever way it was closed. */
#include "classic.h"

int main(int argc, char **argv)
{
    server_t server;

    CHECK(argc == 2);
    alarm(100);
    CHECK(OPEN_SERVER(argv[1], server) == 0);
    for (int i = 0; i < (getenv("LIGHT") ? 200 : 4200); i++) {
        channel_t client, served;

#ifdef FIFO
        connect_pair(argv[1], &server, &client, &served);
#else
        CHECK(CONNECT(argv[1], client) == 0);
        CHECK(ACCEPT(server, served) == 0);
        SENT(client, "x");
        RECEIVED(served, "x");
        if (i % 2 == 0) {
            close(served);
            close(client);
            continue;
        }
#endif
        disconnect_from(CHANNEL(served));
        disconnect_from(CHANNEL(client));
    }
    destroy_server(SERVER(server));
    return 0;
}
