/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reporting refused verdicts to on_verdict_error; see report.h.
 */
#include "report.h"

#include <linux/netfilter/nfnetlink_queue.h>
#include <stdlib.h>

#include "error.h"
#include "handle.h"
#include "lock.h"
#include "message.h"
#include "refusal.h"
#include "remedy.h"

/* The arguments of the listener; NULL with an exception. */
static PyObject *
make_arguments(const struct lnfq_answer *answer)
{
    const char *kind = answer->type == LNFQ_MESSAGE_TYPE(NFQNL_MSG_VERDICT_BATCH)
                           ? "batch verdict up to"
                           : "verdict on";
    PyObject *error;

    if (!answer->named) {
        error = lnfq_error_new(answer->error, lnfq_remedy_refusal(answer->error), "%s packet %u",
                               kind, answer->seq);
        return error ? Py_BuildValue("(OIN)", Py_None, answer->seq, error) : NULL;
    }
    error = lnfq_error_new(answer->error, lnfq_remedy_refusal(answer->error),
                           "%s packet %u of queue %u", kind, answer->id, answer->queue);
    return error ? Py_BuildValue("(HIN)", answer->queue, answer->id, error) : NULL;
}

/* The listener, a new reference; NULL where there is none, and in a child of fork: the parent
 * tells. */
static PyObject *
get_listener(lnfq_handle *handle)
{
    PyObject *listener;

    if (lnfq_handle_forked(handle)) {
        return NULL;
    }
    lnfq_lock_acquire(handle);
    listener = Py_XNewRef(handle->on_verdict_error);
    lnfq_lock_release(handle);
    return listener;
}

/* 0, or -1 with an exception that leaves. */
static int
tell(lnfq_handle *handle, const struct lnfq_answer *answer)
{
    PyObject *listener = get_listener(handle);
    PyObject *arguments, *result;
    int told = 0;

    if (listener == NULL) {
        return 0;
    }
    arguments = make_arguments(answer);
    result = arguments ? PyObject_Call(listener, arguments, NULL) : NULL;
    if (result == NULL) {
        told = lnfq_error_tell(listener);
    }
    Py_XDECREF(result);
    Py_XDECREF(arguments);
    Py_DECREF(listener);
    return told;
}

int
lnfq_report_refusals(lnfq_handle *handle)
{
    struct lnfq_refusal *refusal =
        atomic_load(&handle->refusals) != NULL ? lnfq_refusal_take(handle) : NULL;
    int told = 0;

    while (told == 0 && refusal != NULL) {
        struct lnfq_refusal *next = refusal->next;

        told = tell(handle, &refusal->answer);
        free(refusal);
        refusal = next;
    }
    if (refusal != NULL) {
        lnfq_refusal_put_back(handle, refusal);
    }
    return told;
}
