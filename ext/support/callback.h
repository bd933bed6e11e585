/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Callables that get packets and reports. The caller holds the GIL. There is no state and no lock.
 */
#ifndef LNFQ_CALLBACK_H
#define LNFQ_CALLBACK_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* Whether an object can be called, and then does something. 0, or -1 with TypeError. */
int lnfq_callback_check(PyObject *object, const char *what);

/* Takes what a callback has returned, and returns it; NULL with TypeError for an awaitable, which
 * is closed. */
PyObject *lnfq_callback_result(PyObject *callback, PyObject *result);

#endif
