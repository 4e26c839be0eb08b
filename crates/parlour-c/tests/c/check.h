/* Checks for the test programs. A program exits with 1 at the first check that fails. */
#ifndef CHECK_H
#define CHECK_H

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(condition)                                                                                       \
    do {                                                                                                       \
        if (!(condition)) {                                                                                    \
            int error_ = errno;                                                                                \
            fprintf(stderr, "%s:%d: check failed: %s (errno %d: %s)\n", __FILE__, __LINE__, #condition, error_,       \
                    strerror(error_));                                                                         \
            _exit(1);                                                                                          \
        }                                                                                                      \
    } while (0)

#define CHECK_FAILS(call, number)                                                                              \
    do {                                                                                                       \
        errno = 0;                                                                                             \
        CHECK((call) == -1);                                                                                   \
        CHECK(errno == (number));                                                                              \
    } while (0)

/* Waits for a child, which must exit with 0. */
static inline void check_child(pid_t child)
{
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* Fills a buffer with bytes that depend on their offset and on a seed. */
static inline void fill(unsigned char *bytes, size_t length, unsigned seed)
{
    for (size_t i = 0; i < length; i++)
        bytes[i] = (unsigned char)(i * 31 + i / 251 + seed);
}

static inline int is_filled(const unsigned char *bytes, size_t length, unsigned seed)
{
    for (size_t i = 0; i < length; i++)
        if (bytes[i] != (unsigned char)(i * 31 + i / 251 + seed))
            return 0;
    return 1;
}

#endif
