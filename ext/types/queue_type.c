/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * NetfilterQueueQueueHandle: one bound queue number.
 *
 * The handle owns its queues until they are destroyed. A queue keeps its handle alive, and so does
 * each of its packets. queue.h says what the handle's lock protects; claim.h, what happens when a
 * number is bound again.
 */
#include "queue_type.h"

#include <errno.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <stdio.h>
#include <stdlib.h>

#include "arguments.h"
#include "binding.h"
#include "callback.h"
#include "config.h"
#include "confirm.h"
#include "docstrings.h"
#include "enums.h"
#include "error.h"
#include "exchange.h"
#include "explain.h"
#include "flush.h"
#include "handle.h"
#include "lock.h"
#include "queue.h"
#include "reader.h"
#include "remedy.h"
#include "state.h"
#include "unbinding.h"
#include "verdict.h"
#include "verdict_batch.h"

static inline lnfq_queue *
queue_cast(PyObject *self)
{
    return (lnfq_queue *)self;
}

/* Sends one request about this queue; `call` shows the arguments. None, or NULL. */
static PyObject *
queue_configure(lnfq_queue *queue, const struct lnfq_config *config, const char *call)
{
    char remedy[LNFQ_REMEDY_SIZE];
    PyThreadState *thread;
    int error = 0;
    bool bound;

    if (lnfq_handle_check_forked(queue->handle, call) < 0) {
        return NULL;
    }
    thread = lnfq_reader_lock_out(queue->handle);
    bound = queue->bound;
    if (bound) {
        error = lnfq_binding_configure(queue, config);
    }
    if (error != 0) {
        lnfq_explain_config(queue->handle, error, queue->number, config, remedy);
    }
    lnfq_reader_let_in(queue->handle, thread);
    if (!bound) {
        return lnfq_queue_raise_destroyed(queue, call);
    }
    if (error != 0) {
        lnfq_error_raise(error, remedy, "%s of queue %u", call, queue->number);
        return NULL;
    }
    Py_RETURN_NONE;
}

/* ---- methods ---- */

static PyObject *
queue_set_mode(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"mode", "range", NULL};
    PyObject *values[2] = {NULL, NULL};
    int64_t mode, range;
    struct lnfq_config config = {.has_mode = true};
    char call[64];

    if (lnfq_arguments_parse("set_mode", names, 2, 2, args, nargs, kwnames, values) < 0
        || lnfq_arguments_int(values[0], "set_mode(): mode", 0, NFQNL_COPY_PACKET, &mode) < 0
        || lnfq_arguments_int(values[1], "set_mode(): range", 0, UINT32_MAX, &range) < 0) {
        return NULL;
    }
    config.mode = (uint8_t)mode;
    config.range = (uint32_t)range;
    snprintf(call, sizeof(call), "set_mode(%u, %u)", config.mode, config.range);
    return queue_configure(queue_cast(self), &config, call);
}

static PyObject *
queue_set_flags(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"mask", "flags", NULL};
    PyObject *values[2] = {NULL, NULL};
    int64_t mask, flags;
    struct lnfq_config config = {0};
    char call[64];

    if (lnfq_arguments_parse("set_flags", names, 2, 2, args, nargs, kwnames, values) < 0
        || lnfq_arguments_int(values[0], "set_flags(): mask", 0, UINT32_MAX, &mask) < 0
        || lnfq_arguments_int(values[1], "set_flags(): flags", 0, UINT32_MAX, &flags) < 0) {
        return NULL;
    }
    config.mask = (uint32_t)mask;
    config.flags = (uint32_t)flags;
    snprintf(call, sizeof(call), "set_flags(%u, %u)", config.mask, config.flags);
    return queue_configure(queue_cast(self), &config, call);
}

static PyObject *
queue_set_maxlen(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"queuelen", NULL};
    PyObject *values[1] = {NULL};
    int64_t maxlen;
    struct lnfq_config config = {.has_maxlen = true};
    char call[64];

    if (lnfq_arguments_parse("set_maxlen", names, 1, 1, args, nargs, kwnames, values) < 0
        || lnfq_arguments_int(values[0], "set_maxlen(): queuelen", 0, UINT32_MAX, &maxlen) < 0) {
        return NULL;
    }
    config.maxlen = (uint32_t)maxlen;
    snprintf(call, sizeof(call), "set_maxlen(%u)", config.maxlen);
    return queue_configure(queue_cast(self), &config, call);
}

/* Verdicts that were sent may have been refused, and nobody knows yet. A batch verdict needs that
 * knowledge. If it can't be found out, each packet gets a verdict of its own. */
static void
catch_up(lnfq_handle *handle)
{
    PyThreadState *thread;
    bool can;

    lnfq_lock_acquire(handle);
    can = lnfq_confirm_can(handle);
    lnfq_lock_release(handle);
    if (can) {
        thread = lnfq_reader_lock_out(handle);
        lnfq_exchange_catch_up(handle);
        lnfq_reader_let_in(handle, thread);
    }
}

static PyObject *
queue_set_verdict_batch(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"verdict", "up_to_id", "mark", "priority", NULL};
    static const char call[] = "set_verdict_batch()";
    PyObject *values[4] = {NULL};
    struct lnfq_verdict verdict = {0};
    lnfq_queue *queue = queue_cast(self);
    int64_t up_to;
    bool bound, any = false;
    int error = 0;

    if (lnfq_arguments_parse("set_verdict_batch", names, 2, 3, args, nargs, kwnames, values) < 0
        || lnfq_arguments_verdict(values[0], "set_verdict_batch(): verdict", &verdict.verdict) < 0
        || lnfq_arguments_int(values[1], "set_verdict_batch(): up_to_id", 0, UINT32_MAX, &up_to) < 0
        || lnfq_arguments_optional(values[2], "set_verdict_batch(): mark", &verdict.mark) < 0
        || lnfq_arguments_optional(values[3], "set_verdict_batch(): priority", &verdict.priority)
               < 0
        || lnfq_handle_check_forked(queue->handle, call) < 0) {
        return NULL;
    }
    catch_up(queue->handle);
    lnfq_lock_acquire(queue->handle);
    bound = queue->bound;
    if (bound) {
        error = lnfq_verdict_batch_give(queue, (uint32_t)up_to, &verdict, &any);
    }
    lnfq_lock_release(queue->handle);
    if (!bound) {
        return lnfq_queue_raise_destroyed(queue, call);
    }
    if (error != 0) {
        return PyErr_NoMemory();
    }
    if (any && lnfq_flush_or_hold(queue->handle, call) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
queue_destroy(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    lnfq_queue *queue = queue_cast(self);
    int error;

    if (lnfq_handle_check_forked(queue->handle, "destroy()") < 0) {
        return NULL;
    }
    error = lnfq_unbinding_destroy(queue);
    if (error != 0) {
        lnfq_error_raise(error, lnfq_remedy_destroy(error), "destroy() of queue %u", queue->number);
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
queue_enter(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    if (lnfq_handle_check_forked(queue_cast(self)->handle, "__enter__()") < 0) {
        return NULL;
    }
    if (!lnfq_queue_bound(queue_cast(self))) {
        return lnfq_queue_raise_destroyed(queue_cast(self), "__enter__()");
    }
    return Py_NewRef(self);
}

static PyObject *
queue_exit(PyObject *self, PyObject *Py_UNUSED(exception))
{
    return queue_destroy(self, NULL);
}

/* ---- attributes ---- */

static PyObject *
queue_get_number(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLong(queue_cast(self)->number);
}

static PyObject *
queue_get_handle(PyObject *self, void *Py_UNUSED(closure))
{
    return Py_NewRef((PyObject *)queue_cast(self)->handle);
}

static PyObject *
queue_get_destroyed(PyObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(!lnfq_queue_bound(queue_cast(self)));
}

static PyObject *
queue_get_callback(PyObject *self, void *Py_UNUSED(closure))
{
    lnfq_queue *queue = queue_cast(self);
    PyObject *callback;

    if (lnfq_handle_check_forked(queue->handle, "callback") < 0) {
        return NULL;
    }
    lnfq_lock_acquire(queue->handle);
    callback = Py_XNewRef(queue->callback);
    lnfq_lock_release(queue->handle);
    return callback != NULL ? callback : lnfq_queue_raise_destroyed(queue, "callback");
}

static int
queue_set_callback(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    lnfq_queue *queue = queue_cast(self);
    PyObject *former;

    if (!lnfq_arguments_assigned(value, "callback")) {
        return -1;
    }
    if (lnfq_callback_check(value, "callback") < 0
        || lnfq_handle_check_forked(queue->handle, "callback") < 0) {
        return -1;
    }
    lnfq_lock_acquire(queue->handle);
    former = queue->callback;
    if (former != NULL) {
        queue->callback = Py_NewRef(value);
    }
    lnfq_lock_release(queue->handle);
    if (former == NULL) {
        (void)lnfq_queue_raise_destroyed(queue, "callback");
        return -1;
    }
    Py_DECREF(former);
    return 0;
}

static PyObject *
queue_get_default_verdict(PyObject *self, void *Py_UNUSED(closure))
{
    lnfq_queue *queue = queue_cast(self);

    return lnfq_enums_member(queue->handle->state, LNFQ_ENUM_VERDICT,
                             atomic_load(&queue->default_verdict));
}

static int
queue_set_default_verdict(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    lnfq_queue *queue = queue_cast(self);
    uint32_t verdict;

    if (!lnfq_arguments_assigned(value, "default_verdict")) {
        return -1;
    }
    if (lnfq_arguments_verdict(value, "default_verdict", &verdict) < 0
        || lnfq_handle_check_forked(queue->handle, "default_verdict") < 0) {
        return -1;
    }
    if (!lnfq_queue_bound(queue)) {
        (void)lnfq_queue_raise_destroyed(queue, "default_verdict");
        return -1;
    }
    atomic_store(&queue->default_verdict, verdict);
    return 0;
}

static PyObject *
queue_repr(PyObject *self)
{
    return PyUnicode_FromFormat("<%s %u%s>", Py_TYPE(self)->tp_name, queue_cast(self)->number,
                                lnfq_queue_bound(queue_cast(self)) ? "" : " destroyed");
}

/* ---- type ---- */

static int
queue_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(queue_cast(self)->handle);
    Py_VISIT(queue_cast(self)->callback);
    return 0;
}

static void
queue_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    Py_XDECREF(queue_cast(self)->callback);
    Py_DECREF(queue_cast(self)->handle);
    free(queue_cast(self)->batches);
    free(queue_cast(self)->doubts.ids);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef queue_methods[] = {
    {"set_mode", (PyCFunction)(void (*)(void))queue_set_mode, METH_FASTCALL | METH_KEYWORDS,
     DOC_NetfilterQueueQueueHandle_set_mode},
    {"set_flags", (PyCFunction)(void (*)(void))queue_set_flags, METH_FASTCALL | METH_KEYWORDS,
     DOC_NetfilterQueueQueueHandle_set_flags},
    {"set_maxlen", (PyCFunction)(void (*)(void))queue_set_maxlen, METH_FASTCALL | METH_KEYWORDS,
     DOC_NetfilterQueueQueueHandle_set_maxlen},
    {"set_verdict_batch", (PyCFunction)(void (*)(void))queue_set_verdict_batch,
     METH_FASTCALL | METH_KEYWORDS, DOC_NetfilterQueueQueueHandle_set_verdict_batch},
    {"destroy", queue_destroy, METH_NOARGS, DOC_NetfilterQueueQueueHandle_destroy},
    {"__enter__", queue_enter, METH_NOARGS, DOC_NetfilterQueueQueueHandle___enter__},
    {"__exit__", queue_exit, METH_VARARGS, DOC_NetfilterQueueQueueHandle___exit__},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef queue_attributes[] = {
    {"number", queue_get_number, NULL, DOC_NetfilterQueueQueueHandle_number, NULL},
    {"handle", queue_get_handle, NULL, DOC_NetfilterQueueQueueHandle_handle, NULL},
    {"destroyed", queue_get_destroyed, NULL, DOC_NetfilterQueueQueueHandle_destroyed, NULL},
    {"callback", queue_get_callback, queue_set_callback, DOC_NetfilterQueueQueueHandle_callback,
     NULL},
    {"default_verdict", queue_get_default_verdict, queue_set_default_verdict,
     DOC_NetfilterQueueQueueHandle_default_verdict, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot queue_slots[] = {
    {Py_tp_doc, (void *)(uintptr_t)DOC_NetfilterQueueQueueHandle},
    {Py_tp_methods, queue_methods},
    {Py_tp_getset, queue_attributes},
    {Py_tp_repr, queue_repr},
    {Py_tp_traverse, queue_traverse},
    {Py_tp_dealloc, queue_dealloc},
    {0, NULL},
};

PyType_Spec lnfq_queue_type_spec = {
    .name = "libnetfilterqueue.NetfilterQueueQueueHandle",
    .basicsize = sizeof(lnfq_queue),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION
             | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = queue_slots,
};
