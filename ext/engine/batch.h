/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What one system call received: slots, which are used again once nobody looks into them. A batch
 * belongs to the thread that took it. The caller holds the GIL and not the lock.
 */
#ifndef LNFQ_BATCH_H
#define LNFQ_BATCH_H

#include <stddef.h>
#include <stdint.h>

#include "forward.h"
#include "inlets.h"
#include "slot.h"

struct lnfq_batch {
    unsigned int count;
    unsigned int hand; /* of hands.h, while it is dispatched */
    uint64_t epoch;
    size_t slot_size;
    unsigned int touched; /* of the first so many slots others may know; the rest is there */
    struct lnfq_inlets *inlets;
    lnfq_slot *slots[LNFQ_BATCH_MAX]; /* strong; NULL where none was needed yet */
};

/* Takes the handle's spare one, or a new one, for a reader; NULL with MemoryError. */
lnfq_batch *lnfq_batch_take(lnfq_handle *handle);

/* The reader is done with it. */
void lnfq_batch_give_back(lnfq_handle *handle, lnfq_batch *batch);

/* Notes that the first `count` slots have messages, which others are to see. */
static inline void
lnfq_batch_fill(lnfq_batch *batch, unsigned int count)
{
    batch->count = count;
    if (batch->touched < count) {
        batch->touched = count;
    }
}

/* Makes sure that the first `count` slots exist and are large enough, and that nobody looks into
 * them. Returns 0 or -1. */
int lnfq_batch_prepare(lnfq_handle *handle, lnfq_batch *batch, unsigned int count);

void lnfq_batch_free(lnfq_batch *batch);

/* For the traversal of what holds a batch, which may be NULL. */
int lnfq_batch_visit(const lnfq_batch *batch, visitproc visit, void *arg);

#endif
