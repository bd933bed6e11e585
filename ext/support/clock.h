/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The clock that waits are measured by.
 */
#ifndef LNFQ_CLOCK_H
#define LNFQ_CLOCK_H

#include <stdint.h>
#include <time.h>

#define LNFQ_CLOCK_SECOND 1000000000LL /* in nanoseconds */

/* CLOCK_MONOTONIC in nanoseconds. */
static inline int64_t
lnfq_clock_now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * LNFQ_CLOCK_SECOND + time.tv_nsec;
}

#endif
