/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Listeners; see listener.h.
 */
#include "listener.h"

#include "arguments.h"
#include "callback.h"
#include "error.h"
#include "handle.h"
#include "lock.h"
#include "reference.h"

int
lnfq_listener_call(PyObject *listener)
{
    PyObject *result;
    int failed = 0;

    if (listener == NULL) {
        return 0;
    }
    result = PyObject_CallNoArgs(listener);
    if (result == NULL) {
        failed = lnfq_error_tell(listener) < 0 ? -1 : 1;
    }
    Py_XDECREF(result);
    Py_DECREF(listener);
    return failed;
}

int
lnfq_listener_call_unsent(lnfq_handle *handle)
{
    PyObject *listener;

    Py_BEGIN_CRITICAL_SECTION(handle);
    listener = Py_XNewRef(handle->on_unsent);
    Py_END_CRITICAL_SECTION();
    return lnfq_listener_call(listener);
}

PyObject *
lnfq_listener_take(lnfq_handle *handle, PyObject **listener)
{
    PyObject *taken;

    lnfq_lock_acquire(handle);
    Py_BEGIN_CRITICAL_SECTION(handle); /* a child of fork and a destructor have no lock */
    taken = *listener;
    *listener = NULL;
    Py_END_CRITICAL_SECTION();
    lnfq_lock_release(handle);
    return taken;
}

static PyObject **
listener_place(lnfq_handle *handle, const struct lnfq_listener *listener)
{
    return (PyObject **)(void *)((char *)handle + listener->offset);
}

PyObject *
lnfq_listener_get(PyObject *self, void *closure)
{
    lnfq_handle *handle = (lnfq_handle *)self;
    PyObject *listener;

    lnfq_lock_acquire(handle);
    listener = Py_XNewRef(*listener_place(handle, closure));
    lnfq_lock_release(handle);
    return listener != NULL ? listener : Py_NewRef(Py_None);
}

int
lnfq_listener_set(PyObject *self, PyObject *value, void *closure)
{
    lnfq_handle *handle = (lnfq_handle *)self;
    const struct lnfq_listener *listener = closure;
    PyObject *former;

    if (!lnfq_arguments_assigned(value, listener->name)
        || (value != Py_None && lnfq_callback_check(value, listener->name) < 0)
        || lnfq_handle_check(handle, listener->name) < 0) {
        return -1;
    }
    lnfq_lock_acquire(handle);
    Py_BEGIN_CRITICAL_SECTION(handle);
    former = *listener_place(handle, listener);
    *listener_place(handle, listener) = value != Py_None ? Py_NewRef(value) : NULL;
    Py_END_CRITICAL_SECTION();
    lnfq_lock_release(handle);
    Py_XDECREF(former);
    return 0;
}
