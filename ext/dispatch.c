/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From received messages to callbacks to verdicts.
 *
 * A dispatch calls the callbacks of the packets in some messages, one after the other, and sends
 * their verdicts together when it is over, or earlier when callbacks are slow. Several may run at
 * once, in threads, in greenlets, or one within another's callback: what they share is in the
 * handle and in the packets, under the handle's lock, which nobody holds while a callback runs.
 */
#include "nfq.h"

#include <errno.h>
#include <stdlib.h>

/* How long a verdict may wait for others to travel with. */
#define VERDICT_DELAY_NS 1000000

/* One dispatch. It lives on the stack, and nothing points at it while Python code runs. */
struct dispatch {
    lnfq_handle *handle;
    const char *call; /* for errors */
    PyObject *error;  /* the first exception; strong */
    Py_ssize_t packets;
    int64_t now;    /* when the last callback returned */
    int64_t oldest; /* when the callback of the oldest verdict not sent began; 0: there is none */
    bool slow;      /* a callback took longer than verdicts may wait */
};

/* Where messages stand, and how they came. */
struct source {
    lnfq_slot *slot;
    uint64_t epoch;
    bool foreign; /* received by a loop of the user's own */
};

static struct dispatch
dispatch_begin(lnfq_handle *handle, const char *call)
{
    return (struct dispatch){.handle = handle, .call = call, .now = lnfq_now()};
}

/* Sends what is left; returns the number of packets, or -1 with the first exception. */
static Py_ssize_t
dispatch_end(struct dispatch *dispatch)
{
    if (lnfq_handle_flush(dispatch->handle, dispatch->call) < 0) {
        lnfq_error_collect(&dispatch->error, (PyObject *)dispatch->handle);
    }
    if (dispatch->error != NULL) {
        lnfq_error_restore(dispatch->error);
        return -1;
    }
    return dispatch->packets;
}

/* Sends verdicts that have waited long enough. No C code runs while a callback does. */
static void
dispatch_pace(struct dispatch *dispatch)
{
    int64_t began = dispatch->now;

    dispatch->now = lnfq_now();
    if (dispatch->oldest == 0) {
        dispatch->oldest = began;
    }
    dispatch->slow |= dispatch->now - began > VERDICT_DELAY_NS;
    if (dispatch->slow || dispatch->now - dispatch->oldest > VERDICT_DELAY_NS) {
        dispatch->oldest = 0;
        if (lnfq_handle_flush(dispatch->handle, dispatch->call) < 0) {
            lnfq_error_collect(&dispatch->error, (PyObject *)dispatch->handle);
        }
    }
}

/* The queue that a packet belongs to, a new reference; NULL if that is gone. */
static lnfq_queue *
claim(struct dispatch *dispatch, const struct lnfq_index *index, const struct source *source)
{
    lnfq_handle *handle = dispatch->handle;
    lnfq_queue *queue;

    if (lnfq_handle_forked(handle)) {
        return NULL; /* a callback has forked, and this is the child: dispatch_end says so */
    }
    lnfq_handle_lock(handle);
    queue = lnfq_handle_find(handle, index->queue);
    if (queue != NULL && lnfq_queue_owns(queue, index->id, source->epoch, source->foreign)) {
        Py_INCREF(queue);
    }
    else {
        queue = NULL;
        handle->stats.orphaned += 1;
    }
    lnfq_handle_unlock(handle);
    return queue;
}

/* A packet that no object could be made for gets the default all the same. */
static void
default_by_id(lnfq_queue *queue, uint32_t id)
{
    const struct lnfq_verdict verdict = {.verdict = atomic_load(&queue->default_verdict)};

    lnfq_handle_lock(queue->handle);
    if (queue->bound && lnfq_handle_post(queue->handle, queue->number, id, &verdict) == 0) {
        queue->handle->stats.defaulted += 1;
    }
    lnfq_handle_unlock(queue->handle);
}

/* Settles a packet whose callback is over; `raised` says how. True if it lives on without a verdict
 * or with one. */
static bool
settle(struct dispatch *dispatch, lnfq_packet *packet, bool raised)
{
    bool referenced = Py_REFCNT(packet) > 1;
    int error = 0;

    lnfq_handle_lock(dispatch->handle);
    lnfq_packet_deactivate(packet);
    if (packet->queue->bound && packet->state == LNFQ_PACKET_ACTIVE) {
        if (packet->recorded) {
            error = lnfq_packet_execute(packet);
        }
        else if (raised || !referenced) {
            error = lnfq_packet_default(packet);
        }
    }
    if (packet->state == LNFQ_PACKET_ACTIVE) {
        packet->state = LNFQ_PACKET_KEPT;
    }
    lnfq_handle_unlock(dispatch->handle);
    if (error != 0) {
        PyErr_NoMemory();
        lnfq_error_collect(&dispatch->error, (PyObject *)packet->queue);
    }
    return referenced;
}

/* Gives a packet that is kept bytes of its own; without memory for them, the default. */
static void
keep(struct dispatch *dispatch, lnfq_packet *packet)
{
    if (lnfq_packet_keep(packet) == 0) {
        return;
    }
    lnfq_error_collect(&dispatch->error, (PyObject *)packet->queue);
    lnfq_handle_lock(dispatch->handle);
    if (packet->queue->bound && packet->state == LNFQ_PACKET_KEPT) {
        (void)lnfq_packet_default(packet);
    }
    lnfq_handle_unlock(dispatch->handle);
}

static void
call_back(struct dispatch *dispatch, lnfq_packet *packet, PyObject *callback)
{
    PyObject *arguments[2] = {NULL, (PyObject *)packet};
    PyObject *result;

    result = PyObject_Vectorcall(callback, arguments + 1, 1 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    if (result == NULL) {
        lnfq_error_collect(&dispatch->error, callback);
    }
    if (settle(dispatch, packet, result == NULL)) {
        keep(dispatch, packet);
    }
    Py_XDECREF(result);
}

/* Puts the packet on its queue's list; returns the callback, a new reference, or NULL if the queue
 * is gone. */
static PyObject *
activate(struct dispatch *dispatch, lnfq_packet *packet)
{
    struct lnfq_stats *stats = &dispatch->handle->stats;
    PyObject *callback = NULL;

    lnfq_handle_lock(dispatch->handle);
    if (packet->queue->bound) {
        callback = Py_NewRef(packet->queue->callback);
        lnfq_packet_activate(packet);
        stats->packets += 1;
        stats->truncated += lnfq_index_truncated(&packet->index, packet->bytes);
    }
    else {
        stats->orphaned += 1;
    }
    lnfq_handle_unlock(dispatch->handle);
    return callback;
}

static void
dispatch_packet(struct dispatch *dispatch, const struct lnfq_index *index,
                const unsigned char *bytes, const struct source *source)
{
    lnfq_queue *queue = claim(dispatch, index, source);
    lnfq_packet *packet;
    PyObject *callback = NULL;

    if (queue == NULL) {
        return;
    }
    packet = lnfq_packet_new(queue, source->slot, bytes, index);
    if (packet == NULL) {
        lnfq_error_collect(&dispatch->error, (PyObject *)queue);
        default_by_id(queue, index->id);
    }
    else if ((callback = activate(dispatch, packet)) != NULL) {
        call_back(dispatch, packet, callback);
        dispatch->packets += 1;
        dispatch_pace(dispatch);
    }
    Py_XDECREF(callback);
    Py_XDECREF(packet);
    Py_DECREF(queue);
}

static void
take_answer(struct dispatch *dispatch, const struct lnfq_answer *answer)
{
    lnfq_handle_lock(dispatch->handle);
    lnfq_config_answer(dispatch->handle, answer, true);
    lnfq_handle_unlock(dispatch->handle);
}

/* Dispatches the messages in some bytes, up to the first that is malformed. */
static void
dispatch_bytes(struct dispatch *dispatch, const unsigned char *bytes, size_t length,
               const struct source *source)
{
    size_t at = 0;

    do {
        struct lnfq_message message;
        const char *wrong = lnfq_message_read(bytes + at, length - at, &message);

        if (wrong != NULL) {
            PyErr_Format(dispatch->handle->state->malformed_error, "%s (byte %zu of %zu)", wrong,
                         at, length);
            lnfq_error_collect(&dispatch->error, (PyObject *)dispatch->handle);
            return;
        }
        if (message.kind == LNFQ_MESSAGE_PACKET) {
            dispatch_packet(dispatch, &message.packet, bytes + at, source);
        }
        else if (message.kind == LNFQ_MESSAGE_ANSWER) {
            take_answer(dispatch, &message.answer);
        }
        at += message.size;
    } while (at < length);
}

/* Takes the first message that was set aside off the list; NULL if there is none. */
static struct lnfq_backlog *
backlog_pop(lnfq_handle *handle)
{
    struct lnfq_backlog *entry;

    lnfq_handle_lock(handle);
    entry = handle->backlog;
    if (entry != NULL) {
        handle->backlog = entry->next;
        handle->backlog_count -= 1;
        if (entry->next == NULL) {
            handle->backlog_end = &handle->backlog;
        }
    }
    lnfq_handle_unlock(handle);
    return entry;
}

static void
backlog_push_back(lnfq_handle *handle, struct lnfq_backlog *entry)
{
    lnfq_handle_lock(handle);
    entry->next = handle->backlog;
    handle->backlog = entry;
    handle->backlog_count += 1;
    if (entry->next == NULL) {
        handle->backlog_end = &entry->next;
    }
    lnfq_handle_unlock(handle);
}

/* Dispatches one message that was set aside; false if there was none, or no memory. */
static bool
dispatch_aside(struct dispatch *dispatch)
{
    struct lnfq_backlog *entry = backlog_pop(dispatch->handle);
    struct source source = {0};

    if (entry == NULL) {
        return false;
    }
    source.epoch = entry->epoch;
    source.slot = lnfq_slot_new(dispatch->handle->state, entry->length);
    if (source.slot == NULL) {
        backlog_push_back(dispatch->handle, entry);
        lnfq_error_collect(&dispatch->error, (PyObject *)dispatch->handle);
        return false;
    }
    memcpy(source.slot->bytes, entry->bytes, entry->length);
    free(entry);
    dispatch_bytes(dispatch, source.slot->bytes, (size_t)Py_SIZE(source.slot), &source);
    Py_DECREF(source.slot);
    return true;
}

Py_ssize_t
lnfq_dispatch_waiting(lnfq_handle *handle)
{
    Py_ssize_t count;

    lnfq_handle_lock(handle);
    count = handle->backlog_count;
    lnfq_handle_unlock(handle);
    return count;
}

/* Up to `most` packets, in no more messages than there were at the start: callbacks that configure
 * set more aside. */
static void
dispatch_asides(struct dispatch *dispatch, Py_ssize_t most)
{
    Py_ssize_t count = lnfq_dispatch_waiting(dispatch->handle);

    while (count > 0 && dispatch->packets < most && dispatch_aside(dispatch)) {
        count -= 1;
    }
}

Py_ssize_t
lnfq_dispatch_backlog(lnfq_handle *handle, Py_ssize_t most)
{
    struct dispatch dispatch;

    if (lnfq_dispatch_waiting(handle) == 0) {
        return 0;
    }
    dispatch = dispatch_begin(handle, "process()");
    dispatch_asides(&dispatch, most);
    return dispatch_end(&dispatch);
}

Py_ssize_t
lnfq_dispatch_batch(lnfq_handle *handle, const lnfq_batch *batch)
{
    struct dispatch dispatch = dispatch_begin(handle, "process()");

    for (unsigned int i = 0; i < batch->count; i++) {
        struct source source = {.slot = batch->slots[i], .epoch = batch->epoch};

        if (batch->inlets[i].length > 0) {
            dispatch_bytes(&dispatch, source.slot->bytes, batch->inlets[i].length, &source);
        }
    }
    return dispatch_end(&dispatch);
}

Py_ssize_t
lnfq_dispatch_buffer(lnfq_handle *handle, PyObject *buffer)
{
    struct source source = {.slot = lnfq_slot_borrow(handle->state, buffer), .foreign = true};
    struct dispatch dispatch;

    if (source.slot == NULL) {
        return -1;
    }
    lnfq_handle_lock(handle);
    source.epoch = handle->epoch;
    lnfq_handle_unlock(handle);
    dispatch = dispatch_begin(handle, "handle_packet()");
    dispatch_asides(&dispatch, PY_SSIZE_T_MAX);
    dispatch_bytes(&dispatch, source.slot->bytes, (size_t)source.slot->borrowed.len, &source);
    Py_DECREF(source.slot);
    return dispatch_end(&dispatch);
}
