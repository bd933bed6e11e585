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

PyObject *
lnfq_handle_settings_get_autoflush(PyObject *self, void *Py_UNUSED(closure))
{
    lnfq_handle *handle = (lnfq_handle *)self;
    bool autoflush;

    lnfq_lock_acquire(handle);
    autoflush = handle->autoflush;
    lnfq_lock_release(handle);
    return PyBool_FromLong(autoflush);
}

int
lnfq_handle_settings_set_autoflush(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    lnfq_handle *handle = (lnfq_handle *)self;
    int autoflush;

    if (!lnfq_arguments_assigned(value, "autoflush")) {
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
    lnfq_handle *handle = (lnfq_handle *)self;
    int64_t limit;

    lnfq_lock_acquire(handle);
    limit = handle->hold_limit;
    lnfq_lock_release(handle);
    if (limit < 0) {
        Py_RETURN_NONE;
    }
    return PyFloat_FromDouble((double)limit / LNFQ_CLOCK_SECOND);
}

int
lnfq_handle_settings_set_hold_limit(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    lnfq_handle *handle = (lnfq_handle *)self;
    double limit;

    if (!lnfq_arguments_assigned(value, "hold_limit")) {
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
