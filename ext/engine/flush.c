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

/* With the lock: whether all that is to be sent is one packet's verdict, to the kernel. That takes
 * about a microsecond. If the GIL were given up for it, a thread that computes would keep that for
 * five thousand. */
static bool
sends_lone(const lnfq_handle *handle)
{
    return handle->kernel && lnfq_outbox_is_lone(&handle->outbox) && !handle->marker_wanted
           && atomic_load(&handle->debts) == NULL;
}

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
    thread = sends_lone(handle) ? NULL : PyEval_SaveThread();
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

/* Perhaps nobody has heard that a verdict is held: a signal handler may have raised before the
 * listener did anything. So it does not stay held. An exception that leaves goes first. */
static int
send_untold(lnfq_handle *handle, const char *call, bool leaves)
{
    PyObject *raised = leaves ? lnfq_error_take() : NULL;
    int sent = lnfq_flush_now(handle, call);

    if (raised == NULL) {
        return sent;
    }
    if (sent < 0) {
        PyErr_WriteUnraisable((PyObject *)handle);
    }
    lnfq_error_restore(raised);
    return -1;
}

int
lnfq_flush_or_hold(lnfq_handle *handle, const char *call)
{
    PyObject *listener = NULL;
    bool hold;
    int failed;

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
    failed = lnfq_listener_call(listener);
    return failed != 0 ? send_untold(handle, call, failed < 0) : 0;
}
