/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The batch verdicts that users ask for, by set_verdict_batch (those that stand for several equal
 * verdicts are pending.c's). The kernel gives the verdict to all packets of the queue up to an id;
 * here they are marked as executed: kept ones, those whose callbacks run, and, when they are
 * dispatched, those that another reader held meanwhile. Everything here runs with the handle's
 * lock.
 */
#include "nfq.h"

/* A later id can only have wrapped around. */
#define BATCH_REACH (UINT32_MAX >> 2)

bool
lnfq_queue_covers(lnfq_queue *queue, uint32_t id)
{
    if (!queue->batched) {
        return false;
    }
    if (!lnfq_pending_newer(id, queue->batch_up_to)) {
        queue->pending.outstanding -= 1;
        queue->handle->stats.verdicts += 1;
        return true;
    }
    queue->batched = id - queue->batch_up_to < BATCH_REACH;
    return false;
}

/* Whether a packet whose callback runs has no verdict yet, and no newer id. */
static bool
active_waits(const lnfq_packet *packet, uint32_t up_to)
{
    return packet->state == LNFQ_PACKET_ACTIVE && !lnfq_pending_newer(packet->index.id, up_to);
}

/* Whether a packet that was dispatched waits for its verdict and has no newer id. */
static bool
any_waits(const lnfq_queue *queue, uint32_t up_to)
{
    for (const struct lnfq_kept *kept = queue->kept; kept != NULL; kept = kept->next) {
        if (!lnfq_pending_newer(kept->id, up_to)) {
            return true;
        }
    }
    for (const lnfq_packet *packet = queue->active; packet != NULL; packet = packet->active_next) {
        if (active_waits(packet, up_to)) {
            return true;
        }
    }
    return false;
}

/* The packets that a batch verdict is about have had theirs. Returns how many. */
static uint64_t
cover_waiting(lnfq_queue *queue, uint32_t up_to, uint32_t verdict)
{
    uint64_t count = 0;

    for (struct lnfq_kept *kept = queue->kept, *next; kept != NULL; kept = next) {
        next = kept->next;
        if (!lnfq_pending_newer(kept->id, up_to)) {
            kept->covered = true;
            kept->verdict = verdict;
            lnfq_kept_remove(kept);
            count += 1;
        }
    }
    for (lnfq_packet *packet = queue->active; packet != NULL; packet = packet->active_next) {
        if (active_waits(packet, up_to)) {
            lnfq_packet_cover(packet, verdict);
            count += 1;
        }
    }
    return count;
}

int
lnfq_queue_give_batch(lnfq_queue *queue, uint32_t up_to, const struct lnfq_verdict *verdict,
                      bool *any)
{
    lnfq_handle *handle = queue->handle;
    uint64_t count;
    int error;

    if (lnfq_pending_newer(up_to, queue->pending.highest)) {
        up_to = queue->pending.highest;
    }
    *any = any_waits(queue, up_to);
    if (!*any) {
        return 0;
    }
    error = lnfq_handle_post_batch(handle, queue, up_to, verdict);
    if (error != 0) {
        return error;
    }
    count = cover_waiting(queue, up_to, verdict->verdict);
    lnfq_pending_answer_batch(&queue->pending, count, up_to);
    handle->stats.verdicts += count;
    if (!queue->batched || lnfq_pending_newer(up_to, queue->batch_up_to)) {
        queue->batched = true;
        queue->batch_up_to = up_to;
        queue->batch_verdict = verdict->verdict;
    }
    return 0;
}
