/* Frames: lent, copied and read in place, to one reader and to the clients of a hub, with a reader and a publisher that
 * are killed. */
#include "pair.h"
#include <dirent.h>
#include <poll.h>

#define LENGTH 5000

static size_t open_descriptors(void)
{
    DIR *directory = opendir("/proc/self/fd");
    size_t count = 0;

    CHECK(directory != NULL);
    while (readdir(directory) != NULL)
        count++;
    closedir(directory);
    return count;
}

static parlour_frame_pool *new_pool(size_t readers, size_t share, int at_share)
{
    parlour_frame_pool_options *options = parlour_frame_pool_options_new(LENGTH);
    parlour_frame_pool *pool;

    OK(parlour_frame_pool_options_readers(options, readers, share));
    OK(parlour_frame_pool_options_own_blocks(options, 1));
    OK(parlour_frame_pool_options_leases_max(options, 10, 10));
    OK(parlour_frame_pool_options_any_user(options, false));
    OK(parlour_frame_pool_options_at_share(options, at_share, LENGTH));
    GIVES(parlour_frame_pool_options_at_share(options, 77, LENGTH), PARLOUR_INVALID_ARGUMENT);
    OK(parlour_frame_pool_new(options, &pool));
    parlour_frame_pool_options_free(options);
    CHECK(parlour_frame_pool_blocks(pool) == readers * share + 1);
    return pool;
}

static uint64_t attach(parlour_frame_pool *pool, parlour_connection *client, parlour_connection *served,
                       parlour_frame_reader **reader)
{
    parlour_message *message;
    uint64_t number;

    OK(parlour_frame_reader_attach(client, 0, 0, -1, reader));
    OK(parlour_recv(served, 30000, &message));
    CHECK(parlour_frame_pool_is_attach(message) && !parlour_frame_reader_is_frame(message));
    OK(parlour_frame_pool_admit(pool, served, message, &number));
    CHECK(number > 0 && parlour_frame_pool_held_by(pool, number) == 0);
    return number;
}

static parlour_frame *filled(parlour_frame_pool *pool, unsigned seed)
{
    parlour_frame *frame;

    OK(parlour_frame_pool_loan(pool, 30000, &frame));
    CHECK(parlour_frame_length(frame) == LENGTH);
    fill(parlour_frame_buffer(frame), LENGTH, seed);
    return frame;
}

static parlour_received_frame *next_frame(parlour_connection *client, parlour_frame_reader *reader)
{
    parlour_message *message;
    parlour_received_frame *frame;

    OK(parlour_recv(client, 30000, &message));
    CHECK(parlour_frame_reader_is_frame(message) && !parlour_frame_pool_is_attach(message));
    OK(parlour_frame_reader_open(reader, message, &frame));
    return frame;
}

static void lend(parlour_connection *client, parlour_connection *served)
{
    static unsigned char bytes[LENGTH];
    parlour_frame_pool *pool = new_pool(1, 2, PARLOUR_AT_SHARE_BY_VALUE), *other = new_pool(1, 1, 0);
    parlour_frame_reader *reader;
    parlour_received_frame *received, *trusted;
    parlour_frame *frame;
    parlour_message *message;
    size_t length;
    uint64_t number = attach(pool, client, served, &reader), no_number;

    /* An untrusted publisher: the frame is copied. */
    frame = filled(pool, 1);
    OK(parlour_frame_truncate(frame, LENGTH + 1));
    OK(parlour_frame_truncate(frame, LENGTH - 1));
    OK(parlour_frame_pool_send(pool, number, served, frame, "note", 4, 0));
    CHECK(parlour_frame_buffer(frame) == NULL && parlour_frame_length(frame) == LENGTH - 1);
    CHECK(is_filled(parlour_frame_data(frame), LENGTH - 1, 1));
    GIVES(parlour_frame_truncate(frame, 1), PARLOUR_INVALID_ARGUMENT);
    parlour_frame_free(frame);
    received = next_frame(client, reader);
    CHECK(parlour_received_frame_length(received) == LENGTH - 1 && parlour_received_frame_is_lent(received));
    CHECK(parlour_received_frame_data(received) == NULL);
    CHECK(parlour_received_frame_note_length(received) == 4);
    CHECK(memcmp(parlour_received_frame_note(received), "note", 4) == 0);
    GIVES(parlour_received_frame_copy(received, bytes, LENGTH - 2, &length), PARLOUR_BUFFER_TOO_SMALL);
    CHECK(length == LENGTH - 1);
    OK(parlour_received_frame_copy(received, bytes, LENGTH, &length));
    CHECK(length == LENGTH - 1 && is_filled(bytes, length, 1));
    CHECK(parlour_frame_pool_held_by(pool, number) == 1);

    /* A trusted one: it is read in place. The third frame is beyond the share, and arrives as a copy. */
    OK(parlour_frame_reader_trust_publisher(reader, client));
    GIVES(parlour_frame_reader_trust_publisher(reader, client), PARLOUR_INVALID_ARGUMENT);
    frame = filled(pool, 2);
    OK(parlour_frame_pool_send(pool, number, served, frame, NULL, 0, -1));
    parlour_frame_free(frame);
    trusted = next_frame(client, reader);
    CHECK(parlour_received_frame_is_lent(trusted) && is_filled(parlour_received_frame_data(trusted), LENGTH, 2));
    OK(parlour_received_frame_copy(trusted, bytes, LENGTH, &length));
    CHECK(length == LENGTH && is_filled(bytes, length, 2) && parlour_received_frame_note_length(trusted) == 0);
    CHECK(parlour_frame_pool_held_by(pool, number) == 2);
    frame = filled(pool, 3);
    OK(parlour_frame_pool_send(pool, number, served, frame, "third", 5, 30000));
    parlour_frame_free(frame);
    parlour_received_frame_free(received);
    received = next_frame(client, reader);
    CHECK(!parlour_received_frame_is_lent(received) && parlour_received_frame_note_length(received) == 5);
    CHECK(is_filled(parlour_received_frame_data(received), LENGTH, 3));
    CHECK(parlour_frame_pool_held_by(pool, number) == 1);
    parlour_received_frame_free(received);

    /* Mistakes change nothing. */
    frame = filled(other, 4);
    GIVES(parlour_frame_pool_send(pool, number, served, frame, NULL, 0, -1), PARLOUR_UNSUPPORTED);
    parlour_frame_free(frame);
    frame = filled(pool, 5);
    GIVES(parlour_frame_pool_send(pool, number + 1, served, frame, NULL, 0, -1), PARLOUR_DISCONNECTED);
    OK(parlour_send(served, "no frame", 8, -1));
    OK(parlour_recv(client, 30000, &message));
    CHECK(!parlour_frame_reader_is_frame(message));
    GIVES(parlour_frame_reader_open(reader, message, &received), PARLOUR_PROTOCOL);
    CHECK(received == NULL);
    OK(parlour_send(client, "no reader", 9, -1));
    OK(parlour_recv(served, 30000, &message));
    GIVES(parlour_frame_pool_admit(pool, served, message, &no_number), PARLOUR_PROTOCOL);
    CHECK(no_number == 0);

    /* A frame outlives its reader and its pool. */
    parlour_frame_reader_free(reader);
    CHECK(parlour_frame_pool_held_by(pool, number) == 1);
    parlour_frame_pool_remove(pool, number);
    GIVES(parlour_frame_pool_send(pool, number, served, frame, NULL, 0, -1), PARLOUR_DISCONNECTED);
    parlour_frame_free(frame);
    parlour_frame_pool_free(pool);
    parlour_frame_pool_free(other);
    CHECK(is_filled(parlour_received_frame_data(trusted), LENGTH, 2));
    parlour_received_frame_free(trusted);
}

/* A reader that keeps its frame makes the publisher go on, give up or wait, and the descriptor of the pool tells when a
 * block has returned. */
static void keep(parlour_connection *client, parlour_connection *served)
{
    for (int at_share = PARLOUR_AT_SHARE_WAIT; at_share <= PARLOUR_AT_SHARE_REFUSE; at_share++) {
        parlour_frame_pool *pool = new_pool(1, 1, at_share);
        struct pollfd fd = {.fd = parlour_frame_pool_fd(pool), .events = POLLIN};
        parlour_frame_reader *reader;
        parlour_received_frame *received;
        parlour_frame *frame, *none;
        uint64_t number = attach(pool, client, served, &reader);
        parlour_status status = at_share == PARLOUR_AT_SHARE_WAIT ? PARLOUR_TIMED_OUT : PARLOUR_BUSY;

        frame = filled(pool, 1);
        OK(parlour_frame_pool_send(pool, number, served, frame, NULL, 0, 0));
        parlour_frame_free(frame);
        received = next_frame(client, reader);
        frame = filled(pool, 2);
        GIVES(parlour_frame_pool_send(pool, number, served, frame, NULL, 0, 0), status);
        GIVES(parlour_frame_pool_send(pool, number, served, frame, NULL, 0, 10), status);
        GIVES(parlour_frame_pool_loan(pool, 10, &none), PARLOUR_TIMED_OUT);
        GIVES(parlour_frame_pool_loan(pool, 0, &none), PARLOUR_TIMED_OUT);
        CHECK(none == NULL && poll(&fd, 1, 0) == 0);
        parlour_received_frame_free(received);
        CHECK(poll(&fd, 1, 30000) == 1);
        OK(parlour_frame_pool_send(pool, number, served, frame, NULL, 0, 30000));
        parlour_frame_free(frame);
        received = next_frame(client, reader);
        parlour_frame_free(filled(pool, 3));
        parlour_received_frame_free(received);
        parlour_frame_reader_free(reader);
        parlour_frame_pool_free(pool);
    }
}

/* In a child every call returns, and freeing what the parent has returns nothing. */
static void fork_child(parlour_connection *client, parlour_connection *served)
{
    parlour_frame_pool *pool = new_pool(1, 2, PARLOUR_AT_SHARE_BY_VALUE);
    parlour_frame_reader *reader;
    parlour_received_frame *received;
    parlour_frame *frame, *none;
    parlour_message *message;
    uint64_t number = attach(pool, client, served, &reader), other;
    pid_t child;

    OK(parlour_frame_reader_trust_publisher(reader, client));
    frame = filled(pool, 1);
    for (int i = 0; i < 2; i++)
        OK(parlour_frame_pool_send(pool, number, served, frame, NULL, 0, -1));
    received = next_frame(client, reader);
    OK(parlour_recv(client, 30000, &message));
    CHECK((child = fork()) >= 0);
    if (child == 0) {
        char byte;
        size_t length;

        alarm(30);
        GIVES(parlour_frame_pool_loan(pool, -1, &none), PARLOUR_UNSUPPORTED);
        GIVES(parlour_frame_pool_send(pool, number, served, frame, NULL, 0, -1), PARLOUR_UNSUPPORTED);
        CHECK(parlour_frame_length(frame) == 0 && parlour_received_frame_length(received) == 0);
        GIVES(parlour_received_frame_copy(received, &byte, 1, &length), PARLOUR_UNSUPPORTED);
        CHECK(length == 0 && parlour_frame_pool_held_by(pool, number) == 0);
        parlour_frame_pool_remove(pool, number);
        parlour_received_frame_free(received);
        GIVES(parlour_frame_reader_open(reader, message, &received), PARLOUR_UNSUPPORTED);
        parlour_frame_reader_free(reader);
        parlour_frame_free(frame);
        parlour_frame_pool_free(pool);
        /* Memory that was in use at the fork is leaked on purpose. Another program has no leaks to report. */
        execl("/bin/true", "true", (char *)NULL);
        _exit(1);
    }
    check_child(child);
    CHECK(parlour_frame_pool_held_by(pool, number) == 1);
    CHECK(is_filled(parlour_received_frame_data(received), LENGTH, 1));
    parlour_received_frame_free(received);
    OK(parlour_frame_reader_open(reader, message, &received));
    CHECK(is_filled(parlour_received_frame_data(received), LENGTH, 1));
    parlour_received_frame_free(received);
    CHECK(parlour_frame_pool_held_by(pool, number) == 0);
    OK(parlour_send(client, "another message", 15, -1));
    OK(parlour_recv(served, 30000, &message));
    GIVES(parlour_frame_pool_admit(pool, served, message, &other), PARLOUR_PROTOCOL);
    parlour_frame_free(frame);
    parlour_frame_reader_free(reader);
    parlour_frame_pool_free(pool);
}

/* Kills a child, which sleeps with everything that it holds. */
static void kill_child(pid_t child)
{
    int status;

    CHECK(kill(child, SIGKILL) == 0 && waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void sleep_until_killed(parlour_connection *connection)
{
    OK(parlour_send(connection, "I hold it", 9, -1));
    for (;;)
        pause();
}

static parlour_connection *connect_when_there(void)
{
    parlour_connect_options *options = parlour_connect_options_new();
    parlour_connection *connection;

    OK(parlour_connect_options_wait_for_server(options, 60000));
    OK(parlour_connect_options_fds_max(options, 2));
    OK(parlour_connect(address, options, &connection));
    parlour_connect_options_free(options);
    return connection;
}

/* The reader dies with a frame that it has opened, and with one that nobody has received. */
static void kill_reader(parlour_server *server)
{
    parlour_frame_pool *pool = new_pool(1, 2, PARLOUR_AT_SHARE_REFUSE);
    parlour_connection *served;
    parlour_frame *frame;
    parlour_message *message;
    uint64_t number;
    pid_t child = fork();

    CHECK(child >= 0);
    if (child == 0) {
        parlour_connection *client = connect_when_there();
        parlour_frame_reader *reader;

        OK(parlour_frame_reader_attach(client, 0, 0, -1, &reader));
        OK(parlour_frame_reader_trust_publisher(reader, client));
        CHECK(is_filled(parlour_received_frame_data(next_frame(client, reader)), LENGTH, 1));
        sleep_until_killed(client);
    }
    OK(parlour_server_accept(server, 30000, &served));
    OK(parlour_recv(served, 30000, &message));
    OK(parlour_frame_pool_admit(pool, served, message, &number));
    frame = filled(pool, 1);
    OK(parlour_frame_pool_send(pool, number, served, frame, NULL, 0, 1000));
    received(served, "I hold it");
    parlour_frame_free(frame);
    frame = filled(pool, 2);
    OK(parlour_frame_pool_send(pool, number, served, frame, NULL, 0, 1000));
    CHECK(parlour_frame_pool_held_by(pool, number) == 2);
    kill_child(child);
    parlour_connection_free(served);
    parlour_frame_free(frame);
    /* All blocks in turn: none is lost. */
    for (int i = 0; i < 6; i++)
        parlour_frame_free(filled(pool, 3));
    parlour_frame_pool_remove(pool, number);
    parlour_frame_pool_free(pool);
}

/* The publisher dies, and the frame that it has sent remains. */
static void kill_publisher(parlour_server *server)
{
    parlour_connection *served;
    parlour_frame_reader *reader;
    parlour_received_frame *frame;
    pid_t child = fork();

    CHECK(child >= 0);
    if (child == 0) {
        parlour_connection *client = connect_when_there();
        parlour_frame_pool *pool = new_pool(1, 2, PARLOUR_AT_SHARE_REFUSE);
        parlour_message *message;
        parlour_frame *lent;
        uint64_t number;

        OK(parlour_recv(client, 30000, &message));
        OK(parlour_frame_pool_admit(pool, client, message, &number));
        OK(parlour_frame_pool_loan(pool, -1, &lent));
        fill(parlour_frame_buffer(lent), LENGTH, 7);
        OK(parlour_frame_pool_send(pool, number, client, lent, NULL, 0, 1000));
        sleep_until_killed(client);
    }
    OK(parlour_server_accept(server, 30000, &served));
    OK(parlour_frame_reader_attach(served, LENGTH, 1 << 20, 30000, &reader));
    OK(parlour_frame_reader_trust_publisher(reader, served));
    frame = next_frame(served, reader);
    received(served, "I hold it");
    kill_child(child);
    CHECK(is_filled(parlour_received_frame_data(frame), LENGTH, 7));
    parlour_received_frame_free(frame);
    parlour_frame_reader_free(reader);
    parlour_connection_free(served);
}

#define CLIENTS 3

/* A client of the hub. One of them keeps its first frame, and misses the second one. */
static void watch(bool keeps)
{
    parlour_connection *client = connect_when_there();
    parlour_frame_reader *reader;
    parlour_received_frame *frame, *next;

    OK(parlour_frame_reader_attach(client, 0, 0, -1, &reader));
    OK(parlour_frame_reader_trust_publisher(reader, client));
    frame = next_frame(client, reader);
    CHECK(is_filled(parlour_received_frame_data(frame), LENGTH, 1));
    if (!keeps)
        parlour_received_frame_free(frame);
    OK(parlour_send(client, "seen", 4, -1));
    if (!keeps) {
        next = next_frame(client, reader);
        CHECK(is_filled(parlour_received_frame_data(next), LENGTH, 2));
        parlour_received_frame_free(next);
        OK(parlour_send(client, "seen", 4, -1));
    }
    received(client, "end");
    if (keeps)
        parlour_received_frame_free(frame);
    parlour_frame_reader_free(reader);
    parlour_connection_free(client);
}

static void serve_hub(void)
{
    parlour_server_options *options = parlour_server_options_new();
    parlour_frame_pool *pool = new_pool(CLIENTS, 1, PARLOUR_AT_SHARE_REFUSE);
    parlour_hub *hub;
    parlour_event event;
    pid_t children[CLIENTS];
    uint64_t readers[CLIENTS];
    int attached = 0, seen = 0, left = 0;
    size_t missed;

    OK(parlour_server_options_fds_max(options, 2));
    OK(parlour_hub_bind(address, options, NULL, &hub));
    parlour_server_options_free(options);
    for (int i = 0; i < CLIENTS; i++) {
        CHECK((children[i] = fork()) >= 0);
        if (children[i] == 0) {
            watch(i == 0);
            execl("/bin/true", "true", (char *)NULL);
            _exit(1);
        }
    }
    while (left < CLIENTS) {
        parlour_frame *frame;

        OK(parlour_hub_next_event(hub, 60000, &event));
        if (event.kind == PARLOUR_EVENT_LEFT)
            left++;
        if (event.kind != PARLOUR_EVENT_MESSAGE)
            continue;
        if (parlour_frame_pool_is_attach(event.message)) {
            OK(parlour_frame_pool_admit_client(pool, hub, event.client, event.message, &readers[attached]));
            if (++attached == CLIENTS) {
                frame = filled(pool, 1);
                for (int i = 0; i < CLIENTS; i++)
                    OK(parlour_frame_pool_send_client(pool, readers[i], hub, frame, NULL, 0, 0));
                parlour_frame_free(frame);
            }
            continue;
        }
        parlour_message_free(event.message);
        if (++seen == CLIENTS) {
            frame = filled(pool, 2);
            OK(parlour_frame_pool_broadcast(pool, hub, frame, "all", 3, 0, &missed));
            CHECK(missed == 1);
            parlour_frame_free(frame);
        } else if (seen == 2 * CLIENTS - 1) {
            OK(parlour_hub_broadcast(hub, "end", 3, NULL));
        }
    }
    /* Everyone has left, so nobody misses it. */
    parlour_frame *frame = filled(pool, 3);
    OK(parlour_frame_pool_broadcast(pool, hub, frame, NULL, 0, 0, &missed));
    CHECK(missed == 0);
    GIVES(parlour_frame_pool_send_client(pool, readers[0], hub, frame, NULL, 0, 0), PARLOUR_DISCONNECTED);
    parlour_frame_free(frame);
    for (int i = 0; i < CLIENTS; i++)
        check_child(children[i]);
    parlour_frame_pool_free(pool);
    OK(parlour_hub_close(hub, 1000));
}

int main(int argc, char **argv)
{
    parlour_server_options *options = parlour_server_options_new();
    parlour_frame_pool_options *pool_options = parlour_frame_pool_options_new(0);
    parlour_frame_pool *pool;
    parlour_frame_reader *reader;
    parlour_server *server;
    parlour_connection *client, *served;
    size_t before;

    CHECK(argc == 2);
    alarm(100);
    address = argv[1];
    GIVES(parlour_frame_pool_new(pool_options, &pool), PARLOUR_INVALID_OPTION);
    CHECK(pool == NULL);
    parlour_frame_pool_options_free(pool_options);
    OK(parlour_server_options_fds_max(options, 2));
    OK(parlour_server_bind(address, options, &server));
    parlour_server_options_free(options);
    connect_pair(server, &client, &served);
    if (strncmp(address, "fifo:", 5) == 0) {
        GIVES(parlour_frame_reader_attach(client, 0, 0, -1, &reader), PARLOUR_UNSUPPORTED);
        CHECK(reader == NULL);
    } else {
        before = open_descriptors();
        lend(client, served);
        keep(client, served);
        fork_child(client, served);
        CHECK(open_descriptors() == before);
    }
    parlour_connection_free(client);
    parlour_connection_free(served);
    if (strncmp(address, "fifo:", 5) != 0) {
        before = open_descriptors();
        kill_reader(server);
        kill_publisher(server);
        CHECK(open_descriptors() == before);
    }
    OK(parlour_server_close(server));
    if (strncmp(address, "fifo:", 5) != 0)
        serve_hub();
    return 0;
}
