/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The attributes of a handle that tell when verdicts leave; see handle_settings.h.
 */
#include "handle_settings.h"

#include <stdbool.h>
#include <stdint.h>

#include "arguments.h"
#include "clock.h"
#include "flush.h"
#include "handle.h"
#include "lock.h"

static inline lnfq_handle *
handle_cast(PyObject *self)
{
    return (lnfq_handle *)self;
}

PyObject *
lnfq_handle_settings_get_autoflush(PyObject *self, void *Py_UNUSED(closure))
{
    bool autoflush;

    lnfq_lock_acquire(handle_cast(self));
    autoflush = handle_cast(self)->autoflush;
    lnfq_lock_release(handle_cast(self));
    return PyBool_FromLong(autoflush);
}

int
lnfq_handle_settings_set_autoflush(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
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
    lnfq_lock_acquire(handle);
    handle->autoflush = autoflush != 0;
    lnfq_lock_release(handle);
    return autoflush ? lnfq_flush_now(handle, "autoflush") : 0;
}

PyObject *
lnfq_handle_settings_get_hold_limit(PyObject *self, void *Py_UNUSED(closure))
{
    int64_t limit;

    lnfq_lock_acquire(handle_cast(self));
    limit = handle_cast(self)->hold_limit;
    lnfq_lock_release(handle_cast(self));
    if (limit < 0) {
        Py_RETURN_NONE;
    }
    return PyFloat_FromDouble((double)limit / LNFQ_CLOCK_SECOND);
}

int
lnfq_handle_settings_set_hold_limit(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    lnfq_handle *handle = handle_cast(self);
    double limit;

    if (value == NULL) {
        PyErr_SetString(PyExc_TypeError, "hold_limit can't be deleted");
        return -1;
    }
    if (lnfq_arguments_timeout(value, "hold_limit", &limit) < 0
        || lnfq_handle_check(handle, "hold_limit") < 0) {
        return -1;
    }
    lnfq_lock_acquire(handle);
    handle->hold_limit = limit < 0 ? -1 : (int64_t)(limit * LNFQ_CLOCK_SECOND);
    handle->hold_start = lnfq_clock_now();
    lnfq_lock_release(handle);
    return 0;
}
