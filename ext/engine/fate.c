/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What becomes of a packet; see fate.h.
 */
#include "fate.h"

#include <errno.h>

#include "handle.h"
#include "kept.h"
#include "kept_pool.h"
#include "packet.h"
#include "post.h"
#include "queue.h"

void
lnfq_fate_begin(lnfq_packet *packet, lnfq_queue *queue)
{
    packet->queue = (lnfq_queue *)Py_NewRef((PyObject *)queue);
    packet->state = LNFQ_PACKET_ACTIVE;
    packet->recorded = false;
    packet->in_callback = true;
    packet->active_next = queue->active;
    packet->active_link = &queue->active;
    if (queue->active != NULL) {
        queue->active->active_link = &packet->active_next;
    }
    queue->active = packet;
}

void
lnfq_fate_end(lnfq_packet *packet)
{
    packet->in_callback = false;
    *packet->active_link = packet->active_next;
    if (packet->active_next != NULL) {
        packet->active_next->active_link = packet->active_link;
    }
}

int
lnfq_fate_keep(lnfq_packet *packet)
{
    struct lnfq_kept *kept = lnfq_kept_pool_take(&packet->queue->handle->kept_pool);

    if (kept == NULL) {
        return ENOMEM;
    }
    *kept = (struct lnfq_kept){
        .id = packet->index.id,
        .number = packet->queue->number,
    };
    lnfq_kept_add(packet->queue, kept);
    packet->kept = kept;
    packet->state = LNFQ_PACKET_KEPT;
    return 0;
}

/* Its record is needed no more. */
static void
give_record_back(lnfq_packet *packet)
{
    lnfq_kept_pool_give(&packet->queue->handle->kept_pool, packet->kept);
    packet->kept = NULL;
}

void
lnfq_fate_cover(lnfq_packet *packet, uint32_t verdict)
{
    packet->state = LNFQ_PACKET_EXECUTED;
    packet->recorded = true;
    packet->verdict.verdict = verdict; /* what was recorded is let go with the packet */
}

void
lnfq_fate_learn(lnfq_packet *packet)
{
    if (packet->state == LNFQ_PACKET_KEPT && packet->kept != NULL && packet->kept->covered) {
        lnfq_fate_cover(packet, packet->kept->verdict);
        give_record_back(packet);
    }
}

/* It has had its verdict, or nobody can give it one any more. */
static void
packet_leave(lnfq_packet *packet)
{
    packet->state = LNFQ_PACKET_EXECUTED;
    if (packet->kept != NULL) {
        lnfq_kept_remove(packet->queue, packet->kept);
        give_record_back(packet);
    }
}

inline int
lnfq_fate_execute(lnfq_packet *packet)
{
    lnfq_queue *queue = packet->queue;
    int error = lnfq_post_verdict(queue->handle, queue, packet->index.id, &packet->verdict);

    if (error == 0) {
        packet->verdict.owner = NULL; /* the outbox's now */
        packet_leave(packet);
    }
    return error;
}

void
lnfq_fate_default(lnfq_packet *packet, enum lnfq_reason reason)
{
    lnfq_queue *queue = packet->queue;

    packet->recorded = true;
    packet->verdict.verdict = atomic_load(&queue->default_verdict); /* the rest goes with it */
    (void)lnfq_post_default(queue->handle, queue, packet->index.id, reason);
    packet_leave(packet);
}
