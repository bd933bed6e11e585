/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Ids that are missing; see missing.h.
 */
#include "missing.h"

#include "handle.h"
#include "losses.h"
#include "pending.h"
#include "queue.h"
#include "status.h"
#include "table.h"

/* How many calls that receive there are between two looks, at most. */
#define SELDOM 1024

/* Nothing can be told if others may hand in a message twice, or have read the first ones. */
static bool
is_told(const lnfq_handle *handle)
{
    return !handle->foreign && !handle->adopted && !handle->blind;
}

/* The count must be no younger than the id, and a line of the table is not read in one go. */
static bool
look(lnfq_queue *queue)
{
    struct lnfq_status before, now;

    if (!lnfq_table_status(queue, &before) || !lnfq_table_status(queue, &now)) {
        return false;
    }
    lnfq_losses_note(&queue->losses, before.user_dropped, now.last_id);
    return true;
}

void
lnfq_missing_look(lnfq_handle *handle)
{
    handle->look_in -= 1;
    if (handle->look_in > 0) {
        return;
    }
    handle->watching = false;
    for (size_t i = 0; i < handle->queue_count && is_told(handle); i++) {
        if (handle->queues[i]->pending.gap) {
            handle->watching = true;
            handle->blind = !look(handle->queues[i]);
        }
    }
    handle->look_step *= handle->look_step < SELDOM ? 2 : 1;
    handle->look_in = handle->look_step;
}

inline void
lnfq_missing_receive(lnfq_queue *queue, uint32_t id, bool alone)
{
    lnfq_handle *handle = queue->handle;
    struct lnfq_losses *losses = &queue->losses;
    bool explained =
        losses->noted && is_told(handle) && lnfq_losses_explain(losses, &queue->pending, id);

    lnfq_pending_receive(&queue->pending, id, alone);
    if (explained) {
        lnfq_pending_close_gap(&queue->pending, losses->last_id);
    }
    if (queue->pending.gap && !handle->watching && is_told(handle)) {
        handle->watching = true;
        handle->look_step = 1;
        handle->look_in = 1;
    }
}
