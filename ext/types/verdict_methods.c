/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A packet's methods that give it a verdict; see verdict_methods.h.
 */
#include "verdict_methods.h"

#include <netinet/in.h> /* before the kernel's, which then leaves it its names */

#include <linux/netfilter.h>
#include <stdlib.h>

#include "arguments.h"
#include "enums.h"
#include "fate.h"
#include "flush.h"
#include "handle.h"
#include "lock.h"
#include "packet.h"
#include "post.h"
#include "queue.h"
#include "seldom.h"
#include "state.h"
#include "verdict.h"
#include "verdict_arguments.h"

static inline lnfq_packet *
packet_cast(PyObject *self)
{
    return (lnfq_packet *)self;
}

LNFQ_SELDOM static PyObject *
raise_given(const lnfq_packet *packet, const char *call)
{
    PyErr_Format(packet->queue->handle->state->verdict_error,
                 "%s: packet %u of queue %u has had its verdict, %u", call, packet->index.id,
                 packet->queue->number, packet->verdict.verdict);
    return NULL;
}

LNFQ_SELDOM static PyObject *
raise_left(const lnfq_packet *packet, const char *call)
{
    PyErr_Format(packet->queue->handle->state->closed_error,
                 "%s: the queue is left, and packet %u of queue %u waits for whoever takes it over",
                 call, packet->index.id, packet->queue->number);
    return NULL;
}

LNFQ_SELDOM static PyObject *
raise_settled(const lnfq_packet *packet, const char *call)
{
    PyErr_Format(packet->queue->handle->state->closed_error,
                 "%s: queue %u is destroyed, and packet %u has had its default verdict", call,
                 packet->queue->number, packet->index.id);
    return NULL;
}

/* The queue is not bound any more; None, or NULL with an exception. */
LNFQ_SELDOM static PyObject *
end_unbound(const lnfq_packet *packet, enum lnfq_packet_state state, bool in_callback,
            const char *call)
{
    if (packet->queue->detached && state != LNFQ_PACKET_EXECUTED) {
        return raise_left(packet, call);
    }
    if (in_callback) {
        Py_RETURN_NONE; /* the callback destroyed its own queue, and so settled this packet */
    }
    return state == LNFQ_PACKET_EXECUTED ? raise_given(packet, call) : raise_settled(packet, call);
}

/* Records the verdict inside the callback, executes it after; None, or NULL with an exception.
 * Takes the owner of the payload, and the options. */
static inline PyObject *
packet_give(lnfq_packet *packet, const struct lnfq_verdict *verdict, const char *call)
{
    lnfq_handle *handle = packet->queue->handle;
    PyObject *payload = verdict->owner; /* whichever is surplus */
    struct lnfq_attributes *options = verdict->options;
    enum lnfq_packet_state state;
    bool bound, in_callback, held;
    int error = 0;

    if (lnfq_handle_check_forked(handle, call) < 0) {
        lnfq_packet_let_go(payload, options);
        return NULL;
    }
    lnfq_lock_acquire(handle);
    lnfq_fate_learn(packet);
    state = packet->state;
    bound = packet->queue->bound;
    in_callback = packet->in_callback;
    held = handle->held && !lnfq_post_overdue(handle); /* and so this one is too */
    if (bound && state != LNFQ_PACKET_EXECUTED) {
        payload = packet->verdict.owner;
        options = packet->verdict.options;
        packet->verdict = *verdict;
        packet->recorded = true;
        error = state == LNFQ_PACKET_KEPT ? lnfq_fate_execute(packet) : 0;
        handle->stats.defaulted += verdict->reason != LNFQ_REASON_DECIDED;
    }
    lnfq_lock_release(handle);
    lnfq_packet_let_go(payload, options);
    if (!bound) {
        return end_unbound(packet, state, in_callback, call);
    }
    if (state == LNFQ_PACKET_EXECUTED) {
        return raise_given(packet, call);
    }
    if (error != 0) {
        return PyErr_NoMemory();
    }
    if (state == LNFQ_PACKET_KEPT && !held && lnfq_flush_or_hold(handle, call) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* With all that a verdict may have. */
LNFQ_SELDOM static PyObject *
set_verdict(lnfq_packet *packet, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"verdict", "mark",      "payload",   "priority",    "vlan",
                                        "ct_mark", "ct_labels", "l2_header", "expectation", NULL};
    PyObject *values[4 + LNFQ_OPTION_ARGUMENTS] = {NULL};
    struct lnfq_verdict verdict = {0};

    if (lnfq_arguments_parse("set_verdict", names, 1, 2, args, nargs, kwnames, values) < 0
        || lnfq_arguments_verdict(values[0], "set_verdict(): verdict", &verdict.verdict) < 0
        || lnfq_arguments_optional(values[1], "set_verdict(): mark", &verdict.mark) < 0
        || lnfq_arguments_optional(values[3], "set_verdict(): priority", &verdict.priority) < 0
        || lnfq_verdict_arguments_options(packet, &values[4], &verdict) < 0) {
        return NULL;
    }
    if (lnfq_arguments_given(values[2])
        && lnfq_verdict_arguments_payload(packet, values[2], "set_verdict(): payload", &verdict)
               < 0) {
        free(verdict.options);
        return NULL;
    }
    return packet_give(packet, &verdict, "set_verdict()");
}

PyObject *
lnfq_verdict_methods_set_verdict(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                 PyObject *kwnames)
{
    struct lnfq_verdict verdict = {0};

    if (nargs != 1 || kwnames != NULL) {
        return set_verdict(packet_cast(self), args, nargs, kwnames);
    }
    if (lnfq_arguments_verdict(args[0], "set_verdict(): verdict", &verdict.verdict) < 0) {
        return NULL;
    }
    return packet_give(packet_cast(self), &verdict, "set_verdict()");
}

PyObject *
lnfq_verdict_methods_accept(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                            PyObject *kwnames)
{
    static const char *const names[] = {"mark", "payload", NULL};
    PyObject *values[2] = {NULL, NULL};
    struct lnfq_verdict verdict = {.verdict = NF_ACCEPT};
    lnfq_packet *packet = packet_cast(self);

    if (lnfq_arguments_parse("accept", names, 0, 2, args, nargs, kwnames, values) < 0
        || lnfq_arguments_optional(values[0], "accept(): mark", &verdict.mark) < 0
        || (lnfq_arguments_given(values[1])
            && lnfq_verdict_arguments_payload(packet, values[1], "accept(): payload", &verdict)
                   < 0)) {
        return NULL;
    }
    return packet_give(packet, &verdict, "accept()");
}

PyObject *
lnfq_verdict_methods_drop(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    const struct lnfq_verdict verdict = {.verdict = NF_DROP};

    return packet_give(packet_cast(self), &verdict, "drop()");
}

PyObject *
lnfq_verdict_methods_settle(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    const struct lnfq_verdict verdict = {
        .verdict = atomic_load(&packet_cast(self)->queue->default_verdict),
        .reason = LNFQ_REASON_HANDLED,
    };

    return packet_give(packet_cast(self), &verdict, "_settle()");
}

PyObject *
lnfq_verdict_methods_repeat(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                            PyObject *kwnames)
{
    static const char *const names[] = {"mark", NULL};
    PyObject *mark = NULL;
    struct lnfq_verdict verdict = {.verdict = NF_REPEAT};

    if (lnfq_arguments_parse("repeat", names, 0, 1, args, nargs, kwnames, &mark) < 0
        || lnfq_arguments_optional(mark, "repeat(): mark", &verdict.mark) < 0) {
        return NULL;
    }
    return packet_give(packet_cast(self), &verdict, "repeat()");
}

PyObject *
lnfq_verdict_methods_requeue(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                             PyObject *kwnames)
{
    struct lnfq_verdict verdict = {0};

    if (lnfq_arguments_queue_nr("requeue", args, nargs, kwnames, &verdict.verdict) < 0) {
        return NULL;
    }
    return packet_give(packet_cast(self), &verdict, "requeue()");
}

PyObject *
lnfq_verdict_methods_get_verdict(PyObject *self, void *Py_UNUSED(closure))
{
    lnfq_packet *packet = packet_cast(self);
    lnfq_handle *handle = packet->queue->handle;
    bool recorded, bound;
    uint32_t verdict;

    if (lnfq_handle_check_forked(handle, "verdict") < 0) {
        return NULL;
    }
    lnfq_lock_acquire(handle);
    lnfq_fate_learn(packet);
    recorded = packet->recorded;
    verdict = packet->verdict.verdict;
    bound = packet->queue->bound;
    lnfq_lock_release(handle);
    if (!recorded && bound) {
        Py_RETURN_NONE;
    }
    if (!recorded) {
        verdict = atomic_load(&packet->queue->default_verdict);
    }
    return lnfq_enums_member(handle->state, LNFQ_ENUM_VERDICT, verdict);
}
