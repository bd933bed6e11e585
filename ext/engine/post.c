/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A handle's way out: verdicts are posted in its outbox, and sent together or held.
 */
#include "post.h"

#include <netinet/in.h> /* before the kernel's, which then leaves it its names */

#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netlink.h>
#include <stdlib.h>

#include "bound.h"
#include "descriptors.h"
#include "handle.h"
#include "keeper.h"
#include "outbox.h"
#include "peer.h"
#include "pending.h"
#include "queue.h"
#include "refusal.h"
#include "verdict.h"

int
lnfq_post_verdict(lnfq_handle *handle, lnfq_queue *queue, uint32_t id,
                  const struct lnfq_verdict *verdict)
{
    struct lnfq_outbox *outbox = &handle->outbox;
    int error = lnfq_pending_post(&queue->pending, outbox, queue->number, id, verdict);

    if (error != 0) {
        /* There is room for one once the others are gone. */
        (void)lnfq_post_send(handle);
        error = lnfq_pending_post(&queue->pending, outbox, queue->number, id, verdict);
    }
    handle->stats.verdicts += error == 0;
    return error;
}

int
lnfq_post_batch(lnfq_handle *handle, lnfq_queue *queue, uint64_t count, uint32_t up_to,
                const struct lnfq_verdict *verdict)
{
    struct lnfq_outbox *outbox = &handle->outbox;
    int error =
        lnfq_pending_post_batch(&queue->pending, outbox, queue->number, count, up_to, verdict);

    if (error != 0) {
        (void)lnfq_post_send(handle);
        error =
            lnfq_pending_post_batch(&queue->pending, outbox, queue->number, count, up_to, verdict);
    }
    handle->stats.verdicts += error == 0 ? count : 0;
    return error;
}

/* Sends a verdict past the outbox. It may overtake what is in there: no batch verdict in there is
 * about its packet, which is outstanding. Returns 0 or an errno. */
static int
send_past(lnfq_handle *handle, const lnfq_queue *queue, uint32_t id, uint32_t seq,
          enum lnfq_reason reason)
{
    const struct lnfq_verdict verdict = {
        .verdict = atomic_load(&queue->default_verdict),
        .reason = reason,
    };
    _Alignas(struct nlmsghdr) unsigned char bytes[LNFQ_VERDICT_SIZE_MAX];
    size_t size = lnfq_verdict_put(bytes, queue->number, id, &verdict);
    int error;

    ((struct nlmsghdr *)(void *)bytes)->nlmsg_seq = seq;
    error = lnfq_peer_send(handle, bytes, size);
    if (error == 0) {
        if (lnfq_outbox_doubts(&handle->outbox, false)) {
            lnfq_outbox_doubt(&handle->outbox);
        }
        handle->stats.sends += 1;
        handle->stats.verdicts += 1;
    }
    return error;
}

/* The same for a packet that was received. */
static int
send_default(lnfq_handle *handle, lnfq_queue *queue, uint32_t id, enum lnfq_reason reason)
{
    int error = send_past(handle, queue, id, id, reason);

    if (error == 0) {
        lnfq_pending_answer(&queue->pending, id);
    }
    return error;
}

int
lnfq_post_unsure(lnfq_handle *handle, const lnfq_queue *queue, uint32_t id)
{
    int error = send_past(handle, queue, id, LNFQ_SEQ_UNSURE, LNFQ_REASON_UNBOUND);

    if (error == 0) {
        handle->stats.defaulted += 1;
        handle->unsure += 1;
    }
    return error;
}

int
lnfq_post_default(lnfq_handle *handle, lnfq_queue *queue, uint32_t id, enum lnfq_reason reason)
{
    const struct lnfq_verdict verdict = {
        .verdict = atomic_load(&queue->default_verdict),
        .reason = reason,
    };
    int error = handle->held ? send_default(handle, queue, id, reason) : ENOMEM;

    if (error != 0) {
        error = lnfq_post_verdict(handle, queue, id, &verdict);
    }
    if (error != 0) {
        error = send_default(handle, queue, id, reason);
    }
    queue->pending.stranded |= error != 0;
    handle->stats.defaulted += 1;
    return error;
}

/* The first verdict in the outbox is too large for the socket: its packet gets the default of its
 * queue, which may be one that is being unbound, or is left to another process. False if it can't
 * be any smaller. */
static bool
replace_first(lnfq_handle *handle)
{
    lnfq_queue *queue;
    uint32_t verdict;
    uint16_t number;
    uint32_t id;

    lnfq_outbox_first(&handle->outbox, &number, &id);
    queue = lnfq_bound_find(handle, number);
    queue = queue != NULL ? queue : lnfq_bound_find_leaving(handle, number);
    verdict = queue != NULL ? atomic_load(&queue->default_verdict) : NF_DROP;
    if (!lnfq_outbox_replace(&handle->outbox, verdict)) {
        return false;
    }
    lnfq_refusal_defaulted(handle, number, id, EMSGSIZE);
    handle->replaced = true;
    return true;
}

/* Who waits for packets tries again and again: those who wait for ever have to be told. */
static void
note_unsent(lnfq_handle *handle, bool unsent)
{
    if (unsent == atomic_load(&handle->unsent)) {
        return;
    }
    if (!handle->closed) {
        (unsent ? lnfq_descriptors_wake : lnfq_descriptors_calm)(handle);
    }
    atomic_store(&handle->unsent, unsent);
}

int
lnfq_post_send(lnfq_handle *handle)
{
    struct lnfq_outbox *outbox = &handle->outbox;
    int error = 0;

    handle->held = false;
    if (handle->hold_limit > 0) {
        handle->hold_start = lnfq_clock_now();
    }
    if (outbox->used == 0 || handle->closed) {
        note_unsent(handle, false);
        return 0;
    }
    outbox->ask = handle->exposed || atomic_load(&handle->readers) > 1;
    do {
        error = lnfq_outbox_send(outbox, handle->fd, &handle->stats.sends);
    } while ((error == EMSGSIZE && replace_first(handle))
             || (error == EAGAIN && lnfq_peer_await_room(handle)));
    note_unsent(handle, error != 0);
    if (error == 0) {
        lnfq_keeper_record(&handle->keeper, LNFQ_RECORD_ANSWERED);
    }
    if (outbox->withdrawn > 0) {
        handle->stats.verdict_errors += outbox->withdrawn;
        outbox->withdrawn = 0;
        lnfq_bound_strand_all(handle);
    }
    return error;
}

void
lnfq_post_forget(lnfq_handle *handle, const lnfq_queue *queue)
{
    struct lnfq_outbox *outbox = &handle->outbox;

    lnfq_outbox_forget(outbox, queue->number);
    handle->held &= outbox->used > 0;
    note_unsent(handle, atomic_load(&handle->unsent) && outbox->used > 0);
}

void
lnfq_post_free_enclosures(struct lnfq_enclosure *enclosure)
{
    while (enclosure != NULL) {
        struct lnfq_enclosure *next = enclosure->next;

        Py_DECREF((PyObject *)enclosure->owner);
        free(enclosure);
        enclosure = next;
    }
}
