/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which of a queue's packets have had their verdict, and so when one batch verdict may stand for
 * several. Without Python; whoever holds it locks it.
 *
 * A batch verdict up to an id releases every packet of the queue with a lower id: also one that is
 * kept, and one that another reader of the descriptor has taken and not dispatched yet. So it is
 * safe only up to the newest id that was received here, while every id up to that one was received
 * here, one by one, and has been answered, with no answer refused.
 */
#ifndef LNFQ_PENDING_H
#define LNFQ_PENDING_H

#include <stdbool.h>
#include <stdint.h>

struct lnfq_pending {
    uint64_t outstanding; /* received here and not answered */
    uint32_t highest;     /* the newest id that was received here; ids count from 1 and wrap */
    uint32_t frontier;    /* the id up to which all are answered, unless `scattered` */
    bool scattered;       /* one was answered before an older one, and any is outstanding since */
    bool seen;            /* any was */
    bool gap;             /* an id up to `highest` may be in other hands */
    bool refused;         /* the kernel refused a verdict, and may still keep its packet */
};

/* Whether one id is newer than another; the difference counts as signed, as in the kernel. */
static inline bool
lnfq_pending_newer(uint32_t id, uint32_t than)
{
    return (int32_t)(id - than) > 0;
}

/*
 * A packet was received. `alone` says that nobody else can have read the descriptor or holds
 * messages that it has read: what is missing then was lost in the kernel, which keeps no such
 * packet.
 */
void lnfq_pending_receive(struct lnfq_pending *pending, uint32_t id, bool alone);

/* A packet that was received gets its verdict. Whether a batch verdict up to its id says the same.
 */
bool lnfq_pending_answer(struct lnfq_pending *pending, uint32_t id);

/* One verdict was given to so many packets that were received, and to all others up to an id. */
void lnfq_pending_answer_batch(struct lnfq_pending *pending, uint64_t count, uint32_t up_to);

#endif
