/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A queue's list of packets that wait for their verdict after their callback, in the order of their
 * ids. Everything here runs with the handle's lock.
 */
#include "kept.h"

#include "pending.h"
#include "queue.h"

/* The kept packet behind which an id belongs; NULL for the first place. Most ids are the newest.
 * The others have few behind them, or none in front. */
static struct lnfq_kept *
place(const lnfq_queue *queue, uint32_t id)
{
    struct lnfq_kept *before = queue->kept_newest;

    if (queue->kept == NULL || lnfq_pending_newer(queue->kept->id, id)) {
        return NULL;
    }
    while (lnfq_pending_newer(before->id, id)) {
        before = before->previous;
    }
    return before;
}

void
lnfq_kept_add(lnfq_queue *queue, struct lnfq_kept *kept)
{
    struct lnfq_kept *before = place(queue, kept->id);
    struct lnfq_kept *behind = before != NULL ? before->next : queue->kept;

    kept->previous = before;
    kept->next = behind;
    *(before != NULL ? &before->next : &queue->kept) = kept;
    *(behind != NULL ? &behind->previous : &queue->kept_newest) = kept;
    kept->listed = true;
}

void
lnfq_kept_remove(lnfq_queue *queue, struct lnfq_kept *kept)
{
    if (!kept->listed) {
        return;
    }
    *(kept->previous != NULL ? &kept->previous->next : &queue->kept) = kept->next;
    *(kept->next != NULL ? &kept->next->previous : &queue->kept_newest) = kept->previous;
    kept->listed = false;
}
