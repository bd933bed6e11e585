/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Closing a handle; see close.h.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "close.h"

#include <errno.h>
#include <unistd.h>

#include "descriptors.h"
#include "error.h"
#include "flush.h"
#include "fork.h"
#include "handle.h"
#include "listener.h"
#include "lock.h"
#include "post.h"
#include "queue.h"
#include "reader.h"
#include "reference.h"
#include "remedy.h"
#include "report.h"
#include "unbinding.h"

/* With the lock: a queue that is bound, a new reference; NULL if there is none. */
static lnfq_queue *
last_queue(lnfq_handle *handle)
{
    if (handle->queue_count == 0) {
        return NULL;
    }
    return (lnfq_queue *)Py_NewRef((PyObject *)handle->queues[handle->queue_count - 1]);
}

/* With the lock: marks the handle closed. Whoever waits closes the descriptors. */
static void
mark_closed(lnfq_handle *handle)
{
    handle->closed = true;
    lnfq_descriptors_wake(handle);
    lnfq_lock_close_unused(handle);
}

/* A bound queue, a new reference; NULL once there is none, and then the handle is marked closed. */
static lnfq_queue *
next_queue_or_closed(lnfq_handle *handle)
{
    lnfq_queue *queue;

    lnfq_lock_acquire(handle);
    queue = last_queue(handle);
    if (queue == NULL && !handle->closed) {
        (void)lnfq_post_send(handle);
        mark_closed(handle);
    }
    lnfq_lock_release(handle);
    return queue;
}

/* In a child of fork the lock may be taken for ever, the queues are the parent's, and the
 * descriptors are closed already. */
static void
close_forked(lnfq_handle *handle)
{
    Py_BEGIN_CRITICAL_SECTION(handle);
    while (handle->queue_count > 0) {
        lnfq_unbinding_abandon(handle->queues[handle->queue_count - 1]);
    }
    Py_END_CRITICAL_SECTION();
    Py_XDECREF(lnfq_listener_take(handle, &handle->on_close)); /* the parent's, which calls it */
}

/* Nothing is sent to a stranger: the queues went with the descriptor that was closed. */
static void
leave_stranger(lnfq_handle *handle)
{
    lnfq_lock_acquire(handle);
    lnfq_descriptors_leave_stranger(handle);
    lnfq_lock_release(handle);
}

static void
let_listeners_go(lnfq_handle *handle)
{
    Py_XDECREF(lnfq_listener_take(handle, &handle->on_held));
    Py_XDECREF(lnfq_listener_take(handle, &handle->on_unsent));
    Py_XDECREF(lnfq_listener_take(handle, &handle->on_verdict_error));
    Py_XDECREF(lnfq_listener_take(handle, &handle->keeper.on_unbind));
}

/* Calls a listener; an exception that leaves is kept. */
static void
call_listener(lnfq_handle *handle, PyObject **listener, PyObject **error)
{
    if (lnfq_listener_call(lnfq_listener_take(handle, listener)) < 0) {
        (void)lnfq_error_collect(error, (PyObject *)handle);
    }
}

/* Destroys the queues, or lets them go as they are, and marks the handle closed. A destructor may
 * fork meanwhile. */
static void
end_queues(lnfq_handle *handle, bool leave)
{
    lnfq_queue *queue;

    while (!lnfq_handle_forked(handle) && (queue = next_queue_or_closed(handle)) != NULL) {
        if (leave) {
            lnfq_unbinding_leave(queue);
        }
        else { /* if the kernel refuses, closing the descriptor unbinds it all the same */
            (void)lnfq_unbinding_destroy(queue);
        }
        Py_DECREF(queue);
    }
}

/* In the process that has opened it. */
static void
close_here(lnfq_handle *handle, bool unbind, PyObject **error)
{
    leave_stranger(handle);
    lnfq_reader_expel(handle);
    end_queues(handle, !unbind && handle->keeper.state != LNFQ_KEPT_NO);
    lnfq_reader_admit(handle);
    if (lnfq_report_refusals(handle) < 0) {
        (void)lnfq_error_collect(error, (PyObject *)handle);
    }
    if (unbind && !lnfq_handle_forked(handle)) {
        call_listener(handle, &handle->keeper.on_unbind, error);
    }
}

int
lnfq_close_handle(lnfq_handle *handle, bool unbind)
{
    PyObject *error = NULL;

    if (!lnfq_handle_forked(handle)) {
        call_listener(handle, &handle->on_close, &error);
    }
    if (!lnfq_handle_forked(handle)) { /* the listener has not forked, or this is the parent */
        close_here(handle, unbind, &error);
    }
    if (lnfq_handle_forked(handle)) {
        close_forked(handle);
    }
    let_listeners_go(handle);
    if (error != NULL) {
        lnfq_error_restore(error);
        return -1;
    }
    return 0;
}

/* Lets a queue go as it is, if one is bound. */
static void
leave_queue(lnfq_handle *handle)
{
    lnfq_queue *queue;

    lnfq_lock_acquire(handle);
    queue = last_queue(handle);
    lnfq_lock_release(handle);
    if (queue != NULL) {
        lnfq_unbinding_leave(queue);
        Py_DECREF(queue);
    }
}

/* With readers expelled, once no queue is bound: marks the handle closed, when what they have
 * recorded is sent, and takes the descriptor, which is -1 if it is a stranger's. Returns 0, EAGAIN
 * if a queue is bound, or EBADF if another thread has closed the handle. */
static int
take_descriptor(lnfq_handle *handle, int *fd)
{
    PyThreadState *thread = lnfq_lock_enter(handle);
    int error = handle->queue_count > 0 ? EAGAIN : handle->closed ? EBADF : 0;

    if (error == 0) {
        (void)lnfq_post_send(handle);
        lnfq_reader_lift_limit(handle);
        lnfq_fork_hold_off();
        *fd = lnfq_descriptors_give(handle);
        lnfq_fork_allow();
        mark_closed(handle);
    }
    lnfq_lock_leave(handle, thread);
    return error;
}

int
lnfq_close_detach(lnfq_handle *handle)
{
    int fd = -1;
    int error = 0;

    if (lnfq_handle_check(handle, "detach()") < 0 || lnfq_flush_now(handle, "detach()") < 0
        || lnfq_report_refusals(handle) < 0) {
        return -1;
    }
    lnfq_reader_expel(handle);
    while (!lnfq_handle_forked(handle) && (error = take_descriptor(handle, &fd)) == EAGAIN) {
        leave_queue(handle);
    }
    lnfq_reader_admit(handle);
    if (lnfq_handle_check_forked(handle, "detach()") < 0) { /* a destructor has forked */
        return -1;
    }
    if (error != 0) {
        return lnfq_handle_raise_closed(handle, "detach()");
    }
    /* Only now: streams let go of their packets, which are the next process's. */
    if (lnfq_listener_call(lnfq_listener_take(handle, &handle->on_close)) < 0) {
        PyErr_WriteUnraisable((PyObject *)handle); /* nobody else closes the descriptor */
    }
    let_listeners_go(handle);
    if (lnfq_handle_check_forked(handle, "detach()") < 0) {
        (void)close(fd); /* the listener has forked: it is the parent's */
        return -1;
    }
    if (fd < 0) {
        lnfq_error_raise(EBADF, lnfq_remedy_descriptor(EBADF), "detach()");
    }
    return fd;
}
