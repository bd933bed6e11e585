/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * NetfilterQueueHandle: one netlink socket and the queues that are bound on it.
 *
 * It owns the descriptor, the bound queues, the verdicts that wait to be sent and the packets that
 * were set aside. Its lock protects all of that, and its queues and packets: see nfq.h. The
 * descriptor is closed by the last thread that waits on it, so that nobody waits on a number that
 * means something else meanwhile.
 */
#include "nfq.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

/* A longer wait is cut to this; nobody will see its end. In seconds. */
#define TIMEOUT_MAX 1e9

static inline lnfq_handle *
handle_cast(PyObject *self)
{
    return (lnfq_handle *)self;
}

/* ---- lifecycle ---- */

/* Notes which file a descriptor is on, if there is one; errno stays as it is. */
static struct lnfq_file
file_of(int fd)
{
    struct stat status = {0};
    int error = errno;

    (void)fstat(fd, &status);
    errno = error;
    return (struct lnfq_file){status.st_dev, status.st_ino};
}

static bool
is_on(int fd, const struct lnfq_file *file)
{
    struct lnfq_file now = file_of(fd);

    return fd >= 0 && now.device == file->device && now.inode == file->inode;
}

void
lnfq_handle_take_fd(lnfq_handle *handle, int fd)
{
    handle->fd = fd;
    handle->file = file_of(fd);
}

void
lnfq_handle_take_wake_fd(lnfq_handle *handle, int fd)
{
    handle->wake_fd = fd;
    handle->wake_file = file_of(fd);
}

/* A number that other code has closed, and that is a stranger's by now, is left to that. */
void
lnfq_handle_close_descriptors(lnfq_handle *handle)
{
    if (is_on(handle->fd, &handle->file)) {
        (void)close(handle->fd);
    }
    if (is_on(handle->wake_fd, &handle->wake_file)) {
        (void)close(handle->wake_fd);
    }
    handle->fd = -1;
    handle->wake_fd = -1;
}

static void
close_descriptors(lnfq_handle *handle)
{
    lnfq_fork_hold_off();
    lnfq_handle_close_descriptors(handle);
    lnfq_fork_allow();
}

void
lnfq_handle_release(lnfq_handle *handle)
{
    if (handle->closed && handle->waiters == 0) {
        close_descriptors(handle);
    }
}

int
lnfq_handle_raise_closed(const lnfq_handle *handle, const char *call)
{
    PyErr_Format(handle->state->closed_error, "%s: the handle is closed", call);
    return -1;
}

int
lnfq_handle_check_forked(const lnfq_handle *handle, const char *call)
{
    if (lnfq_handle_forked(handle)) {
        PyErr_Format(PyExc_RuntimeError,
                     "%s: the handle belongs to the parent process; after fork it can only be "
                     "closed",
                     call);
        return -1;
    }
    return 0;
}

bool
lnfq_handle_closed(lnfq_handle *handle)
{
    bool closed;

    lnfq_handle_lock(handle);
    closed = handle->closed;
    lnfq_handle_unlock(handle);
    return closed;
}

int
lnfq_handle_check(lnfq_handle *handle, const char *call)
{
    if (lnfq_handle_check_forked(handle, call) < 0) {
        return -1;
    }
    return lnfq_handle_closed(handle) ? lnfq_handle_raise_closed(handle, call) : 0;
}

lnfq_handle *
lnfq_handle_new(lnfq_state *state)
{
    lnfq_handle *handle = PyObject_GC_New(lnfq_handle, state->handle_type);

    if (handle == NULL) {
        return NULL;
    }
    memset((char *)handle + sizeof(PyObject), 0, sizeof(*handle) - sizeof(PyObject));
    handle->state = state;
    handle->fd = -1;
    handle->wake_fd = -1;
    lnfq_fork_add(handle);
    atomic_init(&handle->readers, 0);
    atomic_init(&handle->spare_slot, NULL);
    atomic_init(&handle->blank, NULL);
    atomic_init(&handle->datagram_size, LNFQ_DATAGRAM_HEAD);
    handle->closed = true; /* until it is open */
    handle->autoflush = true;
    lnfq_backlog_init(&handle->backlog);
    pthread_mutex_init(&handle->lock, NULL);
    PyObject_GC_Track(handle);
    handle->scratch = malloc(LNFQ_DATAGRAM_MAX);
    handle->inlets = lnfq_inlets_new(1);
    if (handle->scratch == NULL || handle->inlets == NULL
        || lnfq_outbox_init(&handle->outbox) != 0) {
        Py_DECREF(handle);
        PyErr_NoMemory();
        return NULL;
    }
    lnfq_inlets_set(handle->inlets, 0, handle->scratch, LNFQ_DATAGRAM_MAX);
    return handle;
}

void
lnfq_handle_expect(lnfq_handle *handle, const struct lnfq_config *config)
{
    uint32_t range = 0;
    size_t size;

    if (config->has_mode && config->mode == NFQNL_COPY_PACKET) {
        range = config->range != 0 && config->range < LNFQ_PAYLOAD_MAX ? config->range
                                                                       : LNFQ_PAYLOAD_MAX;
    }
    size = LNFQ_DATAGRAM_HEAD + range;
    if (size > atomic_load(&handle->datagram_size)) {
        atomic_store(&handle->datagram_size, size);
    }
}

/* A bound queue, a new reference; NULL once there is none, and then the handle is marked closed. */
static lnfq_queue *
next_queue_or_closed(lnfq_handle *handle)
{
    lnfq_queue *queue = NULL;

    lnfq_handle_lock(handle);
    if (handle->queue_count > 0) {
        queue = (lnfq_queue *)Py_NewRef((PyObject *)handle->queues[handle->queue_count - 1]);
    }
    else if (!handle->closed) {
        (void)lnfq_handle_send(handle);
        handle->closed = true;
        (void)eventfd_write(handle->wake_fd, 1); /* whoever waits closes the descriptors */
        lnfq_handle_release(handle);
    }
    lnfq_handle_unlock(handle);
    return queue;
}

/* In a child of fork the lock may be taken for ever, the queues are the parent's, and the
 * descriptors are closed already. */
static void
close_forked(lnfq_handle *handle)
{
    Py_BEGIN_CRITICAL_SECTION(handle);
    while (handle->queue_count > 0) {
        lnfq_queue_abandon(handle->queues[handle->queue_count - 1]);
    }
    Py_END_CRITICAL_SECTION();
    Py_XDECREF(lnfq_hook_take(handle, &handle->on_close)); /* the parent's, which calls it */
}

/* Nothing is sent to a stranger: the queues went with the descriptor that was closed. */
static void
leave_stranger(lnfq_handle *handle)
{
    lnfq_handle_lock(handle);
    if (!is_on(handle->fd, &handle->file)) {
        handle->fd = -1;
    }
    lnfq_handle_unlock(handle);
}

/* Returns 0, or -1 with an exception of a hook that leaves, once all else is done. */
static int
close_handle(lnfq_handle *handle)
{
    PyObject *error = NULL;
    lnfq_queue *queue;

    if (lnfq_handle_forked(handle)) {
        close_forked(handle);
    }
    else {
        if (lnfq_hook_call(lnfq_hook_take(handle, &handle->on_close)) < 0) {
            (void)lnfq_error_collect(&error, (PyObject *)handle);
        }
        leave_stranger(handle);
        while ((queue = next_queue_or_closed(handle)) != NULL) {
            /* If the kernel refuses, closing the descriptor unbinds the queue all the same. */
            (void)lnfq_queue_destroy(queue);
            Py_DECREF(queue);
        }
        if (lnfq_refusal_tell(handle) < 0) {
            (void)lnfq_error_collect(&error, (PyObject *)handle);
        }
    }
    Py_XDECREF(lnfq_hook_take(handle, &handle->on_held));
    Py_XDECREF(lnfq_hook_take(handle, &handle->on_verdict_error));
    if (error != NULL) {
        lnfq_error_restore(error);
        return -1;
    }
    return 0;
}

static void
handle_finalize(PyObject *self)
{
    lnfq_handle *handle = handle_cast(self);
    PyObject *raised = lnfq_error_take();

    if (!handle->closed && PyErr_ResourceWarning(self, 1, "unclosed %R", self) < 0) {
        PyErr_WriteUnraisable(self);
    }
    if (close_handle(handle) < 0) {
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

    /* The list changes only while its thread has the GIL: see nfq.h. */
    Py_VISIT(Py_TYPE(self));
    for (size_t i = 0; i < handle->queue_count; i++) {
        Py_VISIT(handle->queues[i]);
    }
    Py_VISIT(handle->on_held);
    Py_VISIT(handle->on_close);
    Py_VISIT(handle->on_verdict_error);
    if (blank != NULL) { /* nothing is in it, and nobody else holds it */
        Py_VISIT(Py_TYPE(blank));
    }
    stop = lnfq_slot_visit(atomic_load(&handle->spare_slot), visit, arg);
    return stop != 0 ? stop : lnfq_batch_visit(handle->spare, visit, arg);
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
    close_descriptors(handle);
    lnfq_fork_remove(handle);
    lnfq_batch_free(handle->spare);
    Py_XDECREF(atomic_load(&handle->spare_slot));
    Py_XDECREF(atomic_load(&handle->blank));
    Py_XDECREF(handle->on_held);
    Py_XDECREF(handle->on_close);
    Py_CLEAR(handle->on_verdict_error);
    (void)lnfq_refusal_tell(handle);
    lnfq_name_forget(handle);
    lnfq_outbox_clear(&handle->outbox);
    lnfq_enclosures_free(lnfq_outbox_take_done(&handle->outbox));
    lnfq_backlog_clear(&handle->backlog);
    lnfq_inlets_free(handle->inlets);
    free(handle->scratch);
    free(handle->history);
    free(handle->queues);
    pthread_mutex_destroy(&handle->lock);
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

    if (lnfq_parse_int(
            family, command == NFQNL_CFG_CMD_PF_BIND ? "bind_pf(): family" : "unbind_pf(): family",
            0, UINT8_MAX, &number)
            < 0
        || lnfq_handle_check(handle, call) < 0) {
        return NULL;
    }
    config.family = (uint8_t)number;
    thread = lnfq_handle_enter(handle);
    closed = handle->closed;
    if (!closed) {
        error = lnfq_config_request(handle, 0, &config, NULL, 0);
    }
    if (error != 0) {
        lnfq_config_remedy(handle, error, 0, &config, remedy);
    }
    lnfq_handle_leave(handle, thread);
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

PyDoc_STRVAR(bind_pf_doc,
             "bind_pf($self, family, /)\n"
             "--\n"
             "\n"
             "Bind the handle to a protocol family (AF_INET, AF_INET6; 0 to 255).\n"
             "\n"
             "Kernels since 3.8 need no such binding and answer every request alike. Never waits.\n"
             "Raises ValueError for a number out of range, ClosedError for a closed handle,\n"
             "TypeError, OSError if the kernel refuses (PermissionError without CAP_NET_ADMIN),\n"
             "RuntimeError after fork. Kernel: NFQNL_CFG_CMD_PF_BIND; nfq_bind_pf(3).");

static PyObject *
handle_bind_pf(PyObject *self, PyObject *family)
{
    return configure_family(handle_cast(self), family, NFQNL_CFG_CMD_PF_BIND, "bind_pf()");
}

PyDoc_STRVAR(unbind_pf_doc,
             "unbind_pf($self, family, /)\n"
             "--\n"
             "\n"
             "Unbind the handle from a protocol family (AF_INET, AF_INET6; 0 to 255).\n"
             "\n"
             "As bind_pf in everything else. Kernel: NFQNL_CFG_CMD_PF_UNBIND;\n"
             "nfq_unbind_pf(3).");

static PyObject *
handle_unbind_pf(PyObject *self, PyObject *family)
{
    return configure_family(handle_cast(self), family, NFQNL_CFG_CMD_PF_UNBIND, "unbind_pf()");
}

/* The optional arguments of create_queue, from `mode` on. 0, or -1 with an exception. */
static int
parse_queue_options(PyObject *const values[6], struct lnfq_queue_options *options)
{
    struct lnfq_config *config = &options->config;
    int64_t mode = NFQNL_COPY_PACKET, range = LNFQ_RANGE_DEFAULT, maxlen = 0, flags = 0;
    int64_t rcvbuf = LNFQ_RCVBUF_GROWS;

    config->has_mode = values[0] != Py_None;
    config->has_maxlen = lnfq_given(values[2]);
    if ((lnfq_given(values[0])
         && lnfq_parse_int(values[0], "create_queue(): mode", 0, NFQNL_COPY_PACKET, &mode) < 0)
        || (values[1] != NULL
            && lnfq_parse_int(values[1], "create_queue(): range", 0, UINT32_MAX, &range) < 0)
        || (config->has_maxlen
            && lnfq_parse_int(values[2], "create_queue(): maxlen", 0, UINT32_MAX, &maxlen) < 0)
        || (values[3] != NULL
            && lnfq_parse_int(values[3], "create_queue(): flags", 0, UINT32_MAX, &flags) < 0)
        || (lnfq_given(values[4])
            && lnfq_parse_int(values[4], "create_queue(): rcvbuf", 0, INT_MAX, &rcvbuf) < 0)
        || (values[5] != NULL
            && lnfq_parse_verdict(values[5], "create_queue(): default_verdict",
                                  &options->default_verdict)
                   < 0)) {
        return -1;
    }
    options->rcvbuf = (int)rcvbuf;
    config->mode = (uint8_t)mode;
    config->range = (uint32_t)range;
    config->maxlen = (uint32_t)maxlen;
    config->mask = (uint32_t)flags;
    config->flags = (uint32_t)flags;
    return 0;
}

PyDoc_STRVAR(create_queue_doc,
             "create_queue($self, /, number, callback, *, mode=2, range=65535, maxlen=None,\n"
             "             flags=0, rcvbuf=None, default_verdict=0)\n"
             "--\n"
             "\n"
             "Bind a queue number, 0 to 65535, and return its NetfilterQueueQueueHandle.\n"
             "\n"
             "callback is called with each packet, a NetfilterQueueData, by handle_packet() or\n"
             "process(). What it returns is ignored, except for an awaitable: the dispatch\n"
             "closes it and raises TypeError, as if the callback had raised that. mode and\n"
             "range are set_mode's. The default is NFQNL_COPY_PACKET, the whole packet. With\n"
             "None or NFQNL_COPY_NONE the kernel drops all packets until set_mode is called.\n"
             "maxlen is set_maxlen's, and flags are the QueueFlag bits to set. All of it is\n"
             "configured together with the binding. default_verdict is for packets that nobody\n"
             "gives a verdict: NF_DROP.\n"
             "\n"
             "rcvbuf is about the socket's receive buffer, which all queues of the handle\n"
             "share. None lets it grow, so that maxlen packets of 1500 bytes (1024 packets if\n"
             "maxlen is None) have room beside those of the other queues. It grows up to 64\n"
             "MiB, as far as the system allows, and never shrinks. It stays as it is if\n"
             "somebody has set it, here or by the attribute rcvbuf. A number of bytes, up to\n"
             "2**31-1, is set as that attribute sets it. 0 leaves the buffer alone.\n"
             "\n"
             "May be called at any time from any thread, also from a callback; it neither\n"
             "waits nor calls callbacks. Raises ValueError for a value out of range,\n"
             "ClosedError for a closed handle, TypeError for a wrong type, a coroutine function\n"
             "and a generator function, RuntimeError after fork, and OSError if the kernel\n"
             "refuses: PermissionError without CAP_NET_ADMIN and for a number that another\n"
             "program has bound, EBUSY for one that is bound on this handle, EOPNOTSUPP or\n"
             "EINVAL for a flag that it does not know; nothing stays bound then. Kernel:\n"
             "NFQNL_CFG_CMD_BIND; nfq_create_queue(3).");

static PyObject *
handle_create_queue(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"number", "callback",        "mode",
                                        "range",  "maxlen",          "flags",
                                        "rcvbuf", "default_verdict", NULL};
    PyObject *values[8] = {NULL};
    struct lnfq_queue_options options = {
        .config = {.command = NFQNL_CFG_CMD_BIND},
        .default_verdict = NF_DROP,
    };
    int64_t number;

    if (lnfq_parse_arguments("create_queue", names, 2, 2, args, nargs, kwnames, values) < 0
        || lnfq_parse_int(values[0], "create_queue(): number", 0, UINT16_MAX, &number) < 0
        || lnfq_callback_check(values[1], "create_queue(): callback") < 0
        || parse_queue_options(&values[2], &options) < 0
        || lnfq_handle_check(handle_cast(self), "create_queue()") < 0) {
        return NULL;
    }
    return lnfq_queue_create(handle_cast(self), (uint16_t)number, values[1], &options);
}

PyDoc_STRVAR(
    handle_packet_doc,
    "handle_packet($self, buffer, /)\n"
    "--\n"
    "\n"
    "Dispatch what a loop of your own received, and return the number of packets.\n"
    "\n"
    "buffer is any C-contiguous object with the buffer protocol that holds one or\n"
    "more netlink messages. The callbacks' packets look into it without a copy; it is\n"
    "held while payload views of it live. What was set aside by a configuration call\n"
    "is dispatched first. A packet whose message was cut by a short buffer is\n"
    "dispatched with truncated set. The verdicts are sent before the call returns.\n"
    "\n"
    "Never reads the descriptor and never waits. May be called from any thread, and from\n"
    "a callback. Raises MalformedMessageError for bytes that are no valid netlink\n"
    "message, after what stands before them was dispatched; the first exception of a\n"
    "callback, after the rest was dispatched, or at once if it is no Exception (then the\n"
    "rest is set aside for the next dispatch); ClosedError for a closed handle; TypeError,\n"
    "BufferError; OSError if verdicts can't be sent; RuntimeError after fork. See\n"
    "nfq_handle_packet(3).");

static PyObject *
handle_handle_packet(PyObject *self, PyObject *buffer)
{
    Py_ssize_t packets;

    if (!PyObject_CheckBuffer(buffer)) {
        lnfq_refuse(PyExc_TypeError, buffer, "handle_packet(): buffer must be a bytes-like object");
        return NULL;
    }
    if (lnfq_handle_check_forked(handle_cast(self), "handle_packet()") < 0) {
        return NULL;
    }
    packets = lnfq_dispatch_buffer(handle_cast(self), buffer);
    return packets < 0 ? NULL : PyLong_FromSsize_t(packets);
}

/* Seconds as in select, -1 for None. 0, or -1 with an exception. */
static int
parse_timeout(PyObject *object, double *timeout)
{
    if (!lnfq_given(object)) {
        *timeout = object == NULL ? 0 : -1;
        return 0;
    }
    *timeout = PyFloat_AsDouble(object);
    if (*timeout == -1 && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_TypeError)) {
            lnfq_refuse(PyExc_TypeError, object,
                        "process(): timeout must be a number of seconds or None");
        }
        else if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
            lnfq_refuse(PyExc_ValueError, object,
                        "process(): timeout must be a number that a float holds");
        }
        return -1;
    }
    if (isnan(*timeout) || *timeout < 0) {
        lnfq_refuse(PyExc_ValueError, object, "process(): timeout must be at least 0 or None");
        return -1;
    }
    *timeout = fmin(*timeout, TIMEOUT_MAX);
    return 0;
}

PyDoc_STRVAR(process_doc,
             "process($self, /, max_packets=64, timeout=0)\n"
             "--\n"
             "\n"
             "Receive and dispatch what waits, and return the number of packets.\n"
             "\n"
             "max_packets is the most to dispatch, at least 1. timeout is how long to wait for\n"
             "the first one, in seconds: 0 does not wait, None waits for ever. The verdicts are\n"
             "sent together before the call returns, and earlier when callbacks are slow.\n"
             "\n"
             "Messages that the kernel lost (ENOBUFS) are counted in HandleStats.overruns and\n"
             "the reading goes on. Waiting releases the GIL; signal handlers run, and what they\n"
             "raise ends it. May be called from any thread, and from a callback.\n"
             "\n"
             "If a callback closes the handle, the packets that were dispatched until then are\n"
             "returned. Raises the first exception of a callback, after the rest of the batch was\n"
             "dispatched; ValueError for a number out of range, ClosedError for a closed handle,\n"
             "also if it is closed while this call waits; TypeError; OSError if receiving or\n"
             "sending fails; RuntimeError after fork.");

static PyObject *
handle_process(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"max_packets", "timeout", NULL};
    PyObject *values[2] = {NULL, NULL};
    int64_t most = LNFQ_BATCH_MAX;
    double timeout;
    Py_ssize_t packets;

    if (lnfq_parse_arguments("process", names, 0, 2, args, nargs, kwnames, values) < 0
        || (values[0] != NULL
            && lnfq_parse_int(values[0], "process(): max_packets", 1, PY_SSIZE_T_MAX, &most) < 0)
        || parse_timeout(values[1], &timeout) < 0
        || lnfq_handle_check(handle_cast(self), "process()") < 0) {
        return NULL;
    }
    packets = lnfq_receive_process(handle_cast(self), (Py_ssize_t)most, timeout);
    return packets < 0 ? NULL : PyLong_FromSsize_t(packets);
}

static PyObject *
get_fd(lnfq_handle *handle, const char *call)
{
    int fd;

    if (lnfq_handle_check_forked(handle, call) < 0) {
        return NULL;
    }
    lnfq_handle_lock(handle);
    fd = handle->closed ? -1 : handle->fd;
    handle->exposed = true; /* from now on others may read it */
    lnfq_handle_unlock(handle);
    if (fd < 0) {
        (void)lnfq_handle_raise_closed(handle, call);
        return NULL;
    }
    return PyLong_FromLong(fd);
}

PyDoc_STRVAR(fd_doc, "fd($self, /)\n"
                     "--\n"
                     "\n"
                     "The netlink socket's descriptor, blocking unless it was adopted otherwise.\n"
                     "\n"
                     "It is closed with the handle, and in children of fork: a program that is\n"
                     "started gets a copy, by os.dup(). Raises ClosedError for a closed handle,\n"
                     "RuntimeError after fork. See nfq_fd(3).");

static PyObject *
handle_fd(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return get_fd(handle_cast(self), "fd()");
}

PyDoc_STRVAR(fileno_doc,
             "fileno($self, /)\n"
             "--\n"
             "\n"
             "The same as fd(), so that the handle can be given to select and selectors.");

static PyObject *
handle_fileno(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return get_fd(handle_cast(self), "fileno()");
}

PyDoc_STRVAR(flush_doc,
             "flush($self, /)\n"
             "--\n"
             "\n"
             "Send the verdicts that are held back (see autoflush); nothing if there are none.\n"
             "\n"
             "Never waits. May be called from any thread, and from a callback. Raises ClosedError\n"
             "for a closed handle, OSError if they can't be sent, RuntimeError after fork.");

static PyObject *
handle_flush(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    if (lnfq_handle_check(handle_cast(self), "flush()") < 0
        || lnfq_handle_flush(handle_cast(self), "flush()") < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(stats_doc, "stats($self, /)\n"
                        "--\n"
                        "\n"
                        "The counters since open, as a HandleStats. Also of a closed handle.\n"
                        "\n"
                        "Raises RuntimeError after fork.");

static PyObject *
handle_stats(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    lnfq_handle *handle = handle_cast(self);
    struct lnfq_stats stats;

    if (lnfq_handle_check_forked(handle, "stats()") < 0) {
        return NULL;
    }
    lnfq_handle_lock(handle);
    stats = handle->stats;
    lnfq_handle_unlock(handle);

    PyObject *const values[] = {
        PyLong_FromUnsignedLongLong(stats.packets),
        PyLong_FromUnsignedLongLong(stats.verdicts),
        PyLong_FromUnsignedLongLong(stats.sends),
        PyLong_FromUnsignedLongLong(stats.receives),
        PyLong_FromUnsignedLongLong(stats.overruns),
        PyLong_FromUnsignedLongLong(stats.truncated),
        PyLong_FromUnsignedLongLong(stats.orphaned),
        PyLong_FromUnsignedLongLong(stats.verdict_errors),
        PyLong_FromUnsignedLongLong(stats.defaulted),
    };

    return lnfq_tuple_make(handle->state, LNFQ_TUPLE_HANDLE_STATS, values, Py_ARRAY_LENGTH(values));
}

PyDoc_STRVAR(
    close_doc,
    "close($self, /)\n"
    "--\n"
    "\n"
    "Destroy the queues and close the descriptor; does nothing if that has been done.\n"
    "\n"
    "Whoever waits in process() is woken, and gets a ClosedError. A child of fork has its\n"
    "parent's handles closed already. Never waits; may be called from any thread and from\n"
    "a callback. Raises nothing of its own: only what an adapter's or on_verdict_error's\n"
    "call raises that is no Exception, once the handle is closed. See nfq_close(3).");

static PyObject *
handle_close(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    if (close_handle(handle_cast(self)) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(enter_doc, "__enter__($self, /)\n"
                        "--\n"
                        "\n"
                        "Return the handle itself. Raises ClosedError if it is closed.");

static PyObject *
handle_enter(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    if (lnfq_handle_check(handle_cast(self), "__enter__()") < 0) {
        return NULL;
    }
    return Py_NewRef(self);
}

PyDoc_STRVAR(exit_doc, "__exit__($self, /, *exception)\n"
                       "--\n"
                       "\n"
                       "Call close().");

static PyObject *
handle_exit(PyObject *self, PyObject *Py_UNUSED(exception))
{
    return handle_close(self, NULL);
}

/* ---- type ---- */

static PyObject *
handle_get_closed(PyObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(lnfq_handle_closed(handle_cast(self)));
}

static PyObject *
handle_get_autoflush(PyObject *self, void *Py_UNUSED(closure))
{
    bool autoflush;

    lnfq_handle_lock(handle_cast(self));
    autoflush = handle_cast(self)->autoflush;
    lnfq_handle_unlock(handle_cast(self));
    return PyBool_FromLong(autoflush);
}

static int
handle_set_autoflush(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    lnfq_handle *handle = handle_cast(self);
    int autoflush;

    if (value == NULL) {
        PyErr_SetString(PyExc_TypeError, "autoflush can't be deleted");
        return -1;
    }
    autoflush = PyObject_IsTrue(value);
    if (autoflush < 0 || lnfq_handle_check(handle, "autoflush") < 0) {
        return -1;
    }
    lnfq_handle_lock(handle);
    handle->autoflush = autoflush != 0;
    lnfq_handle_unlock(handle);
    return autoflush ? lnfq_handle_flush(handle, "autoflush") : 0;
}

static PyObject *
handle_repr(PyObject *self)
{
    lnfq_handle *handle = handle_cast(self);
    bool closed;
    int fd;

    lnfq_handle_lock(handle);
    closed = handle->closed;
    fd = handle->fd;
    lnfq_handle_unlock(handle);
    return closed ? PyUnicode_FromFormat("<%s closed>", Py_TYPE(self)->tp_name)
                  : PyUnicode_FromFormat("<%s fd=%d>", Py_TYPE(self)->tp_name, fd);
}

static const struct lnfq_hook on_held = {"on_held", offsetof(lnfq_handle, on_held)};
static const struct lnfq_hook on_close = {"on_close", offsetof(lnfq_handle, on_close)};
static const struct lnfq_hook on_verdict_error = {"on_verdict_error",
                                                  offsetof(lnfq_handle, on_verdict_error)};

static PyMethodDef handle_methods[] = {
    {"bind_pf", handle_bind_pf, METH_O, bind_pf_doc},
    {"unbind_pf", handle_unbind_pf, METH_O, unbind_pf_doc},
    {"create_queue", (PyCFunction)(void (*)(void))handle_create_queue,
     METH_FASTCALL | METH_KEYWORDS, create_queue_doc},
    {"handle_packet", handle_handle_packet, METH_O, handle_packet_doc},
    {"process", (PyCFunction)(void (*)(void))handle_process, METH_FASTCALL | METH_KEYWORDS,
     process_doc},
    {"fd", handle_fd, METH_NOARGS, fd_doc},
    {"fileno", handle_fileno, METH_NOARGS, fileno_doc},
    {"flush", handle_flush, METH_NOARGS, flush_doc},
    {"stats", handle_stats, METH_NOARGS, stats_doc},
    {"close", handle_close, METH_NOARGS, close_doc},
    {"__enter__", handle_enter, METH_NOARGS, enter_doc},
    {"__exit__", handle_exit, METH_VARARGS, exit_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef handle_attributes[] = {
    {"closed", handle_get_closed, NULL, "Whether the handle is closed. A bool.", NULL},
    {"autoflush", handle_get_autoflush, handle_set_autoflush,
     "Whether verdicts given outside of callbacks are sent at once: a bool, True.\n\n"
     "If False, they wait for flush() or the end of the next dispatch, and leave together.\n"
     "Setting it to True sends those that wait. Setting it raises ClosedError for a closed\n"
     "handle, OSError if they can't be sent.",
     NULL},
    {"on_held", lnfq_hook_get, lnfq_hook_set,
     "For adapters: called without arguments when the first verdict is held back since the\n"
     "last were sent, in the thread that gives it. A callable or None.\n\n"
     "See autoflush. Setting it raises TypeError for what can't be called, ClosedError for\n"
     "a closed handle, RuntimeError after fork.",
     (void *)(uintptr_t)&on_held},
    {"on_close", lnfq_hook_get, lnfq_hook_set,
     "For adapters: called once, without arguments, before the descriptor closes. A callable\n"
     "or None.\n\n"
     "It is called in the thread that closes the handle. Setting it raises TypeError for\n"
     "what can't be called, ClosedError for a closed handle, RuntimeError after fork.",
     (void *)(uintptr_t)&on_close},
    {"on_verdict_error", lnfq_hook_get, lnfq_hook_set,
     "Called with (queue number, packet id, OSError) for each verdict that the kernel refused,\n"
     "or that could not be sent: a callable or None.\n\n"
     "It is called by process(), handle_packet() or close(), whichever reads the kernel's\n"
     "report. ENOENT is the most frequent reason: the kernel has dropped the packet meanwhile,\n"
     "for example with its device, or another verdict released it. EPERM: CAP_NET_ADMIN is\n"
     "gone, and the packet waits; the kernel reports only the first of the verdicts that were\n"
     "sent together. For a batch verdict the id is the last that it is about. The number is\n"
     "None on an adopted socket with NETLINK_CAP_ACK.\n\n"
     "EMSGSIZE: the verdict has a payload that does not fit in the send buffer (SO_SNDBUF). The\n"
     "packet has had its queue's default verdict instead. This is reported as soon as it is\n"
     "found out, by whichever call sends verdicts.\n\n"
     "What it raises goes to sys.unraisablehook, unless it is no Exception: KeyboardInterrupt\n"
     "and SystemExit come out of the call that reports.\n\n"
     "Setting it raises TypeError for what can't be called, ClosedError for a closed\n"
     "handle, RuntimeError after fork. Kernel: NLMSG_ERROR; netlink(7).",
     (void *)(uintptr_t)&on_verdict_error},
    {"rcvbuf", lnfq_handle_get_rcvbuf, lnfq_handle_set_rcvbuf,
     "The socket's receive buffer in bytes, as the kernel counts them: an int.\n\n"
     "Here wait the packets that nobody has read yet. The kernel charges a packet more than\n"
     "its length, and doubles what is set: reading tells twice that. It grows with each queue\n"
     "that is created, but not any more once it was set. Takes 0 to 2**31-1. Goes past the\n"
     "sysctl net.core.rmem_max with CAP_NET_ADMIN in the initial user namespace, else is cut\n"
     "to it; the kernel has a least size too. May be used from any thread, and from a\n"
     "callback. Raises ValueError for a number out of range, ClosedError for a closed handle,\n"
     "TypeError, OSError, RuntimeError after fork. Kernel: SO_RCVBUFFORCE, SO_RCVBUF;\n"
     "socket(7).",
     NULL},
    {"no_enobufs", lnfq_handle_get_no_enobufs, lnfq_handle_set_no_enobufs,
     "Whether the kernel keeps quiet about messages that the receive buffer had no room for: a\n"
     "bool, False.\n\n"
     "If True, neither a recv of your own fails with ENOBUFS nor does process() count\n"
     "overruns; the packets are lost as before. May be used from any thread, and from a\n"
     "callback. Raises ClosedError for a closed handle, OSError for an adopted descriptor\n"
     "that is no netlink socket, RuntimeError after fork. Kernel: NETLINK_NO_ENOBUFS;\n"
     "netlink(7).",
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(handle_doc,
             "One netlink socket, and the queues that are bound on it; made by open().\n"
             "\n"
             "It leaves the loop to you: receive on its descriptor and call handle_packet(), or\n"
             "call process(), which receives many messages at once. A context manager that\n"
             "closes it; a handle that is dropped open is closed with a ResourceWarning. May be\n"
             "used from several threads. See nfq_open(3).");

static PyType_Slot handle_slots[] = {
    {Py_tp_doc, (void *)(uintptr_t)handle_doc},
    {Py_tp_methods, handle_methods},
    {Py_tp_getset, handle_attributes},
    {Py_tp_repr, handle_repr},
    {Py_tp_finalize, handle_finalize},
    {Py_tp_traverse, handle_traverse},
    {Py_tp_dealloc, handle_dealloc},
    {0, NULL},
};

PyType_Spec lnfq_handle_spec = {
    .name = "libnetfilterqueue.NetfilterQueueHandle",
    .basicsize = sizeof(lnfq_handle),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION
             | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = handle_slots,
};
