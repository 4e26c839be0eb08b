// The headers compile as C++: the full one and a classic one in one program.
#include "../check.h"
#include <parlour.h>
#include <parlour/unix_sockets.h>
#include <string>
#include <thread>

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    alarm(100);
    std::string address = argv[1];
    int server = new_server(address.c_str());
    CHECK(server >= 0);
    std::thread echo([server] {
        char buffer[64];
        int client = accept_client(server), length;
        CHECK(client >= 0);
        while ((length = recv_info(client, buffer, sizeof buffer)) > 0)
            CHECK(send_info(client, buffer, static_cast<size_t>(length)) == length);
        disconnect_from(client);
    });

    parlour_connection *connection = nullptr;
    CHECK(parlour_connect(("unix:" + address).c_str(), nullptr, &connection) == PARLOUR_OK);
    const std::string text = "from C++";
    CHECK(parlour_send(connection, text.data(), text.size(), -1) == PARLOUR_OK);
    parlour_message *message = nullptr;
    CHECK(parlour_recv(connection, -1, &message) == PARLOUR_OK);
    CHECK(std::string(static_cast<const char *>(parlour_message_data(message)), parlour_message_length(message)) == text);
    parlour_message_free(message);
    CHECK(parlour_connection_close(connection, -1) == PARLOUR_OK);
    echo.join();

    // The functions have addresses, and accept pointers to const.
    int (*send)(int, const void *, size_t) = &send_info;
    CHECK(send(-1, "x", 1) == -1 && errno == EBADF);
    destroy_server(server);
    return 0;
}
