/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Ids that are missing: which of them were lost in the kernel (losses.h), for all queues of a
 * handle. The caller holds the lock.
 */
#ifndef LNFQ_MISSING_H
#define LNFQ_MISSING_H

#include <stdbool.h>
#include <stdint.h>

#include "forward.h"
#include "handle.h"

/* The kernel said that messages were lost. */
static inline void
lnfq_missing_overrun(lnfq_handle *handle)
{
    handle->stats.overruns += 1;
    handle->overran = true;
    handle->watching = true;
}

/* The receive buffer was found empty; before that the kernel had counted so many drops. */
void lnfq_missing_sample(lnfq_handle *handle, uint32_t drops);

/* A packet of the queue was received; `alone` as in lnfq_pending_receive. */
void lnfq_missing_receive(lnfq_queue *queue, uint32_t id, bool alone);

/* Notes that a packet was received in that epoch, while ids may be missing: perhaps it shows that
 * they were lost. Nothing can be proved if others read the descriptor, or if packets are dropped
 * that no queue here counts. */
void lnfq_missing_look(lnfq_queue *queue, uint64_t epoch);

/* A queue is gone, and with it its holes, those that had not shown too. */
void lnfq_missing_restart(lnfq_handle *handle);

#endif
