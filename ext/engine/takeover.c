/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Taking over a queue that another process has bound; see takeover.h.
 */
#include "takeover.h"

#include <netinet/in.h> /* before the kernel's, which then leaves it its names */

#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <linux/netlink.h>
#include <string.h>

#include "backlog.h"
#include "exchange.h"
#include "handle.h"
#include "hands.h"
#include "index.h"
#include "lock.h"
#include "message.h"
#include "pending.h"
#include "queue.h"
#include "rcvbuf.h"
#include "reader.h"
#include "status.h"
#include "table.h"
#include "unclaimed.h"
#include "verdict.h"

/* ---- settling ---- */

/* The oldest packet of the queue that was received here; false if there is none. */
static bool
find_oldest(const lnfq_queue *queue, uint32_t *oldest)
{
    const struct lnfq_aside *aside = queue->handle->backlog.first;
    bool found = queue->pending.seen;

    *oldest = queue->pending.lowest;
    for (; aside != NULL; aside = aside->next) {
        size_t at = 0;
        struct lnfq_message message;
        struct lnfq_index index;

        while (at < aside->length
               && lnfq_message_read(aside->bytes + at, aside->length - at, &message, &index)
                      == NULL) {
            if (message.kind == LNFQ_MESSAGE_PACKET && index.queue == queue->number
                && (!found || lnfq_pending_newer(*oldest, index.id))) {
                *oldest = index.id;
                found = true;
            }
            at += message.size;
        }
    }
    return found;
}

/* How many packets got their verdict between two looks at the table. */
static uint32_t
count_settled(const struct lnfq_status *before, const struct lnfq_status *after)
{
    uint32_t came = after->last_id - before->last_id;
    uint32_t lost = after->user_dropped - before->user_dropped;
    uint32_t settled = before->waiting - after->waiting + came - lost;

    return settled <= before->waiting ? settled : before->waiting;
}

/* Gives the others' packets, up to that one, their verdict. Returns 0 or an errno. */
static int
settle_up_to(lnfq_queue *queue, uint32_t up_to)
{
    lnfq_handle *handle = queue->handle;
    const struct lnfq_verdict verdict = {
        .verdict = queue->unanswered.there ? queue->unanswered.value
                                           : atomic_load(&queue->default_verdict),
        .reason = queue->unanswered.there ? LNFQ_REASON_DECIDED : LNFQ_REASON_UNBOUND,
    };
    const struct lnfq_config config = {.has_maxlen = true, .maxlen = queue->maxlen};
    _Alignas(struct nlmsghdr) unsigned char bytes[LNFQ_VERDICT_SIZE_MAX];
    size_t size = lnfq_verdict_put_batch(bytes, queue->number, up_to, LNFQ_SEQ_SETTLE, &verdict);
    struct lnfq_status before, after;
    bool counted = lnfq_table_status(queue, &before);
    int error = lnfq_exchange_request(handle, queue->number, &config, bytes, size);

    if (error == 0 && counted && lnfq_table_status(queue, &after)) {
        uint32_t settled = count_settled(&before, &after);

        handle->stats.verdicts += settled;
        handle->stats.defaulted += queue->unanswered.there ? 0 : settled;
    }
    return error;
}

/* The last of the others' packets; false if it can't be told yet. */
static bool
find_last(lnfq_queue *queue, uint32_t *last)
{
    bool found = find_oldest(queue, last);

    *last -= 1;
    if (queue->counted && (!found || lnfq_pending_newer(*last, queue->last_id))) {
        *last = queue->last_id;
    }
    return found || queue->counted;
}

/* Settles a queue if that is possible now. Returns 0 or an errno. */
static int
settle(lnfq_queue *queue)
{
    struct lnfq_hands *hands = &queue->handle->hands;
    uint32_t last;
    int error;

    if (!find_last(queue, &last)) {
        return 0;
    }
    queue->turn = queue->turn != 0 ? queue->turn : hands->turn;
    if (!lnfq_hands_are_done(hands, queue->turn)) {
        return 0;
    }
    error = settle_up_to(queue, last);
    if (error == 0 && queue->bound && queue->unsettled) { /* a peer's answer takes its time */
        lnfq_pending_settle(&queue->pending, last);
        queue->unsettled = false;
    }
    return error;
}

/* The first queue behind a number that is not settled; NULL if there is none. */
static lnfq_queue *
find_unsettled(const lnfq_handle *handle, int32_t behind)
{
    for (size_t i = 0; i < handle->queue_count; i++) {
        if (handle->queues[i]->unsettled && handle->queues[i]->number > behind) {
            return handle->queues[i];
        }
    }
    return NULL;
}

void
lnfq_takeover_settle(lnfq_handle *handle)
{
    int32_t tried = -1;
    lnfq_queue *queue;

    lnfq_reader_expel(handle);
    lnfq_lock_acquire(handle);
    while (!handle->closed && (queue = find_unsettled(handle, tried)) != NULL) {
        PyThreadState *thread;

        tried = queue->number;
        Py_INCREF(queue);
        thread = PyEval_SaveThread();
        (void)settle(queue); /* until then no batch verdict is made of it */
        lnfq_lock_leave(handle, thread);
        Py_DECREF(queue);
        lnfq_lock_acquire(handle);
    }
    atomic_store(&handle->unsettled, find_unsettled(handle, -1) != NULL);
    lnfq_lock_release(handle);
    lnfq_reader_admit(handle);
}

/* ---- taking over ---- */

static uint32_t
add_saturated(uint32_t a, uint32_t b)
{
    return a <= UINT32_MAX - b ? a + b : UINT32_MAX;
}

/* What is left of the other's configuration would surprise: all is set as a new queue has it. */
static struct lnfq_config
complete(const struct lnfq_config *config, uint32_t maxlen)
{
    return (struct lnfq_config){
        .has_mode = true,
        .mode = config->has_mode ? config->mode : NFQNL_COPY_NONE,
        .range = config->range,
        .has_maxlen = true,
        .maxlen = maxlen,
        .mask = UINT32_MAX,
        .flags = config->flags,
    };
}

/* Whether what the others have left goes through its rules again. */
static bool
repeats(const lnfq_queue *queue)
{
    return queue->unanswered.there && (queue->unanswered.value & NF_VERDICT_MASK) == NF_REPEAT;
}

/* Packets that are repeated come again among those that wait. How many they are at most. */
static uint32_t
count_repeated(const lnfq_queue *queue, const struct lnfq_status *status)
{
    if (!repeats(queue)) {
        return 0;
    }
    return queue->counted ? status->waiting : queue->maxlen;
}

/* Its messages that came before it are the queue's own, and it continues the others' ids. */
static void
inherit(lnfq_queue *queue)
{
    queue->born = 0;
    queue->successor = false;
    queue->silent = false;
    lnfq_pending_inherit(&queue->pending);
    lnfq_unclaimed_claim(queue->handle, queue->number);
}

int
lnfq_takeover_queue(lnfq_queue *queue, const struct lnfq_config *config)
{
    lnfq_handle *handle = queue->handle;
    struct lnfq_status status = {0};
    struct lnfq_config whole;
    uint32_t repeated;
    int error;

    if (handle->keeper.tired && repeats(queue)) {
        queue->unanswered.there = false;
    }
    inherit(queue);
    queue->counted = lnfq_table_status(queue, &status);
    queue->last_id = status.last_id;
    repeated = queue->shared ? 0 : count_repeated(queue, &status);
    if (queue->grows_rcvbuf) {
        lnfq_rcvbuf_grow(handle, repeated);
    }
    whole = complete(config, add_saturated(queue->maxlen, repeated));
    error = lnfq_exchange_request(handle, queue->number, &whole, NULL, 0);
    if (error != 0 || queue->shared) {
        return error;
    }
    queue->unsettled = true;
    atomic_store(&handle->unsettled, true);
    return settle(queue);
}
