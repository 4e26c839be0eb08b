/* An interactive client over FIFOs: sends each line to the server and prints the answer. Ctrl-C sends "bye". */
#include <parlour/fifo.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_LEN 1024

struct comm_channel channel;

void handler(int sig)
{
    (void)sig;
    send_info(&channel, "bye", 4);
    disconnect_from(&channel);
    _exit(0);
}

int main(int argc, char *argv[])
{
    char line[MAX_LEN];
    int n;

    if (argc != 2) {
        fprintf(stderr, "Usage: %s server_name\n", argv[0]);
        exit(1);
    }
    if (connect_to(argv[1], &channel) == -1) {
        perror("connect_to");
        exit(1);
    }
    signal(SIGINT, handler);
    while (fgets(line, MAX_LEN, stdin) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (send_info(&channel, line, strlen(line) + 1) == -1) {
            perror("send_info");
            exit(1);
        }
        n = recv_info(&channel, line, MAX_LEN);
        if (n == -1) {
            perror("recv_info");
            exit(1);
        }
        if (n == 0) {
            printf("Server disconnected\n");
            break;
        }
        printf("%s\n", line);
    }
    disconnect_from(&channel);
    return 0;
}
