/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A handle: its object, and whether it is open; see handle.h.
 */
#include "handle.h"

#include <stdlib.h>
#include <string.h>

#include "backlog.h"
#include "fork.h"
#include "inlets.h"
#include "outbox.h"
#include "state.h"

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
    handle->waker_fd = -1;
    lnfq_fork_add(handle);
    atomic_init(&handle->readers, 0);
    atomic_init(&handle->expelling, 0);
    lnfq_hands_init(&handle->hands);
    atomic_init(&handle->unsettled, false);
    atomic_init(&handle->spare, NULL);
    atomic_init(&handle->spare_slot, NULL);
    atomic_init(&handle->blank, NULL);
    atomic_init(&handle->datagram_size, LNFQ_DATAGRAM_HEAD);
    handle->closed = true; /* until it is open */
    handle->autoflush = true;
    handle->hold_limit = -1;
    lnfq_backlog_init(&handle->backlog);
    lnfq_backlog_init(&handle->unclaimed);
    lnfq_mutex_init(&handle->lock);
    lnfq_mutex_init(&handle->receiving);
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

int
lnfq_handle_check(lnfq_handle *handle, const char *call)
{
    if (lnfq_handle_check_forked(handle, call) < 0) {
        return -1;
    }
    return atomic_load(&handle->closed) ? lnfq_handle_raise_closed(handle, call) : 0;
}
