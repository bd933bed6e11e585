/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From received messages to callbacks to verdicts.
 *
 * A dispatch calls the callbacks of the packets in some messages, one after the other, and sends
 * their verdicts together when it is over, or earlier when callbacks are slow. Several dispatches
 * may run at once, in threads, in greenlets, or one within another's callback. What they share is
 * in the handle and in the packets, under the handle's lock. Nobody holds that lock while a
 * callback runs.
 */
#include "dispatch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backlog.h"
#include "batch.h"
#include "bound.h"
#include "callback.h"
#include "claim.h"
#include "clock.h"
#include "error.h"
#include "exchange.h"
#include "fate.h"
#include "flush.h"
#include "handle.h"
#include "hands.h"
#include "index.h"
#include "inlets.h"
#include "keeper.h"
#include "lock.h"
#include "message.h"
#include "packet.h"
#include "post.h"
#include "queue.h"
#include "reader.h"
#include "reference.h"
#include "report.h"
#include "seldom.h"
#include "slot.h"
#include "takeover.h"
#include "unclaimed.h"
#include "verdict_batch.h"

/* How long a verdict may wait for others to travel with. */
#define VERDICT_DELAY_NS 1000000

/* A queue with a callback that took longer is slow until so many of its callbacks have not. */
#define SLOW_CALLBACKS 64

/* One dispatch. It lives on the stack, and nothing points at it while Python code runs. */
struct dispatch {
    lnfq_handle *handle;
    const char *call;   /* for errors */
    PyObject *error;    /* the first exception; strong */
    lnfq_packet *blank; /* the next one; strong; NULL without memory, or until needed */
    Py_ssize_t packets;
    int64_t now;    /* when the next callback begins; 0: the clock has to be read */
    int64_t oldest; /* when the callback of the oldest verdict not sent began; 0: there is none */
    bool slow;      /* a callback took longer than verdicts may wait */
    bool last;      /* the bytes that are read are the last ones */
    bool stopped;   /* an exception leaves at once: no further callback is called */
};

/* Where messages stand, and how they came. */
struct source {
    lnfq_slot *slot;
    uint64_t epoch;
    bool foreign; /* received by a loop of the user's own */
};

/* The bytes of one message. */
struct piece {
    const unsigned char *bytes;
    size_t size;
};

static struct dispatch
dispatch_begin(lnfq_handle *handle, const char *call)
{
    return (struct dispatch){
        .handle = handle,
        .call = call,
        .blank = atomic_exchange(&handle->blank, NULL),
    };
}

/* Keeps the exception that is raised. */
static void
dispatch_fail(struct dispatch *dispatch, PyObject *where)
{
    dispatch->stopped |= lnfq_error_collect(&dispatch->error, where);
}

static void
dispatch_flush(struct dispatch *dispatch)
{
    dispatch->oldest = 0;
    if (lnfq_flush_now(dispatch->handle, dispatch->call) < 0) {
        dispatch_fail(dispatch, (PyObject *)dispatch->handle);
    }
}

/* Sends what is left; returns the number of packets, or -1 with the first exception. */
static Py_ssize_t
dispatch_end(struct dispatch *dispatch)
{
    Py_XDECREF(atomic_exchange(&dispatch->handle->blank, dispatch->blank));
    /* A callback's child that raises, SystemExit above all, leaves by that and is told no more. */
    if (dispatch->error == NULL || !lnfq_handle_forked(dispatch->handle)) {
        dispatch_flush(dispatch);
    }
    if (lnfq_report_refusals(dispatch->handle) < 0) {
        dispatch_fail(dispatch, (PyObject *)dispatch->handle);
    }
    if (dispatch->error != NULL) {
        lnfq_error_restore(dispatch->error);
        return -1;
    }
    return dispatch->packets;
}

/* Before a callback: whether verdicts have waited long enough, or would have by its end. No C code
 * runs while one does. `only` says that there is no other callback. */
static bool
dispatch_due(struct dispatch *dispatch, const lnfq_queue *queue, bool only)
{
    bool slow = dispatch->slow || atomic_load_explicit(&queue->slow, memory_order_relaxed) > 0;

    if (only && !slow) {
        dispatch->now = 0; /* no need to look at the clock */
        return false;
    }
    if (dispatch->now == 0) {
        dispatch->now = lnfq_clock_now();
    }
    return slow || (dispatch->oldest != 0 && dispatch->now - dispatch->oldest > VERDICT_DELAY_NS);
}

/* With the lock, which it gives up meanwhile: sends the verdicts that are due. That may call a
 * listener, which may do anything, so the next packet has no owner yet. Returns false if the
 * dispatch is over; then the lock is released. */
static bool
dispatch_catch_up(struct dispatch *dispatch)
{
    lnfq_lock_release(dispatch->handle);
    dispatch_flush(dispatch);
    if (lnfq_handle_forked(dispatch->handle) || dispatch->stopped) {
        return false;
    }
    lnfq_lock_acquire(dispatch->handle);
    return true;
}

/* After a callback: how long it took tells what to expect of its queue. */
static void
dispatch_clock(struct dispatch *dispatch, lnfq_queue *queue)
{
    int64_t began = dispatch->now;
    int slow;

    if (began == 0) {
        return;
    }
    dispatch->now = lnfq_clock_now();
    slow = atomic_load_explicit(&queue->slow, memory_order_relaxed);
    if (dispatch->now - began > VERDICT_DELAY_NS) {
        dispatch->slow = true;
        slow = SLOW_CALLBACKS + 1;
    }
    if (slow > 0) { /* it is a guess: threads may overwrite each other's */
        atomic_store_explicit(&queue->slow, slow - 1, memory_order_relaxed);
    }
}

/* With the lock: no queue takes a message. It may be for one that is still to be created. */
LNFQ_SELDOM static void
leave_unclaimed(lnfq_handle *handle, const struct lnfq_index *index, const struct source *source,
                const struct piece *piece)
{
    const struct lnfq_unclaimed message = {
        .number = index->queue,
        .id = index->id,
        .bytes = piece->bytes,
        .size = piece->size,
        .epoch = source->epoch,
        .foreign = source->foreign,
    };

    handle->stats.orphaned += 1;
    lnfq_unclaimed_add(handle, &message);
}

/*
 * Finds the packet's queue and begins its callback, which is returned, a new reference; NULL if
 * there is no such queue, or the dispatch has stopped. Without memory for a packet object (`packet`
 * is NULL) it gets the default. `only` says that there is no other callback.
 */
LNFQ_ALWAYS static PyObject *
claim(struct dispatch *dispatch, lnfq_packet *packet, const struct lnfq_index *index,
      const struct source *source, const struct piece *piece, bool only)
{
    lnfq_handle *handle = dispatch->handle;
    PyObject *callback = NULL;
    lnfq_queue *queue;
    uint32_t verdict;

    if (lnfq_handle_forked(handle)) {
        return NULL; /* a callback has forked, and this is the child: dispatch_end says so */
    }
    lnfq_lock_acquire(handle);
    queue = lnfq_bound_find(handle, index->queue);
    if (packet != NULL && queue != NULL && dispatch_due(dispatch, queue, only)) {
        if (!dispatch_catch_up(dispatch)) {
            return NULL;
        }
        queue = lnfq_bound_find(handle, index->queue);
    }
    if (queue == NULL) {
        leave_unclaimed(handle, index, source, piece);
    }
    else if (!lnfq_claim_message(queue, index->id, source->epoch, source->foreign)) {
        handle->stats.orphaned += 1;
    }
    else if (packet == NULL) {
        (void)lnfq_post_default(handle, queue, index->id, LNFQ_REASON_NO_MEMORY);
    }
    else {
        callback = Py_NewRef(queue->callback);
        lnfq_fate_begin(packet, queue);
        if (lnfq_verdict_batch_covers(queue, index->id, &verdict)) {
            lnfq_fate_cover(packet, verdict);
        }
        lnfq_keeper_record(&handle->keeper, LNFQ_RECORD_RECEIVED);
        handle->stats.packets += 1;
        handle->stats.truncated += lnfq_index_truncated(index, packet->bytes);
    }
    lnfq_lock_release(handle);
    return callback;
}

/*
 * With the lock: a packet whose callback is over gets the verdict that is recorded. Otherwise it is
 * kept, if it has bytes of its `own` and may be silent; or it gets the default, for that reason.
 * Returns 0, or ENOMEM.
 */
static int
execute_or_keep(lnfq_packet *packet, bool own, enum lnfq_reason reason)
{
    bool keepable = own && reason == LNFQ_REASON_SILENT;
    int error = 0;

    if (packet->recorded) {
        error = lnfq_fate_execute(packet);
        if (error == 0) {
            return 0;
        }
        keepable = own; /* somebody may repeat it */
        reason = LNFQ_REASON_NO_MEMORY;
    }
    if (keepable) {
        if (lnfq_fate_keep(packet) == 0) {
            return error;
        }
        error = ENOMEM;
        reason = LNFQ_REASON_NO_MEMORY;
    }
    lnfq_fate_default(packet, reason);
    return error;
}

/* Why a packet whose callback is over gets the default, if it has no verdict. */
static enum lnfq_reason
default_reason(bool raised, bool without_memory)
{
    if (raised) {
        return LNFQ_REASON_RAISED;
    }
    return without_memory ? LNFQ_REASON_NO_MEMORY : LNFQ_REASON_SILENT;
}

/*
 * Settles a packet whose callback is over; `raised` says whether it raised. Returns true if
 * somebody references the packet. Then it has bytes of its own from now on, and is kept unless it
 * has had its verdict. Without memory for that it gets the default. It also gets the default if
 * there is no memory for its verdict and nobody can repeat that. In a child that the callback has
 * forked there is nothing to settle: the packet belongs to the parent, and so do all lists.
 */
static bool
settle(struct dispatch *dispatch, lnfq_packet *packet, bool raised)
{
    bool referenced = !lnfq_reference_sole((PyObject *)packet);
    bool own = referenced && lnfq_packet_copy(packet) == 0;
    int error = 0;

    if (referenced && !own) {
        dispatch_fail(dispatch, (PyObject *)packet->queue);
    }
    lnfq_lock_acquire(dispatch->handle);
    lnfq_fate_end(packet);
    if (packet->queue->bound && packet->state == LNFQ_PACKET_ACTIVE
        && !lnfq_handle_forked(dispatch->handle)) {
        error = execute_or_keep(packet, own, default_reason(raised, referenced && !own));
    }
    if (packet->state == LNFQ_PACKET_ACTIVE) {
        packet->state = LNFQ_PACKET_KEPT; /* without a record: its verdict is nobody's any more */
    }
    lnfq_lock_release(dispatch->handle);
    if (error != 0) {
        PyErr_NoMemory();
        dispatch_fail(dispatch, (PyObject *)packet->queue);
    }
    return referenced;
}

/* Calls back; the packet is settled afterwards. */
static void
call_back(struct dispatch *dispatch, lnfq_packet *packet, PyObject *callback)
{
    PyObject *arguments[2] = {NULL, (PyObject *)packet};
    PyObject *result;

    if (dispatch->oldest == 0) {
        dispatch->oldest = dispatch->now;
    }
    result = PyObject_Vectorcall(callback, arguments + 1, 1 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    dispatch_clock(dispatch, packet->queue);
    if (result != Py_None && result != NULL) {
        result = lnfq_callback_result(callback, result);
    }
    if (result == NULL) {
        dispatch_fail(dispatch, callback);
    }
    if (settle(dispatch, packet, result == NULL)) {
        Py_DECREF(packet);
    }
    else {
        lnfq_packet_blank(packet);
        Py_XSETREF(dispatch->blank, packet); /* a nested dispatch may have left another one */
    }
    Py_XDECREF(result);
}

/* The blank packet, with its slot and bytes set: the caller's now; NULL without memory. */
static lnfq_packet *
take_blank(struct dispatch *dispatch, const struct source *source, const unsigned char *bytes)
{
    lnfq_packet *packet = dispatch->blank;

    dispatch->blank = NULL;
    if (packet == NULL) {
        packet = lnfq_packet_new(dispatch->handle->state);
    }
    if (packet == NULL) {
        dispatch_fail(dispatch, (PyObject *)dispatch->handle);
        return NULL;
    }
    packet->slot = (lnfq_slot *)Py_NewRef((PyObject *)source->slot);
    packet->bytes = bytes;
    return packet;
}

/* Dispatches a packet message; takes the packet object that it was read into. False if the dispatch
 * stopped before it. */
static bool
dispatch_packet(struct dispatch *dispatch, lnfq_packet *packet, const struct lnfq_index *index,
                const struct source *source, const struct piece *piece, bool last)
{
    bool only = last && dispatch->packets == 0;
    PyObject *callback = claim(dispatch, packet, index, source, piece, only);

    if (callback != NULL) {
        call_back(dispatch, packet, callback);
        Py_DECREF(callback);
        dispatch->packets += 1;
    }
    else if (packet != NULL) {
        lnfq_packet_blank(packet);
        dispatch->blank = packet;
    }
    return callback != NULL || !dispatch->stopped;
}

static void
take_answer(struct dispatch *dispatch, const struct lnfq_answer *answer)
{
    lnfq_lock_acquire(dispatch->handle);
    lnfq_exchange_answer(dispatch->handle, answer, true);
    lnfq_lock_release(dispatch->handle);
}

/* Dispatches the message at the start of some bytes. Returns its size; 0 if it is malformed, or if
 * the dispatch stopped before it. */
static size_t
dispatch_message(struct dispatch *dispatch, const unsigned char *bytes, size_t length,
                 const struct source *source)
{
    lnfq_packet *packet = take_blank(dispatch, source, bytes);
    struct lnfq_index spare;
    struct lnfq_index *index = packet != NULL ? &packet->index : &spare;
    struct lnfq_message message;
    const char *wrong = lnfq_message_read(bytes, length, &message, index);

    if (wrong == NULL && message.kind == LNFQ_MESSAGE_PACKET) {
        const struct piece piece = {bytes, message.size};
        bool last = dispatch->last && message.size == length;

        return dispatch_packet(dispatch, packet, index, source, &piece, last) ? message.size : 0;
    }
    if (packet != NULL) {
        lnfq_packet_blank(packet);
        dispatch->blank = packet;
    }
    if (wrong != NULL) {
        PyErr_Format(dispatch->handle->state->malformed_error, "%s: %s", dispatch->call, wrong);
        dispatch_fail(dispatch, (PyObject *)dispatch->handle);
        return 0;
    }
    if (message.kind == LNFQ_MESSAGE_ANSWER) {
        take_answer(dispatch, &message.answer);
    }
    return message.size;
}

/* Without memory to set them aside: packets get the default, answers are taken. */
static void
default_bytes(struct dispatch *dispatch, const unsigned char *bytes, size_t length,
              const struct source *source)
{
    struct lnfq_message message;
    struct lnfq_index index;

    while (length > 0 && lnfq_message_read(bytes, length, &message, &index) == NULL) {
        if (message.kind == LNFQ_MESSAGE_PACKET) {
            const struct piece piece = {bytes, message.size};

            (void)claim(dispatch, NULL, &index, source, &piece, false);
        }
        else if (message.kind == LNFQ_MESSAGE_ANSWER) {
            take_answer(dispatch, &message.answer);
        }
        bytes += message.size;
        length -= message.size;
    }
}

/* Sets messages aside that nobody is to be called back for now. */
static void
set_aside(struct dispatch *dispatch, const unsigned char *bytes, size_t length,
          const struct source *source, struct lnfq_backlog *rest)
{
    struct lnfq_aside *aside = lnfq_backlog_aside(bytes, length, source->epoch, source->foreign);

    if (aside != NULL) {
        lnfq_backlog_append(rest, aside);
    }
    else {
        default_bytes(dispatch, bytes, length, source);
    }
}

/* Dispatches the messages in some bytes, up to the first that is malformed; once the dispatch has
 * stopped, `rest` gets them. */
static void
dispatch_bytes(struct dispatch *dispatch, const unsigned char *bytes, size_t length,
               const struct source *source, struct lnfq_backlog *rest)
{
    while (!dispatch->stopped) {
        size_t size = dispatch_message(dispatch, bytes, length, source);

        bytes += size;
        length -= size;
        if (length == 0 || (size == 0 && !dispatch->stopped)) {
            return;
        }
    }
    set_aside(dispatch, bytes, length, source, rest);
}

/* Puts the messages that the dispatch has not reached in front of those that were set aside
 * meanwhile. The descriptor becomes readable for them. */
static void
dispatch_leave(struct dispatch *dispatch, struct lnfq_backlog *rest)
{
    lnfq_handle *handle = dispatch->handle;

    if (!dispatch->stopped) {
        return;
    }
    lnfq_lock_acquire(handle);
    lnfq_backlog_prepend(&handle->backlog, rest);
    handle->marker_wanted |= lnfq_backlog_count(&handle->backlog) > 0;
    lnfq_lock_release(handle);
}

/* Takes the first message that was set aside off the list; NULL if there is none. */
static struct lnfq_aside *
pop_aside(lnfq_handle *handle)
{
    struct lnfq_aside *aside;

    lnfq_lock_acquire(handle);
    aside = lnfq_backlog_pop(&handle->backlog);
    lnfq_lock_release(handle);
    return aside;
}

/* Dispatches one message that was set aside; false if there was none, or no memory. */
static bool
dispatch_aside(struct dispatch *dispatch, struct lnfq_backlog *rest)
{
    struct lnfq_aside *aside = pop_aside(dispatch->handle);
    struct source source;

    if (aside == NULL) {
        return false;
    }
    source = (struct source){.epoch = aside->epoch, .foreign = aside->foreign};
    source.slot = lnfq_slot_new(dispatch->handle->state, aside->length);
    if (source.slot == NULL) {
        lnfq_backlog_append(rest, aside);
        dispatch_fail(dispatch, (PyObject *)dispatch->handle);
        dispatch->stopped = true;
        return false;
    }
    memcpy(source.slot->bytes, aside->bytes, aside->length);
    free(aside);
    dispatch_bytes(dispatch, source.slot->bytes, (size_t)Py_SIZE(source.slot), &source, rest);
    Py_DECREF(source.slot);
    return true;
}

/* Dispatches up to `most` packets, in at most `count` messages. That is how many there were at the
 * start: callbacks that configure set more aside. */
static void
dispatch_asides(struct dispatch *dispatch, Py_ssize_t count, Py_ssize_t most,
                struct lnfq_backlog *rest)
{
    while (count > 0 && dispatch->packets < most && !dispatch->stopped
           && dispatch_aside(dispatch, rest)) {
        count -= 1;
    }
}

Py_ssize_t
lnfq_dispatch_backlog(lnfq_handle *handle, Py_ssize_t most)
{
    struct lnfq_backlog rest;
    struct dispatch dispatch;
    unsigned int hand;
    Py_ssize_t count;

    if (lnfq_backlog_count(&handle->backlog) == 0) {
        return 0;
    }
    lnfq_lock_acquire(handle);
    count = (Py_ssize_t)lnfq_backlog_count(&handle->backlog);
    hand = lnfq_hands_begin(&handle->hands);
    lnfq_lock_release(handle);
    lnfq_backlog_init(&rest);
    dispatch = dispatch_begin(handle, "process()");
    dispatch_asides(&dispatch, count, most, &rest);
    dispatch_leave(&dispatch, &rest);
    lnfq_hands_end(&handle->hands, hand); /* the rest is where others see it */
    return dispatch_end(&dispatch);
}

Py_ssize_t
lnfq_dispatch_batch(lnfq_handle *handle, const lnfq_batch *batch)
{
    struct dispatch dispatch = dispatch_begin(handle, "process()");
    struct lnfq_backlog rest;

    lnfq_backlog_init(&rest);
    for (unsigned int i = 0; i < batch->count; i++) {
        struct source source = {.slot = batch->slots[i], .epoch = batch->epoch};
        size_t length = lnfq_inlets_length(batch->inlets, i);

        dispatch.last = i == batch->count - 1;
        if (length > 0) {
            dispatch_bytes(&dispatch, source.slot->bytes, length, &source, &rest);
        }
    }
    dispatch_leave(&dispatch, &rest);
    return dispatch_end(&dispatch);
}

Py_ssize_t
lnfq_dispatch_buffer(lnfq_handle *handle, PyObject *buffer)
{
    lnfq_slot *slot = lnfq_slot_borrow(handle->state, &handle->spare_slot, buffer);
    struct source source = {.slot = slot, .foreign = true};
    struct lnfq_backlog rest;
    struct dispatch dispatch;
    unsigned int hand = 0;
    Py_ssize_t aside;
    bool closed;

    if (slot == NULL) {
        return -1;
    }
    lnfq_reader_begin(handle);
    lnfq_lock_acquire(handle);
    closed = handle->closed;
    handle->foreign = true;
    source.epoch = handle->epoch;
    aside = (Py_ssize_t)lnfq_backlog_count(&handle->backlog);
    if (!closed) {
        hand = lnfq_hands_begin(&handle->hands);
    }
    lnfq_lock_release(handle);
    if (closed) {
        lnfq_reader_end(handle);
        Py_DECREF(slot);
        return lnfq_handle_raise_closed(handle, "handle_packet()");
    }
    lnfq_backlog_init(&rest);
    dispatch = dispatch_begin(handle, "handle_packet()");
    dispatch_asides(&dispatch, aside, PY_SSIZE_T_MAX, &rest);
    dispatch.last = true;
    dispatch_bytes(&dispatch, slot->bytes, (size_t)slot->borrowed->len, &source, &rest);
    lnfq_slot_give_back(&handle->spare_slot, slot);
    dispatch_leave(&dispatch, &rest);
    lnfq_hands_end(&handle->hands, hand); /* the rest is where others see it */
    lnfq_reader_end(handle);
    aside = dispatch_end(&dispatch);
    lnfq_takeover_go_on(handle);
    return aside;
}
