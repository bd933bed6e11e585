/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Binding a queue number, configuring it and unbinding it; see binding.h.
 */
#include "binding.h"

#include <netinet/in.h> /* before the kernel's, which then leaves it its names */

#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "bound.h"
#include "config.h"
#include "error.h"
#include "exchange.h"
#include "explain.h"
#include "fate.h"
#include "handle.h"
#include "kept.h"
#include "lock.h"
#include "missing.h"
#include "outbox.h"
#include "packet.h"
#include "pending.h"
#include "post.h"
#include "queue.h"
#include "rcvbuf.h"
#include "refusal.h"
#include "remedy.h"
#include "status.h"
#include "takeover.h"
#include "transport.h"
#include "unclaimed.h"
#include "verdict.h"

/* ---- binding; all with the lock ---- */

/* How often a marker is sent again while its acknowledgement gets lost in a flood. */
#define MARKER_ATTEMPTS 100

/* Sends a marker and says whether its acknowledgement found room. */
static bool
mark_reliably(lnfq_queue *queue)
{
    uint32_t before, after;
    bool counted = lnfq_transport_drops(queue->handle->fd, &before);

    queue->fence = lnfq_exchange_mark(queue->handle);
    return counted && lnfq_transport_drops(queue->handle->fd, &after) && after == before;
}

/*
 * Lets packets into a silent queue behind a marker; see claim.h. The request in front of the marker
 * leaves the queue silent. It makes room by reading what waits, and shows whether we have the
 * capability.
 */
static int
open_fenced(lnfq_queue *queue, const struct lnfq_config *silence, const struct lnfq_config *open)
{
    _Alignas(struct nlmsghdr) unsigned char bytes[LNFQ_CONFIG_SIZE_MAX];
    lnfq_handle *handle = queue->handle;
    bool marked = false;
    int error = 0;

    lnfq_exchange_expect(handle, open);
    for (int i = 0; i < MARKER_ATTEMPTS && !marked && error == 0; i++) {
        error = lnfq_exchange_request(handle, queue->number, silence, NULL, 0);
        marked = error == 0 && mark_reliably(queue);
    }
    if (error == 0) {
        size_t size = lnfq_config_put(bytes, queue->number, ++handle->seq, false, open);

        error = lnfq_transport_send(handle->fd, bytes, size);
    }
    if (error == 0) {
        queue->silent = false;
        queue->fenced = marked;
    }
    return error;
}

/* The number is ours now. On an adopted socket, what came before is of an earlier binding, which
 * others have ended. */
static void
leave_older(lnfq_queue *queue)
{
    lnfq_handle *handle = queue->handle;

    handle->history[queue->number].bound = true;
    if (!handle->adopted) {
        return;
    }
    lnfq_unclaimed_forget(handle, queue->number);
    if (queue->silent) {
        queue->born = ++handle->epoch;
    }
}

/* No room: the kernel queues no packets, and gives no ids. They pass if the default verdict is
 * NF_ACCEPT, else they are dropped. */
static struct lnfq_config
no_room(const lnfq_queue *queue)
{
    return (struct lnfq_config){
        .has_maxlen = true,
        .maxlen = 0,
        .mask = NFQA_CFG_F_FAIL_OPEN,
        .flags = atomic_load(&queue->default_verdict) == NF_ACCEPT ? NFQA_CFG_F_FAIL_OPEN : 0,
    };
}

/* A mode, but no room. */
static struct lnfq_config
mode_without_room(const lnfq_queue *queue, const struct lnfq_config *config)
{
    struct lnfq_config full = no_room(queue);

    full.has_mode = true;
    full.mode = config->mode;
    full.range = config->range;
    return full;
}

/* Gives a silent queue that has its mode, but is `full`, its room. */
static int
open_bound(lnfq_queue *queue, const struct lnfq_config *config, const struct lnfq_config *full)
{
    const struct lnfq_config open = {
        .has_maxlen = true,
        .maxlen = queue->maxlen,
        .mask = NFQA_CFG_F_FAIL_OPEN,
        .flags = config->flags & NFQA_CFG_F_FAIL_OPEN,
    };

    return open_fenced(queue, full, &open);
}

/*
 * Binds a queue without room, which its mode must not precede. Without a mode the kernel drops all
 * packets, whatever the default, so the mode follows in the same datagram: only what comes while
 * the kernel reads on is lost. On an adopted socket it might reach a queue that another process has
 * bound.
 */
static int
bind_without_room(lnfq_queue *queue, const struct lnfq_config *config,
                  const struct lnfq_config *full)
{
    struct lnfq_config first = *config;

    first.has_mode = false;
    first.has_maxlen = true;
    first.maxlen = 0;
    first.mask |= full->mask;
    first.flags = (first.flags & ~full->mask) | full->flags;
    first.next = queue->handle->adopted ? NULL : full;
    return lnfq_exchange_request(queue->handle, queue->number, &first, NULL, 0);
}

/* A queue that may be mistaken for its predecessor is bound without room first. */
static int
bind_queue(lnfq_queue *queue, const struct lnfq_config *config, bool *bound)
{
    const bool later = queue->silent && config->has_mode && config->mode != NFQNL_COPY_NONE;
    const struct lnfq_config full = mode_without_room(queue, config);
    int error = later ? bind_without_room(queue, config, &full)
                      : lnfq_exchange_request(queue->handle, queue->number, config, NULL, 0);

    *bound = error == 0;
    if (*bound) {
        leave_older(queue);
    }
    return error == 0 && later ? open_bound(queue, config, &full) : error;
}

/* Removes what a failed binding may have left in the kernel. The first error is to be reported. */
static void
undo_bind(lnfq_handle *handle, uint16_t number)
{
    const struct lnfq_config unbind = {.command = NFQNL_CFG_CMD_UNBIND};

    handle->strays |= lnfq_exchange_request(handle, number, &unbind, NULL, 0) != 0;
}

static int
bind_or_explain(lnfq_queue *queue, const struct lnfq_config *config, char remedy[LNFQ_REMEDY_SIZE])
{
    lnfq_handle *handle = queue->handle;
    struct lnfq_history *history = &handle->history[queue->number];
    bool bound;
    int error = bind_queue(queue, config, &bound);

    if (error == EBUSY && handle->adopted) {
        error = lnfq_takeover_queue(queue, config);
        history->bound |= error == 0;
    }
    else if (error != 0 && error != EPERM && error != EBUSY && error != ETIMEDOUT
             && (bound || !handle->adopted)) {
        undo_bind(handle, queue->number);
        *history = (struct lnfq_history){.left = true, .bound = history->bound};
        handle->epoch += 1;
    }
    if (error != 0) {
        lnfq_explain_config(handle, error, queue->number, config, remedy);
    }
    return error;
}

/* ---- unbinding; all with the lock ---- */

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
    const struct lnfq_config shut = no_room(queue);
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
    const struct lnfq_config shut = no_room(queue);
    lnfq_handle *handle = queue->handle;
    struct lnfq_status status;

    if (!handle->exposed || !handle->kernel) {
        return true;
    }
    return lnfq_exchange_request(handle, queue->number, &shut, NULL, 0) == 0
           && lnfq_takeover_status(queue, &status)
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

    lnfq_bound_leave(handle, queue);
    queue->all_received = is_all_received(queue);
    sending = lnfq_post_send(handle);
    unbinding =
        lnfq_exchange_request(handle, queue->number, &unbind, before, put_teardown(queue, before));
    handle->strays |= unbinding != 0;
    forget_unsent(queue, sending);
    lnfq_bound_left(handle, queue);
    handle->history[queue->number] = left_behind(queue);
    handle->epoch += 1; /* what is received from now on is not this binding's */
    lnfq_missing_restart(handle);
    return sending != 0 ? sending : unbinding;
}

/* ---- creating ---- */

/* How often it is looked whether a number that is being unbound is free. */
#define UNBOUND_SLICE_MS 5

static lnfq_queue *
queue_new(lnfq_handle *handle, uint16_t number, PyObject *callback,
          const struct lnfq_queue_options *options)
{
    lnfq_queue *queue = PyObject_GC_New(lnfq_queue, handle->state->queue_type);

    if (queue != NULL) {
        memset((char *)queue + sizeof(PyObject), 0, sizeof(*queue) - sizeof(PyObject));
        queue->handle = (lnfq_handle *)Py_NewRef((PyObject *)handle);
        queue->callback = Py_NewRef(callback);
        queue->number = number;
        atomic_init(&queue->default_verdict, options->default_verdict);
        queue->maxlen = options->config.has_maxlen ? options->config.maxlen : LNFQ_BINDING_MAXLEN;
        queue->grows_rcvbuf = options->rcvbuf == LNFQ_BINDING_RCVBUF_GROWS;
        queue->unanswered = options->unanswered;
        queue->shared = options->shared;
    }
    return queue;
}

/* With the lock and the GIL: puts a new queue on its handle's list, which takes a reference. 0 or
 * an errno. */
static int
enlist(lnfq_queue *queue)
{
    lnfq_handle *handle = queue->handle;
    struct lnfq_history history;
    int error = handle->closed ? EBADF : lnfq_bound_reserve(handle);

    if (error != 0) {
        return error;
    }
    if (lnfq_bound_find(handle, queue->number) != NULL) {
        return EBUSY;
    }
    history = handle->history[queue->number];
    queue->born = handle->epoch;
    /* Others may have bound and unbound a number that is new here. */
    queue->successor = history.left || (handle->adopted && handle->kernel && !history.bound);
    queue->received = history.received;
    queue->silent = queue->successor && handle->kernel;
    queue->bound = true;
    lnfq_bound_insert(handle, (lnfq_queue *)Py_NewRef((PyObject *)queue));
    return 0;
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

/* Takes a queue that could not be bound off the list again. Packets that another thread may have
 * dispatched meanwhile go with it: the kernel has forgotten them. */
static void
discard(lnfq_queue *queue)
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

/* The receive buffer has room for a queue that is on the list, before its packets come. 0 or an
 * errno. */
static int
make_room(lnfq_queue *queue, int rcvbuf)
{
    if (queue->grows_rcvbuf) {
        lnfq_rcvbuf_grow(queue->handle, 0);
    }
    return rcvbuf > 0 ? lnfq_rcvbuf_write(queue->handle, &rcvbuf) : 0;
}

/* With the lock and the GIL, both of which it gives up meanwhile: waits until no other thread
 * unbinds that number. The kernel answers that at once; only a peer that is none takes its time. */
static void
await_unbound(lnfq_handle *handle, uint16_t number)
{
    while (lnfq_bound_find_leaving(handle, number) != NULL) {
        PyThreadState *thread;

        lnfq_lock_release(handle);
        thread = PyEval_SaveThread();
        (void)poll(NULL, 0, UNBOUND_SLICE_MS);
        PyEval_RestoreThread(thread);
        lnfq_lock_acquire(handle);
    }
}

/* Lists and binds in one go; 0 or an errno, with what can be done about it. */
static int
enlist_and_bind(lnfq_queue *queue, const struct lnfq_queue_options *options,
                char remedy[LNFQ_REMEDY_SIZE])
{
    lnfq_handle *handle = queue->handle;
    int error;

    lnfq_lock_acquire(handle);
    await_unbound(handle, queue->number);
    error = enlist(queue);
    if (error != 0) {
        lnfq_lock_release(handle);
        snprintf(remedy, LNFQ_REMEDY_SIZE, "%s", error == EBUSY ? LNFQ_REMEDY_LISTED : "");
    }
    else {
        PyThreadState *thread = PyEval_SaveThread();

        error = make_room(queue, options->rcvbuf);
        if (error != 0) {
            snprintf(remedy, LNFQ_REMEDY_SIZE, "%s", lnfq_remedy_descriptor(error));
        }
        else {
            error = bind_or_explain(queue, &options->config, remedy);
        }
        lnfq_lock_leave(handle, thread);
        if (error != 0) {
            discard(queue);
        }
    }
    return error;
}

PyObject *
lnfq_binding_create(lnfq_handle *handle, uint16_t number, PyObject *callback,
                    const struct lnfq_queue_options *options)
{
    char remedy[LNFQ_REMEDY_SIZE];
    lnfq_queue *queue = queue_new(handle, number, callback, options);
    int error;

    if (queue == NULL) {
        return NULL;
    }
    PyObject_GC_Track(queue);
    error = enlist_and_bind(queue, options, remedy);
    if (error == 0) {
        return (PyObject *)queue;
    }
    Py_DECREF(queue);
    if (error != EBADF || lnfq_handle_check(handle, "create_queue()") == 0) {
        lnfq_error_raise(error, remedy, "create_queue(%u)", number);
    }
    return NULL;
}

/* ---- destroying ---- */

int
lnfq_binding_destroy(lnfq_queue *queue)
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
    callback = delist(queue);
    thread = PyEval_SaveThread();
    error = unbind_queue(queue);
    lnfq_lock_leave(handle, thread);
    Py_XDECREF(callback);
    Py_DECREF(queue); /* the list's; the caller has its own */
    return error;
}

void
lnfq_binding_leave(lnfq_queue *queue)
{
    lnfq_handle *handle = queue->handle;
    PyObject *callback;

    lnfq_lock_acquire(handle);
    if (!queue->bound) {
        lnfq_lock_release(handle);
        return;
    }
    execute_recorded(queue);
    (void)lnfq_post_send(handle); /* while its default is known: a verdict may be too large */
    let_kept_go(queue);
    queue->detached = true;
    callback = delist(queue);
    lnfq_lock_release(handle);
    Py_XDECREF(callback);
    Py_DECREF(queue); /* the list's; the caller has its own */
}

void
lnfq_binding_abandon(lnfq_queue *queue)
{
    Py_XDECREF(delist(queue));
    Py_DECREF(queue);
}

int
lnfq_binding_configure(lnfq_queue *queue, const struct lnfq_config *config)
{
    int error;

    if (queue->silent && config->has_mode && config->mode != NFQNL_COPY_NONE) {
        const struct lnfq_config none = {.has_mode = true, .mode = NFQNL_COPY_NONE};

        return open_fenced(queue, &none, config);
    }
    if (config->has_maxlen && config->maxlen > queue->maxlen && queue->grows_rcvbuf) {
        lnfq_rcvbuf_grow(queue->handle, config->maxlen - queue->maxlen);
    }
    error = lnfq_exchange_request(queue->handle, queue->number, config, NULL, 0);
    if (error == 0 && config->has_maxlen) {
        queue->maxlen = config->maxlen;
    }
    return error;
}
