/* Payloads: bytes in one part or in several, descriptors, shared blocks, and the payloads that are refused. */
#include "pair.h"

static struct iovec parts[] = {{(void *)"in ", 3}, {NULL, 0}, {(void *)"parts", 5}};

static void bytes(parlour_connection *client, parlour_connection *served)
{
    parlour_payload whole = {.data = "whole", .length = 5};
    parlour_payload in_parts = {.parts = parts, .part_count = 3};
    parlour_payload empty = {0};

    OK(parlour_send_payload(client, &whole, -1));
    received(served, "whole");
    OK(parlour_send_payload(client, &in_parts, 0));
    received(served, "in parts");
    OK(parlour_send_payload(client, &empty, 1000));
    received(served, "");
}

static void refused_payloads(parlour_connection *client, parlour_connection *served, const parlour_shared *block)
{
    static const parlour_shared *const no_block[] = {NULL};
    const parlour_shared *blocks[] = {block};
    int fds[] = {0, -1};
    struct iovec broken = {NULL, 1};
    const parlour_payload invalid[] = {
        {.data = "x", .length = 1, .parts = parts, .part_count = 3},
        {.fds = fds, .fd_count = 1, .blocks = blocks, .block_count = 1},
        {.fds = fds, .fd_count = 2},
    };
    const parlour_payload nulls[] = {
        {.length = 1},
        {.part_count = 1},
        {.parts = &broken, .part_count = 1},
        {.fd_count = 1},
        {.block_count = 1},
        {.blocks = no_block, .block_count = 1},
    };

    for (size_t i = 0; i < sizeof invalid / sizeof invalid[0]; i++)
        GIVES(parlour_send_payload(client, &invalid[i], -1), PARLOUR_INVALID_ARGUMENT);
    for (size_t i = 0; i < sizeof nulls / sizeof nulls[0]; i++)
        GIVES(parlour_send_payload(client, &nulls[i], -1), PARLOUR_NULL_POINTER);
    /* Nothing of them was sent. */
    OK(parlour_send(client, "next", 4, -1));
    received(served, "next");
}

static void descriptors(parlour_connection *client, parlour_connection *served, bool can_send)
{
    static int many[254];
    int pipe_fds[2], taken[2];
    char byte;
    size_t count;
    parlour_message *message;
    parlour_payload payload = {.parts = parts, .part_count = 3, .fds = pipe_fds, .fd_count = 2};

    CHECK(pipe(pipe_fds) == 0);
    if (!can_send) {
        GIVES(parlour_send_payload(client, &payload, 0), PARLOUR_UNSUPPORTED);
    } else {
        for (int timeout = -1; timeout <= 1; timeout++) {
            OK(parlour_send_payload(client, &payload, timeout * 1000));
            OK(parlour_recv(served, 30000, &message));
            CHECK(parlour_message_length(message) == 8);
            OK(parlour_message_take_fds(message, taken, 2, &count));
            CHECK(count == 2);
            parlour_message_free(message);
            CHECK(write(taken[1], "x", 1) == 1 && read(pipe_fds[0], &byte, 1) == 1 && byte == 'x');
            close(taken[0]);
            close(taken[1]);
        }
        parlour_payload too_many = {.fds = many, .fd_count = 254};
        GIVES(parlour_send_payload(client, &too_many, -1), PARLOUR_MESSAGE_TOO_LONG);
    }
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

static void blocks(parlour_connection *client, parlour_connection *served, parlour_shared *block, bool can_send)
{
    const parlour_shared *sent[] = {block, block};
    parlour_shared *taken[2];
    size_t count;
    parlour_message *message;
    parlour_payload payload = {.data = "two", .length = 3, .blocks = sent, .block_count = 2};

    if (!can_send) {
        GIVES(parlour_send_payload(client, &payload, 0), PARLOUR_UNSUPPORTED);
        return;
    }
    for (int timeout = -1; timeout <= 1; timeout++) {
        OK(parlour_send_payload(client, &payload, timeout * 1000));
        OK(parlour_recv(served, 30000, &message));
        CHECK(parlour_message_length(message) == 3 && parlour_message_fd_count(message) == 2);
        OK(parlour_message_take_shared(message, taken, 2, &count));
        CHECK(count == 2);
        parlour_message_free(message);
        for (int i = 0; i < 2; i++) {
            CHECK(parlour_shared_length(taken[i]) == 5 && memcmp(parlour_shared_data(taken[i]), "block", 5) == 0);
            parlour_shared_free(taken[i]);
        }
    }
}

int main(int argc, char **argv)
{
    parlour_server_options *options = parlour_server_options_new();
    parlour_server *server;
    parlour_connection *client, *served, *sending, *receiving;
    parlour_capabilities can;
    parlour_shared *block;
    parlour_payload payload = {.data = "x", .length = 1};

    CHECK(argc == 2);
    alarm(100);
    address = argv[1];
    OK(parlour_server_options_fds_max(options, 4));
    OK(parlour_server_bind(address, options, &server));
    parlour_server_options_free(options);
    connect_pair(server, &client, &served);
    OK(parlour_connection_capabilities(client, &can));
    OK(parlour_shared_new("block", 5, &block));

    bytes(client, served);
    refused_payloads(client, served, block);
    descriptors(client, served, can.descriptors);
    blocks(client, served, block, can.zero_copy);
    OK(parlour_connection_split(client, &sending, &receiving));
    GIVES(parlour_send_payload(receiving, &payload, -1), PARLOUR_UNSUPPORTED);
    OK(parlour_send_payload(sending, &payload, -1));
    received(served, "x");

    parlour_shared_free(block);
    parlour_connection_free(sending);
    parlour_connection_free(receiving);
    parlour_connection_free(served);
    OK(parlour_server_close(server));
    return 0;
}
