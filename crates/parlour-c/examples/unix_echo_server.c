/*
 * An echo server over UNIX sockets: one child process per client.
 *
 *     gcc unix_echo_server.c $(pkg-config --cflags --libs parlour) -o unix_echo_server && ./unix_echo_server echo
 *     parlour call echo hello
 */
#include <parlour/unix_sockets.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static int server;

static void stop(int number)
{
    (void)number;
    destroy_server(server);
    _exit(0);
}

static void reap(int number)
{
    (void)number;
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
}

static void serve(int client)
{
    char message[65536];
    int length;

    while ((length = recv_info(client, message, sizeof message)) > 0)
        if (send_info(client, message, (size_t)length) == -1)
            break;
    disconnect_from(client);
}

int main(int argc, char **argv)
{
    int client;

    server = new_server(argc > 1 ? argv[1] : "echo");
    if (server == -1) {
        fprintf(stderr, "%s\n", parlour_error_message());
        return 1;
    }
    signal(SIGINT, stop);
    signal(SIGTERM, stop);
    signal(SIGCHLD, reap);
    while ((client = accept_client(server)) != -1) {
        if (fork() == 0) {
            signal(SIGINT, SIG_DFL);
            signal(SIGTERM, SIG_DFL);
            serve(client);
            _exit(0);
        }
        close(client);
    }
    fprintf(stderr, "%s\n", parlour_error_message());
    destroy_server(server);
    return 1;
}
