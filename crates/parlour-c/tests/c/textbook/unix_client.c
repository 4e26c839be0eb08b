/* An interactive client: sends each line to the server and prints the answers. Waits for both with select(2). */
#include <parlour/unix_sockets.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <unistd.h>

#define MAX_LEN 1024

int main(int argc, char *argv[])
{
    int server, n, typing = 1, awaited = 0;
    char line[MAX_LEN];
    fd_set fds;

    if (argc != 2) {
        fprintf(stderr, "Usage: %s server_name\n", argv[0]);
        exit(1);
    }
    server = connect_to(argv[1]);
    if (server == -1) {
        perror("connect_to");
        exit(1);
    }
    setbuf(stdin, NULL);
    while (typing || awaited > 0) {
        FD_ZERO(&fds);
        if (typing)
            FD_SET(STDIN_FILENO, &fds);
        FD_SET(server, &fds);
        if (select(server + 1, &fds, NULL, NULL, NULL) == -1) {
            perror("select");
            exit(1);
        }
        if (FD_ISSET(STDIN_FILENO, &fds)) {
            if (fgets(line, MAX_LEN, stdin) == NULL) {
                typing = 0;
            } else {
                line[strcspn(line, "\n")] = '\0';
                if (send_info(server, line, strlen(line) + 1) == -1) {
                    perror("send_info");
                    exit(1);
                }
                awaited++;
            }
        }
        if (FD_ISSET(server, &fds)) {
            n = recv_info(server, line, MAX_LEN);
            if (n == -1) {
                perror("recv_info");
                exit(1);
            }
            if (n == 0) {
                printf("Server disconnected\n");
                break;
            }
            printf("%s\n", line);
            awaited--;
        }
    }
    disconnect_from(server);
    return 0;
}
