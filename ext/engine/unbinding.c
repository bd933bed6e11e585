/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Unbinding a queue number, and leaving it to others; see unbinding.h.
 */
#include "unbinding.h"

#include <netinet/in.h> /* before the kernel's, which then leaves it its names */

#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <linux/netlink.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bound.h"
#include "config.h"
#include "exchange.h"
#include "fate.h"
#include "fence.h"
#include "handle.h"
#include "kept.h"
#include "lock.h"
#include "outbox.h"
#include "packet.h"
#include "pending.h"
#include "post.h"
#include "queue.h"
#include "reader.h"
#include "refusal.h"
#include "status.h"
#include "table.h"
#include "verdict.h"

/* ---- all with the lock ---- */

/*
 * Messages that the kernel gets in front of the unbinding, which drops all packets that wait: no
 * more packets are queued (they pass if the default verdict is NF_ACCEPT), and those that wait get
 * the default.
 */
static size_t
put_teardown(lnfq_queue *queue, unsigned char *bytes)
{
    const struct lnfq_verdict verdict = {
        .verdict = atomic_load(&queue->default_verdict),
        .reason = LNFQ_REASON_UNBOUND,
    };
    const struct lnfq_config shut = lnfq_fence_no_room(queue);
    uint32_t newest = queue->pending.seen ? queue->pending.highest : queue->last_id;
    uint32_t everything = newest + (UINT32_MAX >> 2); /* ids are compared signed */
    size_t size = lnfq_config_put(bytes, queue->number, ++queue->handle->seq, false, &shut);

    return size
           + lnfq_verdict_put_batch(bytes + size, queue->number, everything, LNFQ_SEQ_TEARDOWN,
                                    &verdict);
}

/* Executes the verdicts that running callbacks have recorded. */
static void
execute_recorded(lnfq_queue *queue)
{
    for (lnfq_packet *packet = queue->active; packet != NULL; packet = packet->active_next) {
        if (packet->state == LNFQ_PACKET_ACTIVE && packet->recorded) {
            (void)lnfq_fate_execute(packet);
        }
    }
}

/* Nobody here can give the packets that are kept a verdict any more. */
static void
let_kept_go(lnfq_queue *queue)
{
    while (queue->kept != NULL) {
        lnfq_kept_remove(queue, queue->kept);
    }
}

/* The packets whose callbacks run get the verdicts that are recorded, or the default, and so do the
 * packets that are kept. */
static void
settle_packets(lnfq_queue *queue)
{
    execute_recorded(queue);
    let_kept_go(queue);
    queue->handle->stats.defaulted += queue->pending.outstanding;
    queue->pending.outstanding = 0;
}

/* What the next binding of the number has to reckon with. */
static struct lnfq_history
left_behind(const lnfq_queue *queue)
{
    const struct lnfq_pending *pending = &queue->pending;

    if (queue->silent) {
        return queue->handle->history[queue->number]; /* as it was left to this one */
    }
    if (queue->nothing_left && queue->all_received && pending->missing == 0 && !queue->fenced) {
        return (struct lnfq_history){.bound = true};
    }
    return (struct lnfq_history){
        .left = true,
        .bound = true,
        .received = pending->missing == 0 && !queue->fenced ? pending->highest : 0,
    };
}

/*
 * Whether nobody else can hold a message of the queue that was not handed in. That no packet waits
 * does not tell: the kernel forgets packets when a device goes down or a rule is deleted. Its table
 * tells the last id, which is final once there is no room for another packet.
 */
static bool
is_all_received(lnfq_queue *queue)
{
    const struct lnfq_pending *pending = &queue->pending;
    const struct lnfq_config shut = lnfq_fence_no_room(queue);
    lnfq_handle *handle = queue->handle;
    struct lnfq_status status;

    if (!handle->exposed || !handle->kernel) {
        return true;
    }
    return lnfq_exchange_request(handle, queue->number, &shut, NULL, 0) == 0
           && lnfq_table_status(queue, &status)
           && status.last_id == (pending->seen ? pending->highest : 0);
}

/* Its verdicts that could not be sent: the kernel has given their packets the default instead. */
static void
forget_unsent(lnfq_queue *queue, int error)
{
    struct lnfq_outbox *outbox = &queue->handle->outbox;
    size_t from = 0;
    uint32_t id;

    while (lnfq_outbox_find(outbox, queue->number, &from, &id)) {
        lnfq_refusal_defaulted(queue->handle, queue->number, id, error);
    }
    lnfq_post_forget(queue->handle, queue);
}

static int
unbind_queue(lnfq_queue *queue)
{
    const struct lnfq_config unbind = {.command = NFQNL_CFG_CMD_UNBIND};
    _Alignas(struct nlmsghdr) unsigned char before[LNFQ_CONFIG_SIZE_MAX + LNFQ_VERDICT_SIZE_MAX];
    lnfq_handle *handle = queue->handle;
    int sending, unbinding;

    queue->all_received = is_all_received(queue);
    sending = lnfq_post_send(handle);
    unbinding =
        lnfq_exchange_request(handle, queue->number, &unbind, before, put_teardown(queue, before));
    forget_unsent(queue, sending);
    lnfq_bound_left(handle, queue);
    handle->history[queue->number] = left_behind(queue);
    handle->epoch += 1; /* what is received from now on is not this binding's */
    return sending != 0 ? sending : unbinding;
}

/* With the lock and the GIL: takes a queue off the list, and returns its callback. The caller drops
 * the references to both once it has released the lock. */
static PyObject *
delist(lnfq_queue *queue)
{
    PyObject *callback = queue->callback;

    queue->bound = false;
    queue->callback = NULL;
    lnfq_bound_remove(queue->handle, queue);
    return callback;
}

/* Delists a queue and unbinds it. Returns 0 or an errno. */
static int
destroy(lnfq_queue *queue)
{
    lnfq_handle *handle = queue->handle;
    PyThreadState *thread;
    PyObject *callback;
    int error;

    lnfq_lock_acquire(handle);
    if (!queue->bound) {
        lnfq_lock_release(handle);
        return 0;
    }
    settle_packets(queue);
    lnfq_bound_leave(handle, queue);
    callback = delist(queue);
    thread = PyEval_SaveThread();
    error = unbind_queue(queue);
    lnfq_lock_leave(handle, thread);
    Py_XDECREF(callback);
    Py_DECREF(queue); /* the list's; the caller has its own */
    return error;
}

/* Delists a queue, which stays bound. */
static void
leave(lnfq_queue *queue)
{
    lnfq_handle *handle = queue->handle;
    PyObject *callback;

    lnfq_lock_acquire(handle);
    if (!queue->bound) {
        lnfq_lock_release(handle);
        return;
    }
    execute_recorded(queue);
    if (lnfq_post_send(handle) != 0) { /* while its default is known: a verdict may be too large */
        lnfq_post_forget(handle, queue); /* those packets are the next one's too */
    }
    let_kept_go(queue);
    queue->detached = true;
    callback = delist(queue);
    lnfq_lock_release(handle);
    Py_XDECREF(callback);
    Py_DECREF(queue); /* the list's; the caller has its own */
}

/* ---- what others call ---- */

void
lnfq_unbinding_discard(lnfq_queue *queue)
{
    lnfq_handle *handle = queue->handle;
    PyObject *callback = NULL;
    bool bound;

    lnfq_lock_acquire(handle);
    bound = queue->bound;
    if (bound) {
        settle_packets(queue);
        lnfq_post_forget(handle, queue);
        callback = delist(queue);
    }
    lnfq_lock_release(handle);
    if (bound) {
        Py_XDECREF(callback);
        Py_DECREF(queue);
    }
}

int
lnfq_unbinding_destroy(lnfq_queue *queue)
{
    int error;

    lnfq_reader_expel(queue->handle);
    error = destroy(queue);
    lnfq_reader_admit(queue->handle);
    return error;
}

void
lnfq_unbinding_leave(lnfq_queue *queue)
{
    lnfq_reader_expel(queue->handle);
    leave(queue);
    lnfq_reader_admit(queue->handle);
}

void
lnfq_unbinding_abandon(lnfq_queue *queue)
{
    Py_XDECREF(delist(queue));
    Py_DECREF(queue);
}
