/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * NetfilterQueueHandle: one netlink socket and the queues that are bound on it.
 */
#include "handle_type.h"

#include <netinet/in.h> /* before the kernel's, which then leaves it its names */

#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <stdlib.h>

#include "arguments.h"
#include "backlog.h"
#include "batch.h"
#include "binding.h"
#include "callback.h"
#include "close.h"
#include "config.h"
#include "counters.h"
#include "dispatch.h"
#include "docstrings.h"
#include "error.h"
#include "exchange.h"
#include "explain.h"
#include "flush.h"
#include "fork.h"
#include "handle.h"
#include "handle_settings.h"
#include "inlets.h"
#include "keeper.h"
#include "listener.h"
#include "lock.h"
#include "name.h"
#include "outbox.h"
#include "post.h"
#include "queue.h"
#include "queue_options.h"
#include "reader.h"
#include "receive.h"
#include "remedy.h"
#include "report.h"
#include "slot.h"
#include "socket_options.h"
#include "state.h"
#include "table.h"
#include "tuples.h"

static inline lnfq_handle *
handle_cast(PyObject *self)
{
    return (lnfq_handle *)self;
}

/* ---- lifecycle ---- */

static void
handle_finalize(PyObject *self)
{
    lnfq_handle *handle = handle_cast(self);
    PyObject *raised = lnfq_error_take();

    if (!handle->closed && PyErr_ResourceWarning(self, 1, "unclosed %R", self) < 0) {
        PyErr_WriteUnraisable(self);
    }
    if (lnfq_close_handle(handle, false) < 0) {
        PyErr_WriteUnraisable(self);
    }
    if (raised != NULL) {
        lnfq_error_restore(raised);
    }
}

static int
handle_traverse(PyObject *self, visitproc visit, void *arg)
{
    lnfq_handle *handle = handle_cast(self);
    lnfq_packet *blank = atomic_load(&handle->blank);
    int stop;

    /* The list changes only while its thread has the GIL: see handle.h. */
    Py_VISIT(Py_TYPE(self));
    for (size_t i = 0; i < handle->queue_count; i++) {
        Py_VISIT(handle->queues[i]);
    }
    Py_VISIT(handle->on_held);
    Py_VISIT(handle->on_unsent);
    Py_VISIT(handle->on_close);
    Py_VISIT(handle->on_verdict_error);
    if (blank != NULL) { /* nothing is in it, and nobody else holds it */
        Py_VISIT(Py_TYPE(blank));
    }
    stop = lnfq_slot_visit(atomic_load(&handle->spare_slot), visit, arg);
    stop = stop != 0 ? stop : lnfq_keeper_visit(handle, visit, arg);
    return stop != 0 ? stop : lnfq_batch_visit(atomic_load(&handle->spare), visit, arg);
}

static void
handle_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    lnfq_handle *handle = handle_cast(self);

    if (PyObject_CallFinalizerFromDealloc(self) < 0) {
        return;
    }
    PyObject_GC_UnTrack(self);
    lnfq_fork_close(handle);
    lnfq_fork_remove(handle);
    lnfq_batch_free(atomic_load(&handle->spare));
    Py_XDECREF(atomic_load(&handle->spare_slot));
    Py_XDECREF(atomic_load(&handle->blank));
    Py_XDECREF(handle->on_held);
    Py_XDECREF(handle->on_unsent);
    Py_XDECREF(handle->on_close);
    Py_CLEAR(handle->on_verdict_error);
    (void)lnfq_report_refusals(handle);
    lnfq_name_forget(handle);
    lnfq_keeper_release(handle);
    lnfq_outbox_clear(&handle->outbox);
    lnfq_post_free_enclosures(lnfq_outbox_take_done(&handle->outbox));
    lnfq_kept_pool_clear(&handle->kept_pool);
    lnfq_backlog_clear(&handle->backlog);
    lnfq_backlog_clear(&handle->unclaimed);
    lnfq_inlets_free(handle->inlets);
    free(handle->scratch);
    free(handle->history);
    free(handle->queues);
    type->tp_free(self);
    Py_DECREF(type);
}

/* ---- methods ---- */

/* bind_pf and unbind_pf. */
static PyObject *
configure_family(lnfq_handle *handle, PyObject *family, uint8_t command, const char *call)
{
    char remedy[LNFQ_REMEDY_SIZE];
    struct lnfq_config config = {.command = command};
    PyThreadState *thread;
    int64_t number;
    int error = 0;
    bool closed;

    if (lnfq_arguments_int(
            family, command == NFQNL_CFG_CMD_PF_BIND ? "bind_pf(): family" : "unbind_pf(): family",
            0, UINT8_MAX, &number)
            < 0
        || lnfq_handle_check(handle, call) < 0) {
        return NULL;
    }
    config.family = (uint8_t)number;
    thread = lnfq_reader_lock_out(handle);
    closed = handle->closed;
    if (!closed) {
        error = lnfq_exchange_request(handle, 0, &config, NULL, 0);
    }
    if (error != 0) {
        lnfq_explain_config(handle, error, 0, &config, remedy);
    }
    lnfq_reader_let_in(handle, thread);
    if (closed) {
        (void)lnfq_handle_raise_closed(handle, call);
        return NULL;
    }
    if (error != 0) {
        lnfq_error_raise(error, remedy, "%s: family %u", call, config.family);
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
handle_bind_pf(PyObject *self, PyObject *family)
{
    return configure_family(handle_cast(self), family, NFQNL_CFG_CMD_PF_BIND, "bind_pf()");
}

static PyObject *
handle_unbind_pf(PyObject *self, PyObject *family)
{
    return configure_family(handle_cast(self), family, NFQNL_CFG_CMD_PF_UNBIND, "unbind_pf()");
}

static PyObject *
handle_create_queue(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"number",     "callback", "mode",   "range",
                                        "maxlen",     "flags",    "rcvbuf", "default_verdict",
                                        "unanswered", "shared",   NULL};
    PyObject *values[2 + LNFQ_QUEUE_OPTIONS] = {NULL};
    struct lnfq_queue_options options = {
        .config = {.command = NFQNL_CFG_CMD_BIND},
        .default_verdict = NF_DROP,
    };
    int64_t number;

    if (lnfq_arguments_parse("create_queue", names, 2, 2, args, nargs, kwnames, values) < 0
        || lnfq_arguments_int(values[0], "create_queue(): number", 0, UINT16_MAX, &number) < 0
        || lnfq_callback_check(values[1], "create_queue(): callback") < 0
        || lnfq_queue_options_parse(&values[2], &options) < 0
        || lnfq_handle_check(handle_cast(self), "create_queue()") < 0) {
        return NULL;
    }
    return lnfq_binding_create(handle_cast(self), (uint16_t)number, values[1], &options);
}

static PyObject *
handle_handle_packet(PyObject *self, PyObject *buffer)
{
    Py_ssize_t packets;

    if (!PyObject_CheckBuffer(buffer)) {
        lnfq_arguments_refuse(PyExc_TypeError, buffer,
                              "handle_packet(): buffer must be a bytes-like object");
        return NULL;
    }
    if (lnfq_handle_check_forked(handle_cast(self), "handle_packet()") < 0) {
        return NULL;
    }
    packets = lnfq_dispatch_buffer(handle_cast(self), buffer);
    return packets < 0 ? NULL : PyLong_FromSsize_t(packets);
}

static PyObject *
handle_process(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"max_packets", "timeout", NULL};
    PyObject *values[2] = {NULL, NULL};
    int64_t most = LNFQ_BATCH_MAX;
    double timeout;
    Py_ssize_t packets;

    if (lnfq_arguments_parse("process", names, 0, 2, args, nargs, kwnames, values) < 0
        || (values[0] != NULL
            && lnfq_arguments_int(values[0], "process(): max_packets", 1, PY_SSIZE_T_MAX, &most)
                   < 0)
        || lnfq_arguments_timeout(values[1], "process(): timeout", &timeout) < 0
        || lnfq_handle_check(handle_cast(self), "process()") < 0) {
        return NULL;
    }
    packets = lnfq_receive_process(handle_cast(self), (Py_ssize_t)most, timeout);
    return packets < 0 ? NULL : PyLong_FromSsize_t(packets);
}

PyObject *
lnfq_handle_type_fd(lnfq_handle *handle, bool expose, const char *call)
{
    int fd;

    if (lnfq_handle_check_forked(handle, call) < 0) {
        return NULL;
    }
    fd = lnfq_reader_descriptor(handle, expose);
    if (fd < 0) {
        (void)lnfq_handle_raise_closed(handle, call);
        return NULL;
    }
    return PyLong_FromLong(fd);
}

static PyObject *
handle_fd(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return lnfq_handle_type_fd(handle_cast(self), true, "fd()");
}

static PyObject *
handle_fileno(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return lnfq_handle_type_fd(handle_cast(self), true, "fileno()");
}

static PyObject *
handle_flush(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    if (lnfq_handle_check(handle_cast(self), "flush()") < 0
        || lnfq_flush_now(handle_cast(self), "flush()") < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
handle_stats(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    lnfq_handle *handle = handle_cast(self);
    struct lnfq_stats stats;

    if (lnfq_handle_check_forked(handle, "stats()") < 0) {
        return NULL;
    }
    lnfq_lock_acquire(handle);
    stats = handle->stats;
    lnfq_lock_release(handle);

#define LNFQ_COUNTER(name) PyLong_FromUnsignedLongLong(stats.name),
    PyObject *const values[] = {LNFQ_COUNTERS(LNFQ_COUNTER)};
#undef LNFQ_COUNTER

    return lnfq_tuples_make(handle->state, LNFQ_TUPLE_HANDLE_STATS, values,
                            Py_ARRAY_LENGTH(values));
}

static PyObject *
close_handle(lnfq_handle *handle, bool unbind)
{
    if (lnfq_close_handle(handle, unbind) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
handle_close(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"unbind", NULL};
    PyObject *values[1] = {NULL};
    int unbind;

    if (lnfq_arguments_parse("close", names, 0, 0, args, nargs, kwnames, values) < 0) {
        return NULL;
    }
    unbind = values[0] != NULL ? PyObject_IsTrue(values[0]) : 0;
    return unbind < 0 ? NULL : close_handle(handle_cast(self), unbind != 0);
}

static PyObject *
handle_detach(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    int fd = lnfq_close_detach(handle_cast(self));

    return fd < 0 ? NULL : PyLong_FromLong(fd);
}

/* The bits that are set, as a list of their numbers. */
static PyObject *
list_numbers(const unsigned char numbers[LNFQ_TABLE_NUMBERS])
{
    PyObject *list = PyList_New(0);

    for (long number = 0; list != NULL && number <= UINT16_MAX; number++) {
        if ((numbers[number / CHAR_BIT] >> number % CHAR_BIT & 1) != 0) {
            PyObject *object = PyLong_FromLong(number);

            if (object == NULL || PyList_Append(list, object) < 0) {
                Py_CLEAR(list);
            }
            Py_XDECREF(object);
        }
    }
    return list;
}

static PyObject *
handle_unclaimed(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    lnfq_handle *handle = handle_cast(self);
    unsigned char numbers[LNFQ_TABLE_NUMBERS];
    PyThreadState *thread;
    int error;

    if (lnfq_handle_check(handle, "unclaimed()") < 0) {
        return NULL;
    }
    thread = lnfq_lock_enter(handle);
    error = handle->closed ? EBADF : lnfq_table_list(handle, numbers);
    lnfq_lock_leave(handle, thread);
    if (error == 0) {
        return list_numbers(numbers);
    }
    if (error != EBADF || lnfq_handle_check(handle, "unclaimed()") == 0) {
        lnfq_error_raise(error, lnfq_remedy_status(error), "unclaimed()");
    }
    return NULL;
}

static PyObject *
handle_enter(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    if (lnfq_handle_check(handle_cast(self), "__enter__()") < 0) {
        return NULL;
    }
    return Py_NewRef(self);
}

static PyObject *
handle_exit(PyObject *self, PyObject *Py_UNUSED(exception))
{
    return close_handle(handle_cast(self), false);
}

/* ---- type ---- */

static PyObject *
handle_get_closed(PyObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(atomic_load(&handle_cast(self)->closed));
}

static PyObject *
handle_get_kept(PyObject *self, void *Py_UNUSED(closure))
{
    switch (handle_cast(self)->keeper.state) {
    case LNFQ_KEPT_NO:
        Py_RETURN_FALSE;
    case LNFQ_KEPT_YES:
        Py_RETURN_TRUE;
    default:
        Py_RETURN_NONE;
    }
}

static PyObject *
handle_repr(PyObject *self)
{
    lnfq_handle *handle = handle_cast(self);
    bool closed;
    int fd;

    lnfq_lock_acquire(handle);
    closed = handle->closed;
    fd = handle->fd;
    lnfq_lock_release(handle);
    return closed ? PyUnicode_FromFormat("<%s closed>", Py_TYPE(self)->tp_name)
                  : PyUnicode_FromFormat("<%s fd=%d>", Py_TYPE(self)->tp_name, fd);
}

static const struct lnfq_listener on_held = {"on_held", offsetof(lnfq_handle, on_held)};
static const struct lnfq_listener on_unsent = {"on_unsent", offsetof(lnfq_handle, on_unsent)};
static const struct lnfq_listener on_close = {"on_close", offsetof(lnfq_handle, on_close)};
static const struct lnfq_listener on_verdict_error = {"on_verdict_error",
                                                      offsetof(lnfq_handle, on_verdict_error)};

static PyMethodDef handle_methods[] = {
    {"bind_pf", handle_bind_pf, METH_O, DOC_NetfilterQueueHandle_bind_pf},
    {"unbind_pf", handle_unbind_pf, METH_O, DOC_NetfilterQueueHandle_unbind_pf},
    {"create_queue", (PyCFunction)(void (*)(void))handle_create_queue,
     METH_FASTCALL | METH_KEYWORDS, DOC_NetfilterQueueHandle_create_queue},
    {"handle_packet", handle_handle_packet, METH_O, DOC_NetfilterQueueHandle_handle_packet},
    {"process", (PyCFunction)(void (*)(void))handle_process, METH_FASTCALL | METH_KEYWORDS,
     DOC_NetfilterQueueHandle_process},
    {"fd", handle_fd, METH_NOARGS, DOC_NetfilterQueueHandle_fd},
    {"fileno", handle_fileno, METH_NOARGS, DOC_NetfilterQueueHandle_fileno},
    {"flush", handle_flush, METH_NOARGS, DOC_NetfilterQueueHandle_flush},
    {"stats", handle_stats, METH_NOARGS, DOC_NetfilterQueueHandle_stats},
    {"close", (PyCFunction)(void (*)(void))handle_close, METH_FASTCALL | METH_KEYWORDS,
     DOC_NetfilterQueueHandle_close},
    {"detach", handle_detach, METH_NOARGS, DOC_NetfilterQueueHandle_detach},
    {"unclaimed", handle_unclaimed, METH_NOARGS, DOC_NetfilterQueueHandle_unclaimed},
    {"__enter__", handle_enter, METH_NOARGS, DOC_NetfilterQueueHandle___enter__},
    {"__exit__", handle_exit, METH_VARARGS, DOC_NetfilterQueueHandle___exit__},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef handle_attributes[] = {
    {"closed", handle_get_closed, NULL, DOC_NetfilterQueueHandle_closed, NULL},
    {"kept", handle_get_kept, NULL, DOC_NetfilterQueueHandle_kept, NULL},
    {"autoflush", lnfq_handle_settings_get_autoflush, lnfq_handle_settings_set_autoflush,
     DOC_NetfilterQueueHandle_autoflush, NULL},
    {"hold_limit", lnfq_handle_settings_get_hold_limit, lnfq_handle_settings_set_hold_limit,
     DOC_NetfilterQueueHandle_hold_limit, NULL},
    {"on_held", lnfq_listener_get, lnfq_listener_set, DOC_NetfilterQueueHandle_on_held,
     (void *)(uintptr_t)&on_held},
    {"on_unsent", lnfq_listener_get, lnfq_listener_set, DOC_NetfilterQueueHandle_on_unsent,
     (void *)(uintptr_t)&on_unsent},
    {"on_close", lnfq_listener_get, lnfq_listener_set, DOC_NetfilterQueueHandle_on_close,
     (void *)(uintptr_t)&on_close},
    {"on_verdict_error", lnfq_listener_get, lnfq_listener_set,
     DOC_NetfilterQueueHandle_on_verdict_error, (void *)(uintptr_t)&on_verdict_error},
    {"rcvbuf", lnfq_socket_options_get_rcvbuf, lnfq_socket_options_set_rcvbuf,
     DOC_NetfilterQueueHandle_rcvbuf, NULL},
    {"no_enobufs", lnfq_socket_options_get_no_enobufs, lnfq_socket_options_set_no_enobufs,
     DOC_NetfilterQueueHandle_no_enobufs, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot handle_slots[] = {
    {Py_tp_doc, (void *)(uintptr_t)DOC_NetfilterQueueHandle},
    {Py_tp_methods, handle_methods},
    {Py_tp_getset, handle_attributes},
    {Py_tp_repr, handle_repr},
    {Py_tp_finalize, handle_finalize},
    {Py_tp_traverse, handle_traverse},
    {Py_tp_dealloc, handle_dealloc},
    {0, NULL},
};

PyType_Spec lnfq_handle_type_spec = {
    .name = "libnetfilterqueue.NetfilterQueueHandle",
    .basicsize = sizeof(lnfq_handle),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION
             | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = handle_slots,
};
