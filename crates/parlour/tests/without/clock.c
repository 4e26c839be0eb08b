/* A wall clock that is wrong, for LD_PRELOAD. PARLOUR_TEST_CLOCK is its error in seconds, or "steps" for a clock that
 * is a day ahead and a day behind in turn. The monotonic clocks and the times of files stay as they are. */
#define _GNU_SOURCE
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long error_of_the_clock(void)
{
    static atomic_int readings;
    const char *error = getenv("PARLOUR_TEST_CLOCK");
    if (error == NULL)
        return 0;
    if (strcmp(error, "steps") == 0)
        return atomic_fetch_add(&readings, 1) % 2 ? 86400 : -86400;
    return atol(error);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int result = (int)syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_TAI))
        now->tv_sec += error_of_the_clock();
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec exact;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &exact) != 0)
        return -1;
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now)
{
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (now != NULL)
        *now = exact.tv_sec;
    return exact.tv_sec;
}
