/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What others have a handle call: adapters on_held and on_close, users on_verdict_error.
 */
#include "nfq.h"

int
lnfq_hook_call(PyObject *hook)
{
    PyObject *result;
    int told = 0;

    if (hook == NULL) {
        return 0;
    }
    result = PyObject_CallNoArgs(hook);
    if (result == NULL) {
        told = lnfq_error_tell(hook);
    }
    Py_XDECREF(result);
    Py_DECREF(hook);
    return told;
}

PyObject *
lnfq_hook_take(lnfq_handle *handle, PyObject **hook)
{
    PyObject *taken;

    lnfq_handle_lock(handle);
    Py_BEGIN_CRITICAL_SECTION(handle); /* a child of fork has no lock */
    taken = *hook;
    *hook = NULL;
    Py_END_CRITICAL_SECTION();
    lnfq_handle_unlock(handle);
    return taken;
}

static PyObject **
hook_place(lnfq_handle *handle, const struct lnfq_hook *hook)
{
    return (PyObject **)(void *)((char *)handle + hook->offset);
}

PyObject *
lnfq_hook_get(PyObject *self, void *closure)
{
    lnfq_handle *handle = (lnfq_handle *)self;
    PyObject *hook;

    lnfq_handle_lock(handle);
    hook = Py_XNewRef(*hook_place(handle, closure));
    lnfq_handle_unlock(handle);
    return hook != NULL ? hook : Py_NewRef(Py_None);
}

int
lnfq_hook_set(PyObject *self, PyObject *value, void *closure)
{
    lnfq_handle *handle = (lnfq_handle *)self;
    const struct lnfq_hook *hook = closure;
    PyObject *former;

    if (value == NULL) {
        PyErr_Format(PyExc_TypeError, "%s can't be deleted", hook->name);
        return -1;
    }
    if ((value != Py_None && lnfq_callback_check(value, hook->name) < 0)
        || lnfq_handle_check(handle, hook->name) < 0) {
        return -1;
    }
    lnfq_handle_lock(handle);
    former = *hook_place(handle, hook);
    *hook_place(handle, hook) = value != Py_None ? Py_NewRef(value) : NULL;
    lnfq_handle_unlock(handle);
    Py_XDECREF(former);
    return 0;
}
