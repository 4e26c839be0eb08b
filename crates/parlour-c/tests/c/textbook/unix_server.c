/* An echo server, as in a course on operating systems: one child process per client. Ctrl-C ends it. */
#include <parlour/unix_sockets.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_LEN 1024

int server;

void handler(int sig)
{
    (void)sig;
    destroy_server(server);
    _exit(0);
}

void sigchld_handler(int sig)
{
    (void)sig;
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
}

int main(int argc, char *argv[])
{
    int client;
    pid_t pid;
    char buf[MAX_LEN];
    int n;

    if (argc != 2) {
        fprintf(stderr, "Usage: %s server_name\n", argv[0]);
        exit(1);
    }
    server = new_server(argv[1]);
    if (server == -1) {
        perror("new_server");
        exit(1);
    }
    signal(SIGINT, handler);
    signal(SIGTERM, handler);
    signal(SIGCHLD, sigchld_handler);
    printf("Server started\n");
    fflush(stdout);
    while (1) {
        client = accept_client(server);
        if (client == -1) {
            perror("accept_client");
            exit(1);
        }
        pid = fork();
        if (pid == -1) {
            perror("fork");
            exit(1);
        } else if (pid == 0) {
            close(server);
            signal(SIGINT, SIG_DFL);
            while ((n = recv_info(client, buf, MAX_LEN)) > 0) {
                if (send_info(client, buf, n) == -1) {
                    perror("send_info");
                    break;
                }
            }
            if (n == -1)
                perror("recv_info");
            disconnect_from(client);
            exit(0);
        }
        close(client);
    }
}
