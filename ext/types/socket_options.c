/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The options of the handle's socket: attributes of the handle, which the kernel remembers.
 *
 * Each option is read and set under the handle's lock, because another thread may close the
 * descriptor.
 */
#include "socket_options.h"

#include <errno.h>
#include <limits.h>
#include <linux/netlink.h>
#include <sys/socket.h>
#include <unistd.h>

#include "arguments.h"
#include "error.h"
#include "handle.h"
#include "lock.h"
#include "rcvbuf.h"
#include "remedy.h"
#include "transport.h"

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
    thread = lnfq_lock_enter(handle);
    closed = handle->closed;
    error = closed ? 0 : call(handle, value);
    lnfq_lock_leave(handle, thread);
    if (closed) {
        return lnfq_handle_raise_closed(handle, name);
    }
    if (error != 0) {
        if (*remedy == '\0') {
            remedy = lnfq_remedy_descriptor(error);
        }
        lnfq_error_raise(error, remedy, "%s", name);
        return -1;
    }
    return 0;
}

/* ---- rcvbuf ---- */

PyObject *
lnfq_socket_options_get_rcvbuf(PyObject *self, void *Py_UNUSED(closure))
{
    int size = 0;

    if (call_option((lnfq_handle *)self, "rcvbuf", lnfq_rcvbuf_read, &size, "") < 0) {
        return NULL;
    }
    return PyLong_FromLong(size);
}

int
lnfq_socket_options_set_rcvbuf(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    int64_t number;
    int size;

    if (!lnfq_arguments_assigned(value, "rcvbuf")) {
        return -1;
    }
    if (lnfq_arguments_int(value, "rcvbuf", 0, INT_MAX, &number) < 0) {
        return -1;
    }
    size = (int)number;
    return call_option((lnfq_handle *)self, "rcvbuf", lnfq_rcvbuf_write, &size, "");
}

/* ---- no_enobufs ---- */

static int
read_no_enobufs(lnfq_handle *handle, int *value)
{
    return lnfq_transport_get_option(handle->fd, SOL_NETLINK, NETLINK_NO_ENOBUFS, value);
}

static int
write_no_enobufs(lnfq_handle *handle, int *value)
{
    handle->quiet |= *value != 0; /* from then on nobody knows */
    return lnfq_transport_set_option(handle->fd, SOL_NETLINK, NETLINK_NO_ENOBUFS, *value);
}

static int
call_no_enobufs(PyObject *self, option_call call, int *value)
{
    lnfq_handle *handle = (lnfq_handle *)self;
    const char *remedy = handle->kernel ? "" : LNFQ_REMEDY_NO_NETLINK;

    return call_option(handle, "no_enobufs", call, value, remedy);
}

PyObject *
lnfq_socket_options_get_no_enobufs(PyObject *self, void *Py_UNUSED(closure))
{
    int value = 0;

    if (call_no_enobufs(self, read_no_enobufs, &value) < 0) {
        return NULL;
    }
    return PyBool_FromLong(value);
}

int
lnfq_socket_options_set_no_enobufs(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    int truth;

    if (!lnfq_arguments_assigned(value, "no_enobufs")) {
        return -1;
    }
    truth = PyObject_IsTrue(value);
    return truth < 0 ? -1 : call_no_enobufs(self, write_no_enobufs, &truth);
}
