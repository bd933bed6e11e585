/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Verdicts that the kernel refused, and on_verdict_error, which is told of them.
 *
 * The kernel reports a refusal later, on the descriptor. Whoever reads it may hold the lock, and so
 * can't call Python code: it is noted, and told when a dispatch ends or the handle is closed.
 */
#include "nfq.h"

#include <errno.h>
#include <stdlib.h>

static void
push(lnfq_handle *handle, struct lnfq_refusal *refusal)
{
    refusal->next = atomic_load(&handle->refusals);
    while (!atomic_compare_exchange_weak(&handle->refusals, &refusal->next, refusal)) {
    }
}

void
lnfq_refusal_add(lnfq_handle *handle, const struct lnfq_answer *answer)
{
    struct lnfq_refusal *refusal;

    handle->stats.verdict_errors += 1;
    if (handle->on_verdict_error == NULL) {
        return;
    }
    refusal = malloc(sizeof(*refusal));
    if (refusal == NULL) {
        return; /* it is counted all the same */
    }
    refusal->answer = *answer;
    push(handle, refusal);
}

/* All of them, oldest first; the caller frees them. */
static struct lnfq_refusal *
take_all(lnfq_handle *handle)
{
    struct lnfq_refusal *newest = atomic_exchange(&handle->refusals, NULL);
    struct lnfq_refusal *oldest = NULL;

    while (newest != NULL) {
        struct lnfq_refusal *next = newest->next;

        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    return oldest;
}

static const char *
explain(int error)
{
    switch (error) {
    case ENOENT:
        return "the kernel has no such packet any more";
    case EPERM:
        return "CAP_NET_ADMIN is needed in the network namespace; the packet waits, and so do all "
               "whose verdicts were sent with it";
    case ENODEV:
        return "the kernel has no such queue any more";
    case EMSGSIZE:
        return "its payload does not fit in the socket's send buffer (SO_SNDBUF); the packet has "
               "had its queue's default verdict";
    default:
        return "";
    }
}

/* The arguments of the hook; NULL with an exception. */
static PyObject *
make_arguments(const struct lnfq_answer *answer)
{
    const char *kind = answer->type == ((NFNL_SUBSYS_QUEUE << 8) | NFQNL_MSG_VERDICT_BATCH)
                           ? "batch verdict up to"
                           : "verdict on";
    PyObject *error;

    if (!answer->named) {
        error = lnfq_error_new(answer->error, explain(answer->error), "%s packet %u", kind,
                               answer->seq);
        return error ? Py_BuildValue("(OIN)", Py_None, answer->seq, error) : NULL;
    }
    error = lnfq_error_new(answer->error, explain(answer->error), "%s packet %u of queue %u", kind,
                           answer->id, answer->queue);
    return error ? Py_BuildValue("(HIN)", answer->queue, answer->id, error) : NULL;
}

/* The hook, a new reference; NULL where there is none, and in a child of fork: the parent tells. */
static PyObject *
get_hook(lnfq_handle *handle)
{
    PyObject *hook;

    if (lnfq_handle_forked(handle)) {
        return NULL;
    }
    lnfq_handle_lock(handle);
    hook = Py_XNewRef(handle->on_verdict_error);
    lnfq_handle_unlock(handle);
    return hook;
}

/* 0, or -1 with an exception that leaves. */
static int
tell(lnfq_handle *handle, const struct lnfq_answer *answer)
{
    PyObject *hook = get_hook(handle);
    PyObject *arguments, *result;
    int told = 0;

    if (hook == NULL) {
        return 0;
    }
    arguments = make_arguments(answer);
    result = arguments ? PyObject_Call(hook, arguments, NULL) : NULL;
    if (result == NULL) {
        told = lnfq_error_tell(hook);
    }
    Py_XDECREF(result);
    Py_XDECREF(arguments);
    Py_DECREF(hook);
    return told;
}

/* Those that were not told, oldest first, go back; what has been refused meanwhile is newer. */
static void
put_back(lnfq_handle *handle, struct lnfq_refusal *oldest)
{
    struct lnfq_refusal *newer = take_all(handle);
    struct lnfq_refusal **end = &oldest;

    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = newer;
    while (oldest != NULL) {
        struct lnfq_refusal *next = oldest->next;

        push(handle, oldest);
        oldest = next;
    }
}

int
lnfq_refusal_tell(lnfq_handle *handle)
{
    struct lnfq_refusal *refusal = atomic_load(&handle->refusals) != NULL ? take_all(handle) : NULL;
    int told = 0;

    while (told == 0 && refusal != NULL) {
        struct lnfq_refusal *next = refusal->next;

        told = tell(handle, &refusal->answer);
        free(refusal);
        refusal = next;
    }
    if (refusal != NULL) {
        put_back(handle, refusal);
    }
    return told;
}
