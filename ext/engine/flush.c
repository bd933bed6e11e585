/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sending what the outbox holds; see flush.h.
 */
#include "flush.h"

#include "error.h"
#include "exchange.h"
#include "handle.h"
#include "listener.h"
#include "lock.h"
#include "post.h"
#include "remedy.h"
#include "report.h"

int
lnfq_flush_now(lnfq_handle *handle, const char *call)
{
    PyThreadState *thread;
    bool replaced;
    int error;

    if (lnfq_handle_check_forked(handle, call) < 0) {
        return -1;
    }
    lnfq_lock_acquire(handle);
    if (handle->outbox.used == 0 && !handle->marker_wanted && atomic_load(&handle->debts) == NULL) {
        lnfq_lock_release(handle);
        return 0;
    }
    thread = PyEval_SaveThread();
    if (atomic_load(&handle->debts) != NULL) {
        lnfq_lock_settle(handle); /* so that its failure is ours */
    }
    error = lnfq_post_send(handle);
    if (handle->marker_wanted && !handle->closed) {
        (void)lnfq_exchange_mark(handle);
    }
    replaced = handle->replaced;
    handle->replaced = false;
    lnfq_lock_leave(handle, thread);
    if (error != 0) {
        if (lnfq_listener_call_unsent(handle) < 0) {
            return -1;
        }
        lnfq_error_raise(error, lnfq_remedy_descriptor(error), "%s: sending verdicts", call);
        return -1;
    }
    return replaced ? lnfq_report_refusals(handle) : 0;
}

int
lnfq_flush_or_hold(lnfq_handle *handle, const char *call)
{
    PyObject *listener = NULL;
    bool hold;

    lnfq_lock_acquire(handle);
    hold = !handle->autoflush && !lnfq_post_overdue(handle);
    if (hold && !handle->held && handle->outbox.used > 0) { /* another may have sent it already */
        handle->held = true;
        listener = Py_XNewRef(handle->on_held);
    }
    lnfq_lock_release(handle);
    if (!hold) {
        return lnfq_flush_now(handle, call);
    }
    return lnfq_listener_call(listener);
}
