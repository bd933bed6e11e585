/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Waiting for a mutex, and waking who waits; see mutex.h.
 */
#define _GNU_SOURCE /* syscall */
#include "mutex.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

void
lnfq_mutex_await(struct lnfq_mutex *mutex)
{
    while (atomic_exchange(&mutex->state, 2) != 0) {
        /* Returns at once if the state is another by now. */
        (void)syscall(SYS_futex, &mutex->state, FUTEX_WAIT_PRIVATE, 2, NULL, NULL, 0);
    }
}

void
lnfq_mutex_wake(struct lnfq_mutex *mutex)
{
    (void)syscall(SYS_futex, &mutex->state, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}
