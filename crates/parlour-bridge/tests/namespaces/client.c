/* Sends one message to a server by the classic interface, expects it back, and reports how the connection ends. With
 * -DFIFO it uses fifo.h, which knows no other transport, and else unix_sockets.h. */
#ifdef FIFO
#include <parlour/fifo.h>
typedef struct comm_channel channel_t;
#define CHANNEL(channel) (&(channel))
#define CONNECT(name, channel) connect_to(name, &(channel))
#else
#include <parlour/unix_sockets.h>
typedef int channel_t;
#define CHANNEL(channel) (channel)
#define CONNECT(name, channel) ((channel) = connect_to(name))
#endif
#include <errno.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    channel_t server;
    char text[100];
    int length;

    if (CONNECT(argc > 1 ? argv[1] : "wc", server) == -1 || send_info(CHANNEL(server), "hello", 5) == -1) {
        fprintf(stderr, "%s\n", parlour_error_message());
        return 1;
    }
    length = recv_info(CHANNEL(server), text, sizeof text);
    if (length != 5 || memcmp(text, "hello", 5) != 0)
        return 1;
    puts("served");
    fflush(stdout);
    length = recv_info(CHANNEL(server), text, sizeof text);
    puts(length == -1 && (errno == ECONNABORTED || errno == ECONNRESET) ? "error" : "clean");
    disconnect_from(CHANNEL(server));
    return 0;
}
