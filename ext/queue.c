/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * NetfilterQueueQueueHandle: one bound queue number.
 *
 * The handle owns its queues until they are destroyed; a queue, and so each of its packets, keeps
 * its handle alive. The handle's lock protects what nfq.h says.
 *
 * A number that is bound anew: the kernel counts packet ids from 1 again, and nothing else in a
 * message tells the old binding's packets from the new one's. Those that this handle received are
 * told by the epoch in which they came. If packets waited when the old binding was destroyed, a
 * loop of the user's own may have received some and not handed them in yet. Of what such a loop
 * hands in then,
 *
 * - what the old binding had received already is the new one's, as far as none is missing there;
 * - what the new one has received already is the old one's;
 * - the rest is told by its order: the number is bound without a mode, in which the kernel queues
 *   nothing; the mode follows behind a marker, whose acknowledgement so stands in the stream before
 *   the new binding's first packet. What is handed in before it is the old binding's, and what
 *   comes behind it the new one's.
 *
 * Several loops, of which one overtakes another, break that order, and then nothing tells: that is
 * what destroy() warns of. A packet of the new binding's that was taken for one of the old one's
 * has no callback, but doesn't wait for ever: its id is noted, and once newer ones of the new
 * binding come it gets the default verdict.
 */
#include "nfq.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* How often a marker is sent again while its acknowledgement gets lost in a flood. */
#define MARKER_ATTEMPTS 100

static inline lnfq_queue *
queue_cast(PyObject *self)
{
    return (lnfq_queue *)self;
}

/* ---- the handle's list; all with the lock, and changed with the GIL, for handle_traverse ---- */

static size_t
list_position(const lnfq_handle *handle, uint16_t number)
{
    size_t low = 0, high = handle->queue_count;

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (handle->queues[middle]->number < number) {
            low = middle + 1;
        }
        else {
            high = middle;
        }
    }
    return low;
}

lnfq_queue *
lnfq_handle_find(lnfq_handle *handle, uint16_t number)
{
    size_t at = list_position(handle, number);

    return at < handle->queue_count && handle->queues[at]->number == number ? handle->queues[at]
                                                                            : NULL;
}

/* Room for one more. Returns 0 or ENOMEM. */
static int
list_reserve(lnfq_handle *handle)
{
    size_t capacity = handle->queue_capacity ? handle->queue_capacity * 2 : 4;
    lnfq_queue **queues;

    if (handle->history == NULL) {
        handle->history = calloc(UINT16_MAX + 1, sizeof(handle->history[0]));
        if (handle->history == NULL) {
            return ENOMEM;
        }
    }
    if (handle->queue_count < handle->queue_capacity) {
        return 0;
    }
    queues = realloc(handle->queues, capacity * sizeof(*queues));
    if (queues == NULL) {
        return ENOMEM;
    }
    handle->queues = queues;
    handle->queue_capacity = capacity;
    return 0;
}

/* Takes the caller's reference. */
static void
list_insert(lnfq_handle *handle, lnfq_queue *queue)
{
    size_t at = list_position(handle, queue->number);

    memmove(&handle->queues[at + 1], &handle->queues[at],
            (handle->queue_count - at) * sizeof(handle->queues[0]));
    handle->queues[at] = queue;
    handle->queue_count += 1;
}

/* Gives the reference back to the caller. */
static void
list_remove(lnfq_handle *handle, const lnfq_queue *queue)
{
    size_t at = list_position(handle, queue->number);

    handle->queue_count -= 1;
    memmove(&handle->queues[at], &handle->queues[at + 1],
            (handle->queue_count - at) * sizeof(handle->queues[0]));
}

/* ---- binding; all with the lock ---- */

/* Sends a marker and says whether its acknowledgement found room. */
static bool
mark_reliably(lnfq_queue *queue)
{
    uint32_t before, after;
    bool counted = lnfq_transport_drops(queue->handle->fd, &before);

    queue->fence = lnfq_config_mark(queue->handle);
    return counted && lnfq_transport_drops(queue->handle->fd, &after) && after == before;
}

/*
 * Gives a silent queue its mode behind a marker; see the head of this file. Each request in front
 * of the marker changes nothing, makes room by reading what waits, and tells whether we may.
 */
static int
open_fenced(lnfq_queue *queue, const struct lnfq_config *mode)
{
    const struct lnfq_config silence = {.has_mode = true, .mode = NFQNL_COPY_NONE};
    _Alignas(struct nlmsghdr) unsigned char bytes[LNFQ_REQUEST_SIZE_MAX];
    lnfq_handle *handle = queue->handle;
    bool marked = false;
    int error = 0;

    lnfq_handle_expect(handle, mode);
    for (int i = 0; i < MARKER_ATTEMPTS && !marked && error == 0; i++) {
        error = lnfq_config_request(handle, queue->number, &silence, NULL, 0);
        marked = error == 0 && mark_reliably(queue);
    }
    if (error == 0) {
        size_t size = lnfq_request_put_config(bytes, queue->number, ++handle->seq, false, mode);

        error = lnfq_transport_send(handle->fd, bytes, size);
    }
    if (error == 0) {
        queue->silent = false;
        queue->fenced = marked;
    }
    return error;
}

/* A queue that may be mistaken for its predecessor is bound without its mode first. */
static int
bind_queue(lnfq_queue *queue, const struct lnfq_config *config)
{
    struct lnfq_config first = *config;
    const struct lnfq_config mode = {
        .has_mode = true,
        .mode = config->mode,
        .range = config->range,
    };
    int error;

    first.has_mode = config->has_mode && !queue->silent;
    error = lnfq_config_request(queue->handle, queue->number, &first, NULL, 0);
    if (error != 0 || !queue->silent || !config->has_mode || config->mode == NFQNL_COPY_NONE) {
        return error;
    }
    return open_fenced(queue, &mode);
}

/* What a failed binding may have left in the kernel goes; the first error is the one to report. */
static void
undo_bind(lnfq_handle *handle, uint16_t number)
{
    const struct lnfq_config unbind = {.command = NFQNL_CFG_CMD_UNBIND};

    (void)lnfq_config_request(handle, number, &unbind, NULL, 0);
}

static int
bind_or_explain(lnfq_queue *queue, const struct lnfq_config *config, char remedy[LNFQ_REMEDY_SIZE])
{
    int error = bind_queue(queue, config);

    if (error != 0) {
        lnfq_config_remedy(queue->handle, error, queue->number, config, remedy);
    }
    if (error != 0 && error != EPERM && error != EBUSY && error != ETIMEDOUT) {
        undo_bind(queue->handle, queue->number);
        queue->handle->history[queue->number] = (struct lnfq_history){.left = true};
        queue->handle->epoch += 1;
    }
    return error;
}

/* ---- unbinding; all with the lock ---- */

/*
 * What the kernel gets in front of the unbinding, which drops all that waits: no more packets are
 * queued (where the default verdict is NF_ACCEPT they pass), and what waits gets the default.
 */
static size_t
put_teardown(lnfq_queue *queue, unsigned char *bytes)
{
    const struct lnfq_verdict verdict = {.verdict = atomic_load(&queue->default_verdict)};
    const struct lnfq_config shut = {
        .has_maxlen = true,
        .maxlen = 0,
        .mask = NFQA_CFG_F_FAIL_OPEN,
        .flags = verdict.verdict == NF_ACCEPT ? NFQA_CFG_F_FAIL_OPEN : 0,
    };
    uint32_t everything = queue->pending.highest + (UINT32_MAX >> 2); /* ids are compared signed */
    size_t size = lnfq_request_put_config(bytes, queue->number, ++queue->handle->seq, false, &shut);

    return size
           + lnfq_verdict_put_batch(bytes + size, queue->number, everything, LNFQ_SEQ_TEARDOWN,
                                    &verdict);
}

/* The callbacks that run have recorded verdicts; what they have not is the default's, and so are
 * the packets that are kept. */
static void
settle_packets(lnfq_queue *queue)
{
    for (lnfq_packet *packet = queue->active; packet != NULL; packet = packet->active_next) {
        if (packet->state == LNFQ_PACKET_ACTIVE && packet->recorded) {
            (void)lnfq_packet_execute(packet);
        }
    }
    while (queue->kept != NULL) {
        lnfq_kept_remove(queue, queue->kept);
    }
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
    if (queue->handle->nothing_left && pending->missing == 0 && !queue->fenced) {
        return (struct lnfq_history){.left = false};
    }
    return (struct lnfq_history){
        .left = true,
        .received = pending->missing == 0 && !queue->fenced ? pending->highest : 0,
    };
}

/* Its verdicts that could not be sent: the kernel has given their packets the default instead. */
static void
forget_unsent(lnfq_queue *queue, int error)
{
    struct lnfq_answer refusal = {
        .error = error,
        .type = (NFNL_SUBSYS_QUEUE << 8) | NFQNL_MSG_VERDICT,
        .named = true,
        .queue = queue->number,
    };
    lnfq_handle *handle = queue->handle;
    size_t from = 0;

    while (lnfq_outbox_find(&handle->outbox, queue->number, &from, &refusal.id)) {
        refusal.seq = refusal.id;
        lnfq_refusal_add(handle, &refusal);
        handle->stats.defaulted += 1;
    }
    lnfq_outbox_forget(&handle->outbox, queue->number);
}

/* With the queue its holes are gone, those that had not shown too. */
static void
restart_losses(lnfq_handle *handle)
{
    uint64_t missing = 0;
    uint32_t drops = 0;

    for (size_t i = 0; i < handle->queue_count; i++) {
        missing += handle->queues[i]->pending.missing;
    }
    (void)lnfq_transport_drops(handle->fd, &drops);
    lnfq_losses_restart(&handle->losses, missing, drops);
}

static int
unbind_queue(lnfq_queue *queue)
{
    const struct lnfq_config unbind = {.command = NFQNL_CFG_CMD_UNBIND};
    _Alignas(struct nlmsghdr) unsigned char before[LNFQ_REQUEST_SIZE_MAX + LNFQ_VERDICT_SIZE_MAX];
    lnfq_handle *handle = queue->handle;
    int sending, unbinding;

    handle->leaving = queue;
    sending = lnfq_handle_send(handle);
    handle->nothing_left = false;
    unbinding =
        lnfq_config_request(handle, queue->number, &unbind, before, put_teardown(queue, before));
    forget_unsent(queue, sending);
    handle->leaving = NULL;
    handle->history[queue->number] = left_behind(queue);
    handle->epoch += 1; /* what is received from now on is not this binding's */
    restart_losses(handle);
    return sending != 0 ? sending : unbinding;
}

/* ---- creating ---- */

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
        queue->maxlen = options->config.has_maxlen ? options->config.maxlen : LNFQ_MAXLEN_DEFAULT;
        queue->grows_rcvbuf = options->rcvbuf == LNFQ_RCVBUF_GROWS;
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
    int error = handle->closed ? EBADF : list_reserve(handle);

    if (error != 0) {
        return error;
    }
    if (lnfq_handle_find(handle, queue->number) != NULL) {
        return EBUSY;
    }
    history = handle->history[queue->number];
    queue->born = handle->epoch;
    queue->successor = history.left;
    queue->received = history.received;
    queue->silent = history.left && handle->kernel;
    queue->bound = true;
    list_insert(handle, (lnfq_queue *)Py_NewRef((PyObject *)queue));
    return 0;
}

/* With the lock and the GIL: the reverse. The caller drops the list's references once it has left.
 */
static PyObject *
delist(lnfq_queue *queue)
{
    PyObject *callback = queue->callback;

    queue->bound = false;
    queue->callback = NULL;
    list_remove(queue->handle, queue);
    return callback;
}

/* Takes a queue that could not be bound off the list again, and what another thread may have
 * dispatched meanwhile with it: the kernel has forgotten those packets. */
static void
discard(lnfq_queue *queue)
{
    lnfq_handle *handle = queue->handle;
    PyObject *callback = NULL;
    bool bound;

    lnfq_handle_lock(handle);
    bound = queue->bound;
    if (bound) {
        settle_packets(queue);
        lnfq_outbox_forget(&handle->outbox, queue->number);
        callback = delist(queue);
    }
    lnfq_handle_unlock(handle);
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
        lnfq_handle_grow_rcvbuf(queue->handle, 0);
    }
    return rcvbuf > 0 ? lnfq_handle_set_rcvbuf_to(queue->handle, rcvbuf) : 0;
}

/* Lists and binds in one go; 0 or an errno, with what can be done about it. */
static int
enlist_and_bind(lnfq_queue *queue, const struct lnfq_queue_options *options,
                char remedy[LNFQ_REMEDY_SIZE])
{
    lnfq_handle *handle = queue->handle;
    int error;

    lnfq_handle_lock(handle);
    error = enlist(queue);
    if (error != 0) {
        lnfq_handle_unlock(handle);
        snprintf(remedy, LNFQ_REMEDY_SIZE, "%s",
                 error == EBUSY ? "it is bound on this handle already" : "");
    }
    else {
        PyThreadState *thread = PyEval_SaveThread();

        error = make_room(queue, options->rcvbuf);
        if (error != 0) {
            snprintf(remedy, LNFQ_REMEDY_SIZE, "%s", lnfq_error_descriptor(error));
        }
        else {
            error = bind_or_explain(queue, &options->config, remedy);
        }
        lnfq_handle_leave(handle, thread);
        if (error != 0) {
            discard(queue);
        }
    }
    return error;
}

PyObject *
lnfq_queue_create(lnfq_handle *handle, uint16_t number, PyObject *callback,
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
lnfq_queue_destroy(lnfq_queue *queue)
{
    lnfq_handle *handle = queue->handle;
    PyThreadState *thread;
    PyObject *callback;
    int error;

    lnfq_handle_lock(handle);
    if (!queue->bound) {
        lnfq_handle_unlock(handle);
        return 0;
    }
    settle_packets(queue);
    callback = delist(queue);
    thread = PyEval_SaveThread();
    error = unbind_queue(queue);
    lnfq_handle_leave(handle, thread);
    Py_XDECREF(callback);
    Py_DECREF(queue); /* the list's; the caller has its own */
    return error;
}

void
lnfq_queue_abandon(lnfq_queue *queue)
{
    Py_XDECREF(delist(queue));
    Py_DECREF(queue);
}

/* ---- what is missing ---- */

void
lnfq_queue_sample(lnfq_handle *handle, uint32_t drops)
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

/* A packet was received while ids may be missing: perhaps it shows that they were lost. Nothing can
 * be proved where others read the descriptor. */
static void
look_for_losses(lnfq_queue *queue, uint64_t epoch)
{
    lnfq_handle *handle = queue->handle;

    if (handle->foreign || handle->adopted) {
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

static void
receive(lnfq_queue *queue, uint32_t id, bool alone)
{
    lnfq_handle *handle = queue->handle;

    handle->losses.missing += (uint64_t)lnfq_pending_receive(&queue->pending, id, alone);
    handle->watching |= queue->pending.gap;
}

/* ---- whose a message is ---- */

/* What becomes of a message that a loop of the user's own has handed in. */
enum claim {
    CLAIM_OURS,
    CLAIM_OLD,
    CLAIM_DOUBTFUL, /* most likely an old one */
};

/* See the head of this file. */
static enum claim
judge_foreign(const lnfq_queue *queue, uint32_t id)
{
    const struct lnfq_pending *pending = &queue->pending;
    bool older = pending->seen && !lnfq_pending_newer(id, pending->highest);

    if (queue->silent || (older && pending->missing == 0)) {
        return CLAIM_OLD;
    }
    if (!queue->fenced || id <= queue->received) {
        return CLAIM_OURS;
    }
    return older ? CLAIM_OLD : CLAIM_DOUBTFUL;
}

/* Notes an id, once. Without memory its packet waits until the queue is destroyed, if it is one. */
static void
doubts_note(struct lnfq_doubts *doubts, uint32_t id)
{
    size_t at = doubts->count;

    if (doubts->count == doubts->capacity) {
        size_t capacity = doubts->capacity != 0 ? doubts->capacity * 2 : 16;
        uint32_t *ids = realloc(doubts->ids, capacity * sizeof(*ids));

        if (ids == NULL) {
            return;
        }
        doubts->ids = ids;
        doubts->capacity = capacity;
    }
    while (at > 0 && lnfq_pending_newer(doubts->ids[at - 1], id)) {
        at -= 1;
    }
    if (at == 0 || doubts->ids[at - 1] != id) {
        memmove(doubts->ids + at + 1, doubts->ids + at, (doubts->count - at) * sizeof(id));
        doubts->ids[at] = id;
        doubts->count += 1;
    }
}

static void
doubts_remove(struct lnfq_doubts *doubts, size_t at, size_t count)
{
    doubts->count -= count;
    memmove(doubts->ids + at, doubts->ids + at + count,
            (doubts->count - at) * sizeof(doubts->ids[0]));
}

/* There is no doubt about an id that was received. */
static void
doubts_forget(struct lnfq_doubts *doubts, uint32_t id)
{
    for (size_t i = 0; i < doubts->count && !lnfq_pending_newer(doubts->ids[i], id); i++) {
        if (doubts->ids[i] == id) {
            doubts_remove(doubts, i, 1);
        }
    }
}

/* The ids up to the one that was received now exist in this binding: what was handed in with such
 * an id, and did not come again, may wait in the kernel; or it was lost. */
static void
doubts_settle(lnfq_queue *queue, uint32_t received)
{
    struct lnfq_doubts *doubts = &queue->doubts;
    size_t known = 0;

    while (known < doubts->count && !lnfq_pending_newer(doubts->ids[known], received)
           && lnfq_handle_send_unsure(queue->handle, queue, doubts->ids[known]) == 0) {
        known += 1;
    }
    doubts_remove(doubts, 0, known);
}

bool
lnfq_queue_owns(lnfq_queue *queue, uint32_t id, uint64_t epoch, bool foreign)
{
    lnfq_handle *handle = queue->handle;

    if (!queue->bound || epoch < queue->born) {
        return false;
    }
    if (foreign && queue->successor) {
        enum claim claim = judge_foreign(queue, id);

        if (claim != CLAIM_OURS) {
            /* The marker may have been lost in a flood. */
            handle->marker_wanted |= queue->silent || queue->fenced;
            if (claim == CLAIM_DOUBTFUL) {
                doubts_note(&queue->doubts, id);
            }
            return false;
        }
    }
    receive(queue, id, !handle->exposed && atomic_load(&handle->readers) <= 1);
    if (handle->watching) {
        look_for_losses(queue, epoch);
    }
    if (queue->doubts.count > 0) {
        doubts_forget(&queue->doubts, id);
        if (!queue->fenced) {
            doubts_settle(queue, id);
        }
    }
    return true;
}

/* ---- configuring a live queue ---- */

/* With the lock. A silent queue gets its first mode behind a marker. */
static int
configure(lnfq_queue *queue, const struct lnfq_config *config)
{
    int error;

    if (queue->silent && config->has_mode && config->mode != NFQNL_COPY_NONE) {
        return open_fenced(queue, config);
    }
    if (config->has_maxlen && config->maxlen > queue->maxlen && queue->grows_rcvbuf) {
        lnfq_handle_grow_rcvbuf(queue->handle, config->maxlen - queue->maxlen);
    }
    error = lnfq_config_request(queue->handle, queue->number, config, NULL, 0);
    if (error == 0 && config->has_maxlen) {
        queue->maxlen = config->maxlen;
    }
    return error;
}

/* Raises ClosedError; returns NULL. */
static PyObject *
raise_destroyed(const lnfq_queue *queue, const char *call)
{
    PyErr_Format(queue->handle->state->closed_error, "%s: queue %u is destroyed", call,
                 queue->number);
    return NULL;
}

/* Sends one request about this queue; `call` shows the arguments. None, or NULL. */
static PyObject *
queue_configure(lnfq_queue *queue, const struct lnfq_config *config, const char *call)
{
    char remedy[LNFQ_REMEDY_SIZE];
    PyThreadState *thread;
    int error = 0;
    bool bound;

    if (lnfq_handle_check_forked(queue->handle, call) < 0) {
        return NULL;
    }
    thread = lnfq_handle_enter(queue->handle);
    bound = queue->bound;
    if (bound) {
        error = configure(queue, config);
    }
    if (error != 0) {
        lnfq_config_remedy(queue->handle, error, queue->number, config, remedy);
    }
    lnfq_handle_leave(queue->handle, thread);
    if (!bound) {
        return raise_destroyed(queue, call);
    }
    if (error != 0) {
        lnfq_error_raise(error, remedy, "%s of queue %u", call, queue->number);
        return NULL;
    }
    Py_RETURN_NONE;
}

/* Whether it is bound, read under the lock. */
static bool
queue_bound(lnfq_queue *queue)
{
    bool bound;

    lnfq_handle_lock(queue->handle);
    bound = queue->bound && !lnfq_handle_forked(queue->handle);
    lnfq_handle_unlock(queue->handle);
    return bound;
}

/* ---- methods ---- */

PyDoc_STRVAR(set_mode_doc,
             "set_mode($self, /, mode, range)\n"
             "--\n"
             "\n"
             "Set how much of each packet the kernel copies to user space.\n"
             "\n"
             "mode is a CopyMode: NFQNL_COPY_NONE (nothing is queued, packets are dropped),\n"
             "NFQNL_COPY_META (attributes only) or NFQNL_COPY_PACKET (the payload too). range\n"
             "is the number of payload bytes to copy, 0 to 2**32-1; the kernel copies at most\n"
             "65531, and takes 0 as that.\n"
             "\n"
             "May be called at any time from any thread, also from a callback; it neither waits\n"
             "nor calls callbacks. Raises ValueError for a number out of range, ClosedError for a\n"
             "destroyed queue, TypeError, OSError if the kernel refuses, RuntimeError after fork.\n"
             "Kernel: NFQA_CFG_PARAMS; nfq_set_mode(3).");

static PyObject *
queue_set_mode(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"mode", "range", NULL};
    PyObject *values[2] = {NULL, NULL};
    int64_t mode, range;
    struct lnfq_config config = {.has_mode = true};
    char call[64];

    if (lnfq_parse_arguments("set_mode", names, 2, 2, args, nargs, kwnames, values) < 0
        || lnfq_parse_int(values[0], "set_mode(): mode", 0, NFQNL_COPY_PACKET, &mode) < 0
        || lnfq_parse_int(values[1], "set_mode(): range", 0, UINT32_MAX, &range) < 0) {
        return NULL;
    }
    config.mode = (uint8_t)mode;
    config.range = (uint32_t)range;
    snprintf(call, sizeof(call), "set_mode(%u, %u)", config.mode, config.range);
    return queue_configure(queue_cast(self), &config, call);
}

PyDoc_STRVAR(set_flags_doc,
             "set_flags($self, /, mask, flags)\n"
             "--\n"
             "\n"
             "Set or clear the queue's flags.\n"
             "\n"
             "mask says which QueueFlag bits to change, flags what they become; both 0 to\n"
             "2**32-1. Bits of flags outside mask do nothing.\n"
             "\n"
             "May be called at any time from any thread, also from a callback; it neither waits\n"
             "nor calls callbacks. Raises ValueError for a number out of range, ClosedError for a\n"
             "destroyed queue, TypeError, OSError (EOPNOTSUPP, EINVAL) for a flag that the kernel\n"
             "does not know, RuntimeError after fork. Kernel: NFQA_CFG_MASK and NFQA_CFG_FLAGS;\n"
             "nfq_set_queue_flags(3).");

static PyObject *
queue_set_flags(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"mask", "flags", NULL};
    PyObject *values[2] = {NULL, NULL};
    int64_t mask, flags;
    struct lnfq_config config = {0};
    char call[64];

    if (lnfq_parse_arguments("set_flags", names, 2, 2, args, nargs, kwnames, values) < 0
        || lnfq_parse_int(values[0], "set_flags(): mask", 0, UINT32_MAX, &mask) < 0
        || lnfq_parse_int(values[1], "set_flags(): flags", 0, UINT32_MAX, &flags) < 0) {
        return NULL;
    }
    config.mask = (uint32_t)mask;
    config.flags = (uint32_t)flags;
    snprintf(call, sizeof(call), "set_flags(%u, %u)", config.mask, config.flags);
    return queue_configure(queue_cast(self), &config, call);
}

PyDoc_STRVAR(set_maxlen_doc,
             "set_maxlen($self, /, queuelen)\n"
             "--\n"
             "\n"
             "Set how many packets may wait in the kernel's queue, 0 to 2**32-1.\n"
             "\n"
             "The kernel starts with 1024; what comes when so many wait is dropped, or passes\n"
             "with NFQA_CFG_F_FAIL_OPEN. A packet of 1500 bytes takes about 2300 bytes of the\n"
             "socket's receive buffer, which may be full before. That grows with the number as\n"
             "in create_queue, unless the queue was created with another rcvbuf than None.\n"
             "\n"
             "May be called at any time from any thread, also from a callback; it neither waits\n"
             "nor calls callbacks. Raises ValueError for a number out of range, ClosedError for a\n"
             "destroyed queue, TypeError, OSError if the kernel refuses, RuntimeError after fork.\n"
             "Kernel: NFQA_CFG_QUEUE_MAXLEN; nfq_set_queue_maxlen(3).");

static PyObject *
queue_set_maxlen(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"queuelen", NULL};
    PyObject *values[1] = {NULL};
    int64_t maxlen;
    struct lnfq_config config = {.has_maxlen = true};
    char call[64];

    if (lnfq_parse_arguments("set_maxlen", names, 1, 1, args, nargs, kwnames, values) < 0
        || lnfq_parse_int(values[0], "set_maxlen(): queuelen", 0, UINT32_MAX, &maxlen) < 0) {
        return NULL;
    }
    config.maxlen = (uint32_t)maxlen;
    snprintf(call, sizeof(call), "set_maxlen(%u)", config.maxlen);
    return queue_configure(queue_cast(self), &config, call);
}

/* Verdicts that were sent may have been refused, and nobody knows yet. Who gives a batch verdict
 * has to know; where that can't be found out, it is given to each packet by itself. */
static void
catch_up(lnfq_handle *handle)
{
    PyThreadState *thread;

    lnfq_handle_lock(handle);
    if (!handle->outbox.unconfirmed || handle->closed || handle->foreign || handle->adopted
        || atomic_load(&handle->readers) > 0) {
        lnfq_handle_unlock(handle);
        return;
    }
    thread = PyEval_SaveThread();
    lnfq_config_catch_up(handle);
    lnfq_handle_leave(handle, thread);
}

PyDoc_STRVAR(set_verdict_batch_doc,
             "set_verdict_batch($self, /, verdict, up_to_id, mark=None, *, priority=None)\n"
             "--\n"
             "\n"
             "Give one verdict to all packets of the queue that wait for theirs, up to an id.\n"
             "\n"
             "verdict is a Verdict or what NF_QUEUE_NR returns. up_to_id is the id of the last\n"
             "packet that it is for, 0 to 2**32-1; ids are compared as signed differences, as\n"
             "they wrap. mark and priority are what the packets get too, 0 to 2**32-1 in host\n"
             "byte order; None leaves what they have. It is for packets that were dispatched:\n"
             "kept ones, and those whose callbacks run. They then count as executed, and a\n"
             "further verdict on them is a VerdictError; packets that nobody has dispatched yet\n"
             "get verdicts of their own, but for those with such an id that another reader of\n"
             "the descriptor holds. It is executed at once (with autoflush; else at flush or\n"
             "the next dispatch), and does nothing if no such packet waits.\n"
             "\n"
             "Never waits; may be called from any thread, and from a callback. Raises ValueError\n"
             "for a number out of range, ClosedError for a destroyed queue, TypeError, OSError if\n"
             "it can't be sent, RuntimeError after fork. Kernel: NFQNL_MSG_VERDICT_BATCH,\n"
             "NFQA_MARK, NFQA_PRIORITY; nfq_set_verdict_batch2(3).");

static PyObject *
queue_set_verdict_batch(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"verdict", "up_to_id", "mark", "priority", NULL};
    static const char call[] = "set_verdict_batch()";
    PyObject *values[4] = {NULL};
    struct lnfq_verdict verdict = {0};
    lnfq_queue *queue = queue_cast(self);
    int64_t up_to;
    bool bound, any = false;
    int error = 0;

    if (lnfq_parse_arguments("set_verdict_batch", names, 2, 3, args, nargs, kwnames, values) < 0
        || lnfq_parse_verdict(values[0], "set_verdict_batch(): verdict", &verdict.verdict) < 0
        || lnfq_parse_int(values[1], "set_verdict_batch(): up_to_id", 0, UINT32_MAX, &up_to) < 0
        || lnfq_parse_optional(values[2], "set_verdict_batch(): mark", &verdict.mark) < 0
        || lnfq_parse_optional(values[3], "set_verdict_batch(): priority", &verdict.priority) < 0
        || lnfq_handle_check_forked(queue->handle, call) < 0) {
        return NULL;
    }
    catch_up(queue->handle);
    lnfq_handle_lock(queue->handle);
    bound = queue->bound;
    if (bound) {
        error = lnfq_queue_give_batch(queue, (uint32_t)up_to, &verdict, &any);
    }
    lnfq_handle_unlock(queue->handle);
    if (!bound) {
        return raise_destroyed(queue, call);
    }
    if (error != 0) {
        return PyErr_NoMemory();
    }
    if (any && lnfq_handle_send_or_hold(queue->handle, call) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static const char *
destroy_remedy(int error)
{
    return error == EPERM ? "CAP_NET_ADMIN is needed in the network namespace; closing the handle "
                            "frees the number"
                          : "";
}

PyDoc_STRVAR(
    destroy_doc,
    "destroy($self, /)\n"
    "--\n"
    "\n"
    "Unbind the queue; does nothing if that has been done.\n"
    "\n"
    "Verdicts that were given are executed first, those recorded by running callbacks\n"
    "included. Everything else that waits, kept or not yet read, gets the queue's\n"
    "default_verdict; a verdict on such a packet is then a ClosedError. Verdicts that can't\n"
    "be sent become the default too, and on_verdict_error is told.\n"
    "\n"
    "The number may be bound anew at once. If several loops of your own read the descriptor\n"
    "and pass what they read to handle_packet(), stop them before that, or bind the number on\n"
    "another handle: a message of the old binding that one of them still holds can't be told\n"
    "from the new binding's packet of the same id once another loop has overtaken it. One\n"
    "such loop, and any number of threads in process(), need no care. A packet that may be\n"
    "the old binding's is not passed to the new one's callback; if it was the new one's, it\n"
    "gets the default verdict.\n"
    "\n"
    "May be called at any time from any thread, also from a callback; it neither\n"
    "waits nor calls callbacks. Raises OSError if the kernel refuses (the queue\n"
    "counts as destroyed all the same), RuntimeError after fork. Kernel:\n"
    "NFQNL_CFG_CMD_UNBIND; nfq_destroy_queue(3).");

static PyObject *
queue_destroy(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    lnfq_queue *queue = queue_cast(self);
    int error;

    if (lnfq_handle_check_forked(queue->handle, "destroy()") < 0) {
        return NULL;
    }
    error = lnfq_queue_destroy(queue);
    if (error != 0) {
        lnfq_error_raise(error, destroy_remedy(error), "destroy() of queue %u", queue->number);
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(enter_doc, "__enter__($self, /)\n"
                        "--\n"
                        "\n"
                        "Return the queue itself. Raises ClosedError if it is destroyed.");

static PyObject *
queue_enter(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    if (lnfq_handle_check_forked(queue_cast(self)->handle, "__enter__()") < 0) {
        return NULL;
    }
    if (!queue_bound(queue_cast(self))) {
        return raise_destroyed(queue_cast(self), "__enter__()");
    }
    return Py_NewRef(self);
}

PyDoc_STRVAR(exit_doc, "__exit__($self, /, *exception)\n"
                       "--\n"
                       "\n"
                       "Call destroy().");

static PyObject *
queue_exit(PyObject *self, PyObject *Py_UNUSED(exception))
{
    return queue_destroy(self, NULL);
}

/* ---- attributes ---- */

static PyObject *
queue_get_number(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLong(queue_cast(self)->number);
}

static PyObject *
queue_get_handle(PyObject *self, void *Py_UNUSED(closure))
{
    return Py_NewRef((PyObject *)queue_cast(self)->handle);
}

static PyObject *
queue_get_destroyed(PyObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(!queue_bound(queue_cast(self)));
}

static PyObject *
queue_get_callback(PyObject *self, void *Py_UNUSED(closure))
{
    lnfq_queue *queue = queue_cast(self);
    PyObject *callback;

    if (lnfq_handle_check_forked(queue->handle, "callback") < 0) {
        return NULL;
    }
    lnfq_handle_lock(queue->handle);
    callback = Py_XNewRef(queue->callback);
    lnfq_handle_unlock(queue->handle);
    return callback != NULL ? callback : raise_destroyed(queue, "callback");
}

static int
queue_set_callback(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    lnfq_queue *queue = queue_cast(self);
    PyObject *former;

    if (value == NULL) {
        PyErr_SetString(PyExc_TypeError, "callback can't be deleted");
        return -1;
    }
    if (lnfq_callback_check(value, "callback") < 0
        || lnfq_handle_check_forked(queue->handle, "callback") < 0) {
        return -1;
    }
    lnfq_handle_lock(queue->handle);
    former = queue->callback;
    if (former != NULL) {
        queue->callback = Py_NewRef(value);
    }
    lnfq_handle_unlock(queue->handle);
    if (former == NULL) {
        (void)raise_destroyed(queue, "callback");
        return -1;
    }
    Py_DECREF(former);
    return 0;
}

static PyObject *
queue_get_default_verdict(PyObject *self, void *Py_UNUSED(closure))
{
    lnfq_queue *queue = queue_cast(self);

    return lnfq_enum_member(queue->handle->state, LNFQ_ENUM_VERDICT,
                            atomic_load(&queue->default_verdict));
}

static int
queue_set_default_verdict(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    lnfq_queue *queue = queue_cast(self);
    uint32_t verdict;

    if (value == NULL) {
        PyErr_SetString(PyExc_TypeError, "default_verdict can't be deleted");
        return -1;
    }
    if (lnfq_parse_verdict(value, "default_verdict", &verdict) < 0
        || lnfq_handle_check_forked(queue->handle, "default_verdict") < 0) {
        return -1;
    }
    if (!queue_bound(queue)) {
        (void)raise_destroyed(queue, "default_verdict");
        return -1;
    }
    atomic_store(&queue->default_verdict, verdict);
    return 0;
}

static PyObject *
queue_repr(PyObject *self)
{
    return PyUnicode_FromFormat("<%s %u%s>", Py_TYPE(self)->tp_name, queue_cast(self)->number,
                                queue_bound(queue_cast(self)) ? "" : " destroyed");
}

/* ---- type ---- */

static int
queue_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(queue_cast(self)->handle);
    Py_VISIT(queue_cast(self)->callback);
    return 0;
}

static void
queue_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    Py_XDECREF(queue_cast(self)->callback);
    Py_DECREF(queue_cast(self)->handle);
    free(queue_cast(self)->batches);
    free(queue_cast(self)->doubts.ids);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef queue_methods[] = {
    {"set_mode", (PyCFunction)(void (*)(void))queue_set_mode, METH_FASTCALL | METH_KEYWORDS,
     set_mode_doc},
    {"set_flags", (PyCFunction)(void (*)(void))queue_set_flags, METH_FASTCALL | METH_KEYWORDS,
     set_flags_doc},
    {"set_maxlen", (PyCFunction)(void (*)(void))queue_set_maxlen, METH_FASTCALL | METH_KEYWORDS,
     set_maxlen_doc},
    {"set_verdict_batch", (PyCFunction)(void (*)(void))queue_set_verdict_batch,
     METH_FASTCALL | METH_KEYWORDS, set_verdict_batch_doc},
    {"destroy", queue_destroy, METH_NOARGS, destroy_doc},
    {"__enter__", queue_enter, METH_NOARGS, enter_doc},
    {"__exit__", queue_exit, METH_VARARGS, exit_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef queue_attributes[] = {
    {"number", queue_get_number, NULL, "The queue's number, an int from 0 to 65535.", NULL},
    {"handle", queue_get_handle, NULL, "The NetfilterQueueHandle that it is bound on, or was.",
     NULL},
    {"destroyed", queue_get_destroyed, NULL,
     "Whether it is destroyed, by itself or with its handle. A bool.", NULL},
    {"callback", queue_get_callback, queue_set_callback,
     "What is called with each packet: a callable. A new one is called from the next packet on.\n\n"
     "May be used from any thread, and from a callback. Raises ClosedError for a destroyed\n"
     "queue, RuntimeError after fork; setting it raises TypeError for what create_queue does\n"
     "not take.",
     NULL},
    {"default_verdict", queue_get_default_verdict, queue_set_default_verdict,
     "The Verdict of packets that nobody gives one: NF_DROP unless set.\n\n"
     "Takes what set_verdict takes; ValueError for another number, ClosedError for a\n"
     "destroyed queue, TypeError, RuntimeError after fork.",
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(queue_doc, "One bound queue number; made by NetfilterQueueHandle.create_queue.\n"
                        "\n"
                        "A context manager that destroys it. May be used from any thread.");

static PyType_Slot queue_slots[] = {
    {Py_tp_doc, (void *)(uintptr_t)queue_doc},
    {Py_tp_methods, queue_methods},
    {Py_tp_getset, queue_attributes},
    {Py_tp_repr, queue_repr},
    {Py_tp_traverse, queue_traverse},
    {Py_tp_dealloc, queue_dealloc},
    {0, NULL},
};

PyType_Spec lnfq_queue_spec = {
    .name = "libnetfilterqueue.NetfilterQueueQueueHandle",
    .basicsize = sizeof(lnfq_queue),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION
             | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = queue_slots,
};
