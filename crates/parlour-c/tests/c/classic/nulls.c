/* NULL for each pointer is an error or has no effect. It never crashes. */
#include "classic.h"
#include <fcntl.h>

int main(int argc, char **argv)
{
    pair_t pair;

    CHECK(argc == 2);
    alarm(100);
    open_pair(argv[1], &pair);
    CHECK_FAILS(recv_info(CHANNEL(pair.served), NULL, 1), EFAULT);
    CHECK_FAILS(send_info(CHANNEL(pair.served), NULL, 1), EFAULT);
#ifdef FIFO
    struct server server;
    struct comm_channel channel;
    /* Programs are compiled with these sizes. */
    CHECK(sizeof server == 64 && sizeof channel == 64);
    char byte = 0;
    CHECK_FAILS(new_server(NULL, &server), EFAULT);
    CHECK_FAILS(new_server("name", NULL), EFAULT);
    CHECK_FAILS(accept_client(NULL, &channel), EFAULT);
    CHECK_FAILS(accept_client(&pair.server, NULL), EFAULT);
    CHECK_FAILS(connect_to(NULL, &channel), EFAULT);
    CHECK_FAILS(connect_to(argv[1], NULL), EFAULT);
    CHECK_FAILS(recv_info(NULL, &byte, 1), EFAULT);
    CHECK_FAILS(send_info(NULL, &byte, 1), EFAULT);
    destroy_server(NULL);
    disconnect_from(NULL);
    /* A struct that was not filled is not a handle. */
    memset(&server, 0, sizeof server);
    memset(&channel, 0, sizeof channel);
    CHECK_FAILS(accept_client(&server, &channel), EBADF);
    CHECK_FAILS(recv_info(&channel, &byte, 1), EBADF);
    CHECK_FAILS(send_info(&channel, &byte, 1), EBADF);
    destroy_server(&server);
    disconnect_from(&channel);
    CHECK(fcntl(0, F_GETFD) >= 0 || errno == EBADF);
#else
    CHECK_FAILS(new_server(NULL), EFAULT);
    CHECK_FAILS(connect_to(NULL), EFAULT);
#endif
    SENT(pair.client, "all is well");
    RECEIVED(pair.served, "all is well");
    close_pair(&pair);
    return 0;
}
