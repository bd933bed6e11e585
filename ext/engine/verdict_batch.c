/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The batch verdicts that users ask for, by set_verdict_batch (those that stand for several equal
 * verdicts are pending.c's). The kernel gives the verdict to all packets of the queue up to an id.
 * Here these packets are marked as executed: kept ones, those whose callbacks run, and, when they
 * are dispatched, those that another reader held meanwhile. If the kernel may keep a packet whose
 * own verdict it has refused, a batch verdict would release that packet too. Then each packet gets
 * a verdict of its own, and also where another process reads the socket. The caller holds the
 * handle's lock.
 */
#include "verdict_batch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fate.h"
#include "handle.h"
#include "kept.h"
#include "packet.h"
#include "pending.h"
#include "post.h"
#include "queue.h"
#include "verdict.h"

/* A reader that holds a message while so many newer ones are dispatched has forgotten it. */
#define BATCH_REACH (UINT32_MAX >> 16)

/* One batch verdict, over the ids behind those of the one before. */
struct batch {
    uint32_t up_to;
    bool singly; /* the kernel was not told: each packet gets it when it is dispatched */
    struct lnfq_verdict verdict;
};

/* Those that other readers may hold packets of; oldest first, their ids ascend. */
struct lnfq_batches {
    size_t count, capacity;
    struct batch entries[];
};

static void
forget_oldest(struct lnfq_batches *batches, size_t count)
{
    batches->count -= count;
    memmove(batches->entries, batches->entries + count,
            batches->count * sizeof(batches->entries[0]));
}

/* Forgets those that nobody can hold packets of any more. */
static void
prune(lnfq_queue *queue)
{
    struct lnfq_batches *batches = queue->batches;
    size_t old = 0;

    if (!queue->pending.gap) {
        batches->count = 0;
        return;
    }
    while (old < batches->count
           && queue->pending.highest - batches->entries[old].up_to > BATCH_REACH) {
        old += 1;
    }
    if (old > 0) {
        forget_oldest(batches, old);
    }
}

/* Room for one more. Returns 0 or ENOMEM. */
static int
reserve(lnfq_queue *queue)
{
    struct lnfq_batches *batches = queue->batches;
    size_t capacity = batches != NULL ? batches->capacity * 2 : 4;
    struct lnfq_batches *larger;

    if (batches != NULL) {
        prune(queue);
    }
    if (batches != NULL && batches->count < batches->capacity) {
        return 0;
    }
    larger = realloc(batches, sizeof(*larger) + capacity * sizeof(larger->entries[0]));
    if (larger == NULL) {
        return ENOMEM;
    }
    if (batches == NULL) {
        larger->count = 0;
    }
    larger->capacity = capacity;
    queue->batches = larger;
    return 0;
}

static void
note(lnfq_queue *queue, uint32_t up_to, bool singly, const struct lnfq_verdict *verdict)
{
    struct lnfq_batches *batches = queue->batches;

    if (batches->count == 0
        || lnfq_pending_newer(up_to, batches->entries[batches->count - 1].up_to)) {
        batches->entries[batches->count++] = (struct batch){up_to, singly, *verdict};
    }
}

/* The batch verdict that a packet had while another reader held it; NULL if none. */
static const struct batch *
find(const struct lnfq_batches *batches, uint32_t id)
{
    size_t at = batches->count;

    if (at == 0 || lnfq_pending_newer(id, batches->entries[at - 1].up_to)) {
        return NULL;
    }
    while (at > 0 && !lnfq_pending_newer(id, batches->entries[at - 1].up_to)) {
        at -= 1;
    }
    return &batches->entries[at];
}

bool
lnfq_verdict_batch_covers(lnfq_queue *queue, uint32_t id, uint32_t *verdict)
{
    const struct batch *batch;

    if (queue->batches == NULL || queue->batches->count == 0) {
        return false;
    }
    prune(queue);
    batch = find(queue->batches, id);
    if (batch == NULL) {
        return false;
    }
    *verdict = batch->verdict.verdict;
    if (batch->singly) {
        return lnfq_post_verdict(queue->handle, queue, id, &batch->verdict) == 0;
    }
    queue->pending.outstanding -= 1;
    queue->handle->stats.verdicts += 1;
    return true;
}

/* Whether a packet whose callback runs has no verdict yet, and no newer id. */
static bool
active_waits(const lnfq_packet *packet, uint32_t up_to)
{
    return packet->state == LNFQ_PACKET_ACTIVE && !lnfq_pending_newer(packet->index.id, up_to);
}

/* How many packets that were dispatched wait for their verdict and have no newer id. */
static uint64_t
count_waiting(const lnfq_queue *queue, uint32_t up_to)
{
    uint64_t count = 0;

    for (const struct lnfq_kept *kept = queue->kept;
         kept != NULL && !lnfq_pending_newer(kept->id, up_to); kept = kept->next) {
        count += 1;
    }
    for (const lnfq_packet *packet = queue->active; packet != NULL; packet = packet->active_next) {
        count += active_waits(packet, up_to);
    }
    return count;
}

/* Marks the packets that the batch verdict covers as executed. With `singly` each gets a verdict of
 * its own. Returns 0, or ENOMEM: then the rest still waits. */
static int
cover_waiting(lnfq_queue *queue, uint32_t up_to, bool singly, const struct lnfq_verdict *verdict)
{
    lnfq_handle *handle = queue->handle;
    int error = 0;

    while (error == 0 && queue->kept != NULL && !lnfq_pending_newer(queue->kept->id, up_to)) {
        struct lnfq_kept *kept = queue->kept;

        error = singly ? lnfq_post_verdict(handle, queue, kept->id, verdict) : 0;
        if (error == 0) {
            kept->covered = true;
            kept->verdict = verdict->verdict;
            lnfq_kept_remove(queue, kept);
        }
    }
    for (lnfq_packet *packet = queue->active; error == 0 && packet != NULL;
         packet = packet->active_next) {
        if (active_waits(packet, up_to)) {
            error = singly ? lnfq_post_verdict(handle, queue, packet->index.id, verdict) : 0;
            if (error == 0) {
                lnfq_fate_cover(packet, verdict->verdict);
            }
        }
    }
    return error;
}

int
lnfq_verdict_batch_give(lnfq_queue *queue, uint32_t up_to, const struct lnfq_verdict *verdict,
                        bool *any)
{
    lnfq_handle *handle = queue->handle;
    bool singly = queue->shared || !lnfq_pending_batchable(&queue->pending, &handle->outbox);
    uint64_t count;
    int error = 0;

    if (lnfq_pending_newer(up_to, queue->pending.highest)) {
        up_to = queue->pending.highest;
    }
    count = count_waiting(queue, up_to);
    *any = count > 0;
    if (count == 0) {
        return 0;
    }
    error = queue->pending.gap ? reserve(queue) : 0;
    if (error == 0 && !singly) {
        error = lnfq_post_batch(handle, queue, count, up_to, verdict);
    }
    if (error == 0) {
        error = cover_waiting(queue, up_to, singly, verdict);
    }
    if (error == 0 && queue->pending.gap) {
        note(queue, up_to, singly, verdict);
    }
    return error;
}
