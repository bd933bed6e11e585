/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A mutex whose taking and release are a few instructions each where nobody waits for it: a packet
 * pays for both several times, and pthread's are calls into another library. Futexes, as there;
 * see futex(7). Without Python.
 */
#ifndef LNFQ_MUTEX_H
#define LNFQ_MUTEX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct lnfq_mutex {
    _Atomic uint32_t state; /* 0 free; 1 taken; 2 taken, and somebody may wait */
};

/* The slow ways of the two below. */
void lnfq_mutex_await(struct lnfq_mutex *mutex);
void lnfq_mutex_wake(struct lnfq_mutex *mutex);

static inline void
lnfq_mutex_init(struct lnfq_mutex *mutex)
{
    atomic_init(&mutex->state, 0);
}

static inline bool
lnfq_mutex_try(struct lnfq_mutex *mutex)
{
    uint32_t expected = 0;

    return atomic_compare_exchange_strong(&mutex->state, &expected, 1);
}

/* Whether anybody has it. */
static inline bool
lnfq_mutex_taken(struct lnfq_mutex *mutex)
{
    return atomic_load(&mutex->state) != 0;
}

static inline void
lnfq_mutex_take(struct lnfq_mutex *mutex)
{
    if (!lnfq_mutex_try(mutex)) {
        lnfq_mutex_await(mutex);
    }
}

static inline void
lnfq_mutex_release(struct lnfq_mutex *mutex)
{
    if (atomic_exchange(&mutex->state, 0) == 2) {
        lnfq_mutex_wake(mutex);
    }
}

#endif
