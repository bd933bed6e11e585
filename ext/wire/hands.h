/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Calls of `process` and `handle_packet` that have messages in hand which are not dispatched yet.
 *
 * What they have can't be seen. But it can be told when all that have any now are done, however
 * many begin meanwhile: a call belongs to the turn in which it began, and a new turn begins when
 * somebody waits for the end of the one before. At most two are under way. It needs no Python. Its
 * owner locks it, except where a call is done.
 */
#ifndef LNFQ_HANDS_H
#define LNFQ_HANDS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct lnfq_hands {
    uint64_t turn;                  /* the present one; the first is 1 */
    _Atomic unsigned int counts[2]; /* calls of the even turns, and of the odd ones */
};

static inline void
lnfq_hands_init(struct lnfq_hands *hands)
{
    hands->turn = 1;
    atomic_init(&hands->counts[0], 0);
    atomic_init(&hands->counts[1], 0);
}

/* A call gets messages; which one it is to be ended with. */
static inline unsigned int
lnfq_hands_begin(struct lnfq_hands *hands)
{
    unsigned int which = hands->turn % 2;

    atomic_fetch_add(&hands->counts[which], 1);
    return which;
}

/* It has dispatched them, or set them aside. */
static inline void
lnfq_hands_end(struct lnfq_hands *hands, unsigned int which)
{
    atomic_fetch_sub(&hands->counts[which], 1);
}

/* How many calls have any. */
static inline unsigned int
lnfq_hands_count(struct lnfq_hands *hands)
{
    return atomic_load(&hands->counts[0]) + atomic_load(&hands->counts[1]);
}

/* Whether all calls that began in a turn, or before, are done. */
static inline bool
lnfq_hands_are_done(struct lnfq_hands *hands, uint64_t turn)
{
    if (hands->turn == turn && atomic_load(&hands->counts[(turn + 1) % 2]) == 0) {
        hands->turn += 1; /* those that begin from now on need not be waited for */
    }
    return hands->turn > turn + 1
           || (hands->turn == turn + 1 && atomic_load(&hands->counts[turn % 2]) == 0);
}

#endif
