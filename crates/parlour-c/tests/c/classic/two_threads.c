/* Two threads use one handle in the same direction, which the headers do not allow. A call that another one excludes gives
 * EBUSY, and no message is ever torn. */
#include "classic.h"
#include <sched.h>

#define LARGE 300000

static channel_t client, served;
static int messages;

/* The length and the content of a message depend on its number. */
static size_t length_of(unsigned number)
{
    return number % 3 == 0 ? LARGE : number % 3 == 1 ? 5000 : 100;
}

static void *send_all(void *first)
{
    unsigned char *message = malloc(LARGE);

    CHECK(message != NULL);
    for (unsigned number = *(unsigned *)first; number < (unsigned)messages * 2; number += 2) {
        size_t length = length_of(number);
        fill(message, length, number);
        memcpy(message, &number, sizeof number);
        while (send_info(CHANNEL(client), message, length) == -1) {
            CHECK(errno == EBUSY);
            sched_yield();
        }
    }
    free(message);
    return NULL;
}

/* Receives until the end. Each message is whole. */
static void *receive_all(void *unused)
{
    unsigned char *message = malloc(LARGE), *expected = malloc(LARGE);
    long count = 0;

    (void)unused;
    CHECK(message != NULL && expected != NULL);
    for (;;) {
        unsigned number;
        int length = recv_info(CHANNEL(served), message, LARGE);

        if (length == -1) {
            CHECK(errno == EBUSY);
            sched_yield();
            continue;
        }
        if (length == 0)
            break;
        memcpy(&number, message, sizeof number);
        CHECK((size_t)length == length_of(number));
        fill(expected, (size_t)length, number);
        memcpy(expected, &number, sizeof number);
        CHECK(memcmp(message, expected, (size_t)length) == 0);
        count++;
    }
    free(message);
    free(expected);
    return (void *)count;
}

/* Sends with `senders` threads and receives with `receivers`. */
static void through(server_t *server, const char *name, int senders, int receivers)
{
    static unsigned first[] = {0, 1};
    pthread_t sending[2], receiving[2];
    long received = 0;

    connect_pair(name, server, &client, &served);
    for (int i = 0; i < receivers; i++)
        CHECK(pthread_create(&receiving[i], NULL, receive_all, NULL) == 0);
    for (int i = 0; i < senders; i++)
        CHECK(pthread_create(&sending[i], NULL, send_all, &first[i]) == 0);
    for (int i = 0; i < senders; i++)
        CHECK(pthread_join(sending[i], NULL) == 0);
    disconnect_from(CHANNEL(client));
    for (int i = 0; i < receivers; i++) {
        void *count;
        CHECK(pthread_join(receiving[i], &count) == 0);
        received += (long)count;
    }
    CHECK(received == (long)messages * senders);
    disconnect_from(CHANNEL(served));
}

int main(int argc, char **argv)
{
    server_t server;

    CHECK(argc == 2);
    alarm(100);
    messages = getenv("LIGHT") ? 20 : 300;
    CHECK(OPEN_SERVER(argv[1], server) == 0);
    through(&server, argv[1], 2, 1);
    through(&server, argv[1], 1, 2);
    through(&server, argv[1], 2, 2);
    destroy_server(SERVER(server));
    return 0;
}
