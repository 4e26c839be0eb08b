/* What every test program has: it ends at the first thing that is not so, and never lasts long. */
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
            fprintf(stderr, "%s:%d: not so: %s (errno %d: %s)\n", __FILE__, __LINE__, #condition, error_,       \
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

/* A child that has ended well. */
static inline void check_child(pid_t child)
{
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* Bytes that tell where they are from. */
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
