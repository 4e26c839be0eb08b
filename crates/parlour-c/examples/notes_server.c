/*
 * A server of calls: it keeps notes, answers the requests of all clients in one thread, and lists the notes to one of
 * them in another thread. It ends on SIGINT or SIGTERM.
 *
 *     gcc notes_server.c $(pkg-config --cflags --libs parlour) -pthread -o notes_server && ./notes_server notes &
 *     parlour call --id notes "buy milk"; parlour call --id notes list
 */
#include <parlour.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define NOTES_MAX 1000
#define NOTE_MAX 200

static char notes[NOTES_MAX][NOTE_MAX];
static int count;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static parlour_shutdown *stop;

static void on_signal(int number)
{
    (void)number;
    parlour_shutdown_ask(stop);
}

static void *list(void *call)
{
    char note[NOTE_MAX];
    int has_note;

    for (int i = 0;; i++) {
        pthread_mutex_lock(&lock);
        if ((has_note = i < count))
            strcpy(note, notes[i]);
        pthread_mutex_unlock(&lock);
        if (!has_note || parlour_call_item(call, note, strlen(note), 5000) != PARLOUR_OK)
            break;
    }
    parlour_call_end(call); /* an error means that nobody waits for the answer any more */
    return NULL;
}

static void answer(parlour_call *call)
{
    size_t length = parlour_call_length(call);
    pthread_t thread;

    if (length == 4 && memcmp(parlour_call_data(call), "list", 4) == 0) {
        if (pthread_create(&thread, NULL, list, call) == 0)
            pthread_detach(thread);
        else
            parlour_call_fail(call, "the server has too many threads");
    } else if (length == 0 || length >= NOTE_MAX || count == NOTES_MAX) {
        parlour_call_fail(call, "the note is empty or too long, or there are too many");
    } else {
        pthread_mutex_lock(&lock);
        memcpy(notes[count++], parlour_call_data(call), length); /* the rest is zero */
        pthread_mutex_unlock(&lock);
        parlour_call_reply(call, "noted", 5);
    }
}

int main(int argc, char **argv)
{
    parlour_call_server *server;
    parlour_call *call;
    if (parlour_call_server_bind(argc > 1 ? argv[1] : "notes", NULL, &server) == PARLOUR_OK &&
        parlour_call_server_shutdown_handle(server, &stop) == PARLOUR_OK) {
        signal(SIGINT, on_signal);
        signal(SIGTERM, on_signal);
        while (parlour_call_server_next(server, -1, &call) == PARLOUR_OK)
            answer(call);
        return parlour_call_server_close(server, 5000) != PARLOUR_OK;
    }
    fprintf(stderr, "%s\n", parlour_error_message());
    return 1;
}
