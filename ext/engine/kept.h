/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A queue's list of packets that wait for their verdict after their callback, in the order of their
 * ids. The caller holds the lock.
 */
#ifndef LNFQ_KEPT_H
#define LNFQ_KEPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "forward.h"
#include "slot.h"

/*
 * A kept packet, as its queue knows it. It stands in the packet's slot, in front of the message.
 * With the slot it outlives the packet, whose destructor makes it the debt of a default verdict.
 * Protected by the handle's lock, except for `next_debt`.
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

/* The slot that it stands in; and the reverse, of a slot that has room for it. */
static inline lnfq_slot *
lnfq_kept_slot(struct lnfq_kept *kept)
{
    return (lnfq_slot *)(void *)((unsigned char *)kept - offsetof(lnfq_slot, own));
}

static inline struct lnfq_kept *
lnfq_kept_in(lnfq_slot *slot)
{
    return (struct lnfq_kept *)(void *)slot->own;
}

/* Puts a packet on its queue's list. */
void lnfq_kept_add(lnfq_queue *queue, struct lnfq_kept *kept);

/* Takes it off the list, where it is on it. */
void lnfq_kept_remove(lnfq_queue *queue, struct lnfq_kept *kept);

#endif
