/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The options of the handle's socket: attributes of the handle, which the kernel remembers.
 *
 * Each is read and set under the handle's lock, since another thread may close the descriptor.
 */
#include "nfq.h"

#include <errno.h>
#include <limits.h>
#include <linux/netlink.h>
#include <sys/socket.h>
#include <unistd.h>

/* Reads or sets an option with the lock and without the GIL. Returns 0 or an errno. */
typedef int (*option_call)(lnfq_handle *handle, int *value);

/* Calls it on the handle's descriptor. 0, or -1 with an exception; `remedy` may be empty. */
static int
call_option(lnfq_handle *handle, const char *name, option_call call, int *value, const char *remedy)
{
    PyThreadState *thread;
    bool closed;
    int error;

    if (lnfq_handle_check_forked(handle, name) < 0) {
        return -1;
    }
    thread = lnfq_handle_enter(handle);
    closed = handle->closed;
    error = closed ? 0 : call(handle, value);
    lnfq_handle_leave(handle, thread);
    if (closed) {
        return lnfq_handle_raise_closed(handle, name);
    }
    if (error != 0) {
        if (*remedy == '\0') {
            remedy = lnfq_error_descriptor(error);
        }
        lnfq_error_raise(error, remedy, "%s", name);
        return -1;
    }
    return 0;
}

static int
get_option(int fd, int level, int option, int *value)
{
    socklen_t size = sizeof(*value);

    return getsockopt(fd, level, option, value, &size) < 0 ? errno : 0;
}

static int
set_option(int fd, int level, int option, int value)
{
    return setsockopt(fd, level, option, &value, sizeof(value)) < 0 ? errno : 0;
}

/* ---- rcvbuf ---- */

/* What a packet of 1500 bytes takes of it, and how far it grows, as the kernel counts. */
#define PACKET_COST 2304
#define RCVBUF_MOST (64 << 20)

#define RCVBUF_MIN 2304 /* SOCK_MIN_RCVBUF */

static int
read_rcvbuf(lnfq_handle *handle, int *value)
{
    if (handle->patient) {
        *value = handle->rcvbuf;
        return 0;
    }
    return get_option(handle->fd, SOL_SOCKET, SO_RCVBUF, value);
}

/* The same for one who plays the kernel: the size as the kernel would report it. */
static int
tell_rcvbuf(lnfq_handle *handle, int size)
{
    _Alignas(struct nlmsghdr) unsigned char bytes[LNFQ_REQUEST_SIZE_MAX];

    handle->rcvbuf = 2 * size > RCVBUF_MIN ? 2 * size : RCVBUF_MIN;
    handle->seq += 1;
    return lnfq_peer_send(handle, bytes,
                          lnfq_request_put_rcvbuf(bytes, handle->seq, handle->rcvbuf));
}

/* Past rmem_max where we may go past it, else as far as it goes. */
static int
write_rcvbuf(lnfq_handle *handle, int *value)
{
    /* The kernel doubles it, and old ones let that overflow. */
    int size = *value < INT_MAX / 2 ? *value : INT_MAX / 2;
    int error = handle->patient ? tell_rcvbuf(handle, size)
                                : set_option(handle->fd, SOL_SOCKET, SO_RCVBUFFORCE, size);

    if (error == EPERM) {
        error = set_option(handle->fd, SOL_SOCKET, SO_RCVBUF, size);
    }
    handle->rcvbuf_set |= error == 0;
    return error;
}

int
lnfq_handle_set_rcvbuf_to(lnfq_handle *handle, int size)
{
    return write_rcvbuf(handle, &size);
}

/* What the kernel allows without privileges, as it reports it; 0 where that can't be seen. */
static int
allowed_rcvbuf(void)
{
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int size = 0;

    if (fd >= 0) {
        if (set_option(fd, SOL_SOCKET, SO_RCVBUF, INT_MAX / 2) == 0) {
            (void)get_option(fd, SOL_SOCKET, SO_RCVBUF, &size);
        }
        (void)close(fd);
    }
    return size;
}

void
lnfq_handle_grow_rcvbuf(lnfq_handle *handle, uint32_t more)
{
    uint64_t packets = more;
    uint64_t most = RCVBUF_MOST / PACKET_COST;
    int size, wanted;

    for (size_t i = 0; i < handle->queue_count; i++) {
        packets += handle->queues[i]->maxlen;
    }
    wanted = packets < most ? (int)packets * PACKET_COST : RCVBUF_MOST;
    if (handle->rcvbuf_set || read_rcvbuf(handle, &size) != 0 || size >= wanted) {
        return;
    }
    /* The kernel doubles what is set. */
    if (handle->patient) {
        (void)tell_rcvbuf(handle, wanted / 2);
    }
    else if (set_option(handle->fd, SOL_SOCKET, SO_RCVBUFFORCE, wanted / 2) == EPERM
             && allowed_rcvbuf() > size) { /* else it would shrink */
        (void)set_option(handle->fd, SOL_SOCKET, SO_RCVBUF, wanted / 2);
    }
}

PyObject *
lnfq_handle_get_rcvbuf(PyObject *self, void *Py_UNUSED(closure))
{
    int size = 0;

    if (call_option((lnfq_handle *)self, "rcvbuf", read_rcvbuf, &size, "") < 0) {
        return NULL;
    }
    return PyLong_FromLong(size);
}

int
lnfq_handle_set_rcvbuf(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    int64_t number;
    int size;

    if (value == NULL) {
        PyErr_SetString(PyExc_TypeError, "rcvbuf can't be deleted");
        return -1;
    }
    if (lnfq_parse_int(value, "rcvbuf", 0, INT_MAX, &number) < 0) {
        return -1;
    }
    size = (int)number;
    return call_option((lnfq_handle *)self, "rcvbuf", write_rcvbuf, &size, "");
}

/* ---- no_enobufs ---- */

static int
read_no_enobufs(lnfq_handle *handle, int *value)
{
    return get_option(handle->fd, SOL_NETLINK, NETLINK_NO_ENOBUFS, value);
}

static int
write_no_enobufs(lnfq_handle *handle, int *value)
{
    handle->quiet |= *value != 0; /* from then on nobody knows */
    return set_option(handle->fd, SOL_NETLINK, NETLINK_NO_ENOBUFS, *value);
}

static int
call_no_enobufs(PyObject *self, option_call call, int *value)
{
    lnfq_handle *handle = (lnfq_handle *)self;
    const char *remedy = handle->kernel ? "" : "the descriptor is no netlink socket";

    return call_option(handle, "no_enobufs", call, value, remedy);
}

PyObject *
lnfq_handle_get_no_enobufs(PyObject *self, void *Py_UNUSED(closure))
{
    int value = 0;

    if (call_no_enobufs(self, read_no_enobufs, &value) < 0) {
        return NULL;
    }
    return PyBool_FromLong(value);
}

int
lnfq_handle_set_no_enobufs(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    int truth;

    if (value == NULL) {
        PyErr_SetString(PyExc_TypeError, "no_enobufs can't be deleted");
        return -1;
    }
    truth = PyObject_IsTrue(value);
    return truth < 0 ? -1 : call_no_enobufs(self, write_no_enobufs, &truth);
}
