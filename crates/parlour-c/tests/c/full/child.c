/* A parent that passes one end of a connection to its child, and the child. Both are this program: with PARLOUR_FD in its
 * environment it is the child, which echoes. */
#include "pair.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/socket.h>

static int echo(void)
{
    parlour_connection *parent, *again;
    parlour_message *message;
    parlour_status status;

    OK(parlour_connection_from_env(NULL, &parent));
    GIVES(parlour_connection_from_env(NULL, &again), PARLOUR_UNSUPPORTED);
    CHECK(again == NULL && strstr(parlour_error_message(), "already") != NULL);
    while ((status = parlour_recv(parent, 30000, &message)) == PARLOUR_OK) {
        OK(parlour_send(parent, parlour_message_data(message), parlour_message_length(message), -1));
        parlour_message_free(message);
    }
    CHECK(status == PARLOUR_END);
    parlour_connection_free(parent);
    return 0;
}

/* One message with its frame: on a stream 4 bytes of length in front, in a datagram one byte behind. */
static size_t framed(int type, const char *text, unsigned char *frame)
{
    uint32_t length = htonl((uint32_t)strlen(text));
    size_t header = type == SOCK_STREAM ? sizeof length : 0;

    memcpy(frame, &length, header);
    memcpy(frame + header, text, strlen(text) + 1);
    return header + strlen(text) + (type == SOCK_STREAM ? 0 : 1);
}

int main(int argc, char **argv)
{
    int type = strncmp(argv[argc - 1], "packet", 6) == 0 ? SOCK_SEQPACKET : SOCK_STREAM, ends[2];
    parlour_connection *none;
    unsigned char frame[64], back[64];

    CHECK(argc == 2);
    alarm(100);
    if (getenv("PARLOUR_FD") != NULL)
        return echo();
    GIVES(parlour_connection_from_env(NULL, &none), PARLOUR_UNSUPPORTED);
    CHECK(none == NULL);
    if (strncmp(argv[1], "unix", 4) != 0 && strncmp(argv[1], "packet", 6) != 0)
        return 0; /* Only sockets are inherited. */
    CHECK(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends) == 0);
    pid_t child = fork();
    if (child == 0) {
        char number[16];
        fcntl(ends[1], F_SETFD, 0);
        snprintf(number, sizeof number, "%d", ends[1]);
        setenv("PARLOUR_FD", number, 1);
        execv(argv[0], argv);
        _exit(127);
    }
    close(ends[1]);
    size_t length = framed(type, "hello", frame);
    CHECK(send(ends[0], frame, length, MSG_NOSIGNAL) == (ssize_t)length);
    CHECK(recv(ends[0], back, length, MSG_WAITALL) == (ssize_t)length && memcmp(back, frame, length) == 0);
    close(ends[0]);
    check_child(child);
    return 0;
}
