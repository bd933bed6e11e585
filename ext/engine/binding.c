/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Binding a queue number, and configuring it; see binding.h.
 */
#include "binding.h"

#include <netinet/in.h> /* before the kernel's, which then leaves it its names */

#include <errno.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "bound.h"
#include "config.h"
#include "error.h"
#include "exchange.h"
#include "explain.h"
#include "fence.h"
#include "handle.h"
#include "lock.h"
#include "queue.h"
#include "rcvbuf.h"
#include "reader.h"
#include "remedy.h"
#include "table.h"
#include "takeover.h"
#include "unbinding.h"
#include "unclaimed.h"

/* ---- binding; all with the lock ---- */

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

/* A queue that may be mistaken for its predecessor is bound without room first. */
static int
bind_queue(lnfq_queue *queue, const struct lnfq_config *config, bool *bound)
{
    const bool later = queue->silent && config->has_mode && config->mode != NFQNL_COPY_NONE;
    int error = later ? lnfq_fence_bind(queue, config)
                      : lnfq_exchange_request(queue->handle, queue->number, config, NULL, 0);

    *bound = error == 0;
    if (*bound) {
        leave_older(queue);
    }
    return error == 0 && later ? lnfq_fence_open(queue, config) : error;
}

/* Removes what a failed binding may have left in the kernel, whether an answer comes or not. */
static void
undo_bind(lnfq_queue *queue)
{
    const struct lnfq_config unbind = {.command = NFQNL_CFG_CMD_UNBIND};
    lnfq_handle *handle = queue->handle;
    struct lnfq_history *history = &handle->history[queue->number];

    lnfq_exchange_tell(handle, queue->number, &unbind);
    *history = (struct lnfq_history){.left = true, .bound = history->bound};
    handle->epoch += 1;
}

/* Whether no answer has said what became of a request. */
static bool
is_unanswered(int error)
{
    return error == ETIMEDOUT || error == ENOBUFS;
}

/* Binds the number or takes it over. Returns 0 or an errno; then `left` says whether the kernel
 * has, or may have, a queue of the number that is not to be unbound: it may be another process's.
 */
static int
bind_or_take_over(lnfq_queue *queue, const struct lnfq_config *config, bool *left)
{
    lnfq_handle *handle = queue->handle;
    const bool was_free = handle->adopted && lnfq_table_is_free(queue);
    bool bound;
    int error;

    handle->shared |= queue->shared;
    error = bind_queue(queue, config, &bound);
    *left = false;
    if (error == EBUSY && handle->adopted) {
        error = lnfq_takeover_queue(queue, config);
        handle->history[queue->number].bound |= error == 0;
        *left = error != 0;
    }
    else if (error != 0 && error != EPERM && error != EBUSY) {
        if (bound || !handle->adopted || (was_free && is_unanswered(error))) {
            undo_bind(queue);
        }
        else {
            *left = is_unanswered(error);
        }
    }
    return error;
}

static int
bind_or_explain(lnfq_queue *queue, const struct lnfq_config *config, char remedy[LNFQ_REMEDY_SIZE],
                bool *left)
{
    int error = bind_or_take_over(queue, config, left);

    if (error != 0) {
        lnfq_explain_config(queue->handle, error, queue->number, config, remedy);
    }
    if (*left && is_unanswered(error)) {
        size_t length = strlen(remedy);

        snprintf(remedy + length, LNFQ_REMEDY_SIZE - length, "; %s", LNFQ_REMEDY_LEFT);
    }
    return error;
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
 * an errno, with what can be done about it; EAGAIN while the number is being unbound. */
static int
enlist(lnfq_queue *queue, char remedy[LNFQ_REMEDY_SIZE])
{
    lnfq_handle *handle = queue->handle;
    struct lnfq_history history;
    int error = handle->closed ? EBADF : lnfq_bound_reserve(handle);

    remedy[0] = '\0';
    if (error != 0) {
        return error;
    }
    if (lnfq_bound_find(handle, queue->number) != NULL) {
        snprintf(remedy, LNFQ_REMEDY_SIZE, "%s", LNFQ_REMEDY_LISTED);
        return EBUSY;
    }
    error = lnfq_bound_insert(handle, queue);
    if (error != 0) {
        snprintf(remedy, LNFQ_REMEDY_SIZE, "%s", lnfq_remedy_config(error, false));
        return error;
    }
    Py_INCREF(queue);
    history = handle->history[queue->number];
    queue->born = handle->epoch;
    /* Others may have bound and unbound a number that is new here. */
    queue->successor = history.left || (handle->adopted && handle->kernel && !history.bound);
    queue->received = history.received;
    queue->silent = queue->successor && handle->kernel;
    queue->bound = true;
    return 0;
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

/* With the lock and the GIL, both of which it gives up meanwhile: lets other threads unbind. The
 * kernel answers that at once; only a peer that is none takes its time. */
static void
await_unbound(lnfq_handle *handle)
{
    PyThreadState *thread;

    lnfq_lock_release(handle);
    thread = PyEval_SaveThread();
    (void)poll(NULL, 0, UNBOUND_SLICE_MS);
    PyEval_RestoreThread(thread);
    lnfq_lock_acquire(handle);
}

/* Lists and binds in one go; 0 or an errno, with what can be done about it. */
static int
enlist_and_bind(lnfq_queue *queue, const struct lnfq_queue_options *options,
                char remedy[LNFQ_REMEDY_SIZE])
{
    lnfq_handle *handle = queue->handle;
    bool left = false;
    int error;

    lnfq_lock_acquire(handle);
    while ((error = enlist(queue, remedy)) == EAGAIN) {
        await_unbound(handle);
    }
    if (error != 0) {
        lnfq_lock_release(handle);
    }
    else {
        PyThreadState *thread = PyEval_SaveThread();

        error = make_room(queue, options->rcvbuf);
        if (error != 0) {
            snprintf(remedy, LNFQ_REMEDY_SIZE, "%s", lnfq_remedy_descriptor(error));
        }
        else {
            error = bind_or_explain(queue, &options->config, remedy, &left);
        }
        lnfq_lock_leave(handle, thread);
        if (error != 0) {
            (left ? lnfq_unbinding_leave : lnfq_unbinding_discard)(queue);
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
    lnfq_reader_expel(handle);
    error = enlist_and_bind(queue, options, remedy);
    lnfq_reader_admit(handle);
    if (error == 0) {
        return (PyObject *)queue;
    }
    Py_DECREF(queue);
    if (error != EBADF || lnfq_handle_check(handle, "create_queue()") == 0) {
        lnfq_error_raise(error, remedy, "create_queue(%u)", number);
    }
    return NULL;
}

int
lnfq_binding_configure(lnfq_queue *queue, const struct lnfq_config *config)
{
    int error;

    if (queue->silent && config->has_mode && config->mode != NFQNL_COPY_NONE) {
        return lnfq_fence_configure(queue, config);
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
