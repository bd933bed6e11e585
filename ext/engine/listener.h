/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Listeners: callables that a handle calls for others. Adapters set on_held, on_unsent and
 * on_close, users on_verdict_error. Each is an attribute of the handle. The caller holds the GIL
 * and not the lock.
 */
#ifndef LNFQ_LISTENER_H
#define LNFQ_LISTENER_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stddef.h>

#include "forward.h"

/* What a handle calls: the attribute's name, and where in the handle it is. */
struct lnfq_listener {
    const char *name;
    size_t offset;
};

/* Calls a listener without arguments, and drops the reference; NULL is none. Returns -1 with its
 * exception if that is not an Exception. Any other exception goes to the unraisable hook, and 1 is
 * returned; else 0. */
int lnfq_listener_call(PyObject *listener);

/* Calls on_unsent, which stays in its place; the same. It never waits for the lock. */
int lnfq_listener_call_unsent(lnfq_handle *handle);

/* Takes a listener out of its place, so that it is called once at most. NULL where there is none.
 */
PyObject *lnfq_listener_take(lnfq_handle *handle, PyObject **listener);

/* The `closure` is the listener. */
PyObject *lnfq_listener_get(PyObject *self, void *closure);
int lnfq_listener_set(PyObject *self, PyObject *value, void *closure);

#endif
