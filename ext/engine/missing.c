/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Ids that are missing; see missing.h.
 */
#include "missing.h"

#include "handle.h"
#include "losses.h"
#include "pending.h"
#include "queue.h"
#include "transport.h"

void
lnfq_missing_sample(lnfq_handle *handle, uint32_t drops)
{
    handle->epoch += 1; /* what is read from now on is told by it from what was read before */
    lnfq_losses_sample(&handle->losses, drops, handle->epoch);
    for (size_t i = 0; i < handle->queue_count; i++) {
        handle->queues[i]->fresh = false;
    }
}

/* Whether each queue has had a packet that was read after the sample. */
static bool
all_fresh(const lnfq_handle *handle)
{
    for (size_t i = 0; i < handle->queue_count; i++) {
        if (!handle->queues[i]->fresh) {
            return false;
        }
    }
    return true;
}

void
lnfq_missing_look(lnfq_queue *queue, uint64_t epoch)
{
    lnfq_handle *handle = queue->handle;

    if (handle->foreign || handle->adopted || handle->strays) {
        handle->watching = false;
        return;
    }
    if (handle->losses.epoch == 0 || epoch < handle->losses.epoch) {
        return;
    }
    queue->fresh = true;
    if (all_fresh(handle) && lnfq_losses_explain(&handle->losses)) {
        handle->watching = false;
        for (size_t i = 0; i < handle->queue_count; i++) {
            lnfq_pending_close_gap(&handle->queues[i]->pending);
        }
    }
}

inline void
lnfq_missing_receive(lnfq_queue *queue, uint32_t id, bool alone)
{
    lnfq_handle *handle = queue->handle;

    handle->losses.missing += (uint64_t)lnfq_pending_receive(&queue->pending, id, alone);
    handle->watching |= queue->pending.gap;
}

void
lnfq_missing_restart(lnfq_handle *handle)
{
    uint64_t missing = 0;
    uint32_t drops = 0;

    for (size_t i = 0; i < handle->queue_count; i++) {
        missing += handle->queues[i]->pending.missing;
    }
    (void)lnfq_transport_drops(handle->fd, &drops);
    lnfq_losses_restart(&handle->losses, missing, drops);
}
