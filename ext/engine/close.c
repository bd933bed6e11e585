/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Closing a handle; see close.h.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "close.h"

#include "binding.h"
#include "descriptors.h"
#include "error.h"
#include "handle.h"
#include "listener.h"
#include "lock.h"
#include "post.h"
#include "queue.h"
#include "reference.h"
#include "report.h"

/* A bound queue, a new reference; NULL once there is none, and then the handle is marked closed. */
static lnfq_queue *
next_queue_or_closed(lnfq_handle *handle)
{
    lnfq_queue *queue = NULL;

    lnfq_lock_acquire(handle);
    if (handle->queue_count > 0) {
        queue = (lnfq_queue *)Py_NewRef((PyObject *)handle->queues[handle->queue_count - 1]);
    }
    else if (!handle->closed) {
        (void)lnfq_post_send(handle);
        handle->closed = true;
        lnfq_descriptors_wake(handle); /* whoever waits closes the descriptors */
        lnfq_lock_close_unused(handle);
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
        lnfq_binding_abandon(handle->queues[handle->queue_count - 1]);
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

int
lnfq_close_handle(lnfq_handle *handle)
{
    PyObject *error = NULL;
    lnfq_queue *queue;

    if (lnfq_handle_forked(handle)) {
        close_forked(handle);
    }
    else {
        if (lnfq_listener_call(lnfq_listener_take(handle, &handle->on_close)) < 0) {
            (void)lnfq_error_collect(&error, (PyObject *)handle);
        }
        leave_stranger(handle);
        while ((queue = next_queue_or_closed(handle)) != NULL) {
            /* If the kernel refuses, closing the descriptor unbinds the queue all the same. */
            (void)lnfq_binding_destroy(queue);
            Py_DECREF(queue);
        }
        if (lnfq_report_refusals(handle) < 0) {
            (void)lnfq_error_collect(&error, (PyObject *)handle);
        }
    }
    Py_XDECREF(lnfq_listener_take(handle, &handle->on_held));
    Py_XDECREF(lnfq_listener_take(handle, &handle->on_verdict_error));
    if (error != NULL) {
        lnfq_error_restore(error);
        return -1;
    }
    return 0;
}
