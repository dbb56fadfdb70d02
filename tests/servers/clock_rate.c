/* Clocks that run fast or slow: preloaded into a process, lets the clocks that it reads run at the
   rate that stands in CLOCK_RATE ("1.06"), from the start of the process on. With CLOCK_RATE_OF=boot
   only CLOCK_BOOTTIME does, the clock of a member's leases; its waits are the kernel's as ever. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

#define CLOCKS 16

static int (*real_clock)(clockid_t, struct timespec *);
static double rate = 1.0;
static int only_boot;
static double began[CLOCKS];

static double seconds(const struct timespec *time)
{
    return time->tv_sec + time->tv_nsec / 1e9;
}

__attribute__((constructor)) static void start(void)
{
    const char *text = getenv("CLOCK_RATE"), *of = getenv("CLOCK_RATE_OF");
    struct timespec now;
    *(void **)&real_clock = dlsym(RTLD_NEXT, "clock_gettime");
    if (text)
        rate = atof(text);
    only_boot = of && strcmp(of, "boot") == 0;
    for (clockid_t id = 0; id < CLOCKS; id++)
        if (real_clock(id, &now) == 0)
            began[id] = seconds(&now);
}

static int runs_at_the_rate(clockid_t id)
{
    if (only_boot)
        return id == CLOCK_BOOTTIME;
    return id == CLOCK_REALTIME || id == CLOCK_MONOTONIC || id == CLOCK_BOOTTIME ||
           id == CLOCK_MONOTONIC_RAW || id == CLOCK_REALTIME_COARSE || id == CLOCK_MONOTONIC_COARSE;
}

int clock_gettime(clockid_t id, struct timespec *now)
{
    if (!real_clock)
        start();
    int result = real_clock(id, now);
    if (result == 0 && id >= 0 && id < CLOCKS && runs_at_the_rate(id)) {
        /* The part that was gained alone goes through a double, which has no nanoseconds. */
        double gain = (seconds(now) - began[id]) * (rate - 1);
        long long nanoseconds = now->tv_nsec + (long long)(gain * 1e9);
        now->tv_sec += nanoseconds / 1000000000;
        now->tv_nsec = nanoseconds % 1000000000;
        if (now->tv_nsec < 0) {
            now->tv_nsec += 1000000000;
            now->tv_sec--;
        }
    }
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec exact;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &exact))
        return -1;
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *out)
{
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (out)
        *out = exact.tv_sec;
    return exact.tv_sec;
}
