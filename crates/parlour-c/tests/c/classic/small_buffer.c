/* A message that is longer than the buffer stays for a call with a larger buffer, as do the messages after it. */
#include "classic.h"
#include <poll.h>

int main(int argc, char **argv)
{
    pair_t pair;
    char buffer[64];

    CHECK(argc == 2);
    alarm(100);
    open_pair(argv[1], &pair);
    SENT(pair.client, "a message of some length");
    SENT(pair.client, "next");
    for (size_t size = 0; size < strlen("a message of some length"); size++) {
        struct pollfd waiting = {.fd = RECV_FD(pair.served), .events = POLLIN};
        memset(buffer, '.', sizeof buffer);
        CHECK_FAILS(recv_info(CHANNEL(pair.served), buffer, size), EMSGSIZE);
        CHECK(buffer[0] == '.');
        /* poll(2) still reports the message. */
        CHECK(poll(&waiting, 1, 0) == 1);
    }
    CHECK_FAILS(recv_info(CHANNEL(pair.served), NULL, 0), EMSGSIZE);
    CHECK(recv_info(CHANNEL(pair.served), buffer, 24) == 24);
    CHECK(memcmp(buffer, "a message of some length", 24) == 0);
    RECEIVED(pair.served, "next");

    /* An empty message needs no buffer. */
    CHECK(send_info(CHANNEL(pair.client), NULL, 0) == 0);
    CHECK(recv_info(CHANNEL(pair.served), NULL, 0) == 0 && errno == ENOMSG);

    /* A message longer than the limit is refused, and nothing of it is sent. */
    CHECK_FAILS(send_info(CHANNEL(pair.client), buffer, (size_t)16 * 1024 * 1024 + 1), EMSGSIZE);
    SENT(pair.client, "all is well");
    RECEIVED(pair.served, "all is well");
    close_pair(&pair);
    return 0;
}
