/* A name that moves from one server to the next, in one process: hand_over ADDRESS. */
#include "../check.h"
#include <parlour.h>
#include <pthread.h>

/* Accepts until the name is handed over. */
static void *leave(void *server)
{
    parlour_connection *connection;

    CHECK(parlour_server_accept(server, 30000, &connection) == PARLOUR_HANDED_OVER);
    return NULL;
}

/* Connects, sends a message, and receives its echo. */
static void *talk(void *address)
{
    parlour_connection *connection;
    unsigned char back[10];
    size_t length;

    CHECK(parlour_connect(address, NULL, &connection) == PARLOUR_OK);
    CHECK(parlour_send(connection, "hello", 5, 30000) == PARLOUR_OK);
    CHECK(parlour_recv_into(connection, back, sizeof back, &length, 30000) == PARLOUR_OK);
    CHECK(length == 5 && memcmp(back, "hello", 5) == 0);
    CHECK(parlour_connection_close(connection, 30000) == PARLOUR_OK);
    return NULL;
}

int main(int argc, char **argv)
{
    parlour_server_options *options = parlour_server_options_new();
    parlour_server *old, *new;
    parlour_connection *connection;
    pthread_t thread;
    unsigned char message[10];
    size_t length;

    CHECK(argc == 2);
    alarm(100);

    /* A name that is yielded goes to a server that does not ask for it, and to none that yields. */
    CHECK(parlour_server_options_yields(options, true) == PARLOUR_OK);
    CHECK(parlour_server_bind(argv[1], options, &old) == PARLOUR_OK);
    CHECK(parlour_server_bind(argv[1], options, &new) == PARLOUR_NAME_IN_USE);
    CHECK(pthread_create(&thread, NULL, leave, old) == 0);
    CHECK(parlour_server_bind(argv[1], NULL, &new) == PARLOUR_OK);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(parlour_server_close(old) == PARLOUR_OK);
    CHECK(parlour_server_close(new) == PARLOUR_OK);
    CHECK(parlour_server_options_take_over(options, 200) == PARLOUR_OK);
    CHECK(parlour_server_bind(argv[1], options, &new) == PARLOUR_INVALID_OPTION);
    CHECK(parlour_server_options_yields(options, false) == PARLOUR_OK);


    /* A server that does not hand over keeps its name, and so does one that does not accept. */
    CHECK(parlour_server_options_hand_over(options, false) == PARLOUR_OK);
    CHECK(parlour_server_bind(argv[1], options, &old) == PARLOUR_OK);
    CHECK(parlour_server_bind(argv[1], options, &new) == PARLOUR_NAME_IN_USE);
    CHECK(parlour_server_close(old) == PARLOUR_OK);
    CHECK(parlour_server_options_hand_over(options, true) == PARLOUR_OK);
    CHECK(parlour_server_options_hand_over_grace(options, 1000) == PARLOUR_OK);
    CHECK(parlour_server_bind(argv[1], options, &old) == PARLOUR_OK);
    CHECK(parlour_server_bind(argv[1], options, &new) == PARLOUR_BUSY);

    CHECK(parlour_server_options_take_over(options, 30000) == PARLOUR_OK);
    CHECK(pthread_create(&thread, NULL, leave, old) == 0);
    CHECK(parlour_server_bind(argv[1], options, &new) == PARLOUR_OK);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(parlour_server_close(old) == PARLOUR_OK);
    parlour_server_options_free(options);

    CHECK(pthread_create(&thread, NULL, talk, argv[1]) == 0);
    CHECK(parlour_server_accept(new, 30000, &connection) == PARLOUR_OK);
    CHECK(parlour_recv_into(connection, message, sizeof message, &length, 30000) == PARLOUR_OK);
    CHECK(parlour_send(connection, message, length, 30000) == PARLOUR_OK);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(parlour_connection_close(connection, 30000) == PARLOUR_OK);
    CHECK(parlour_server_close(new) == PARLOUR_OK);
    CHECK(strcmp(parlour_status_name(PARLOUR_HANDED_OVER), "handed over") == 0);
    return 0;
}
