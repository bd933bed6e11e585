/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A queue's list of packets that wait for their verdict after their callback, in the order of their
 * ids. The caller holds the lock.
 */
#ifndef LNFQ_KEPT_H
#define LNFQ_KEPT_H

#include <stdbool.h>
#include <stdint.h>

#include "forward.h"

/*
 * A kept packet, as its queue knows it. It outlives the packet, whose destructor makes it the debt
 * of a default verdict. Protected by the handle's lock, except for `next_debt`.
 */
struct lnfq_kept {
    struct lnfq_kept *previous, *next; /* on its queue's list, in the order of their ids */
    struct lnfq_kept *next_debt;
    uint32_t id;
    uint32_t verdict; /* the batch verdict that covered it */
    uint16_t number;  /* of its queue, while it is on the list */
    bool listed;      /* it waits for its verdict */
    bool covered;
};

/* Puts a packet on its queue's list. */
void lnfq_kept_add(lnfq_queue *queue, struct lnfq_kept *kept);

/* Takes it off the list, where it is on it. */
void lnfq_kept_remove(lnfq_queue *queue, struct lnfq_kept *kept);

#endif
