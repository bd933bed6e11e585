/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The one funnel from errno to exceptions, and what keeps the first exception of a batch. The
 * caller holds the GIL. There is no state and no lock.
 */
#ifndef LNFQ_ERROR_H
#define LNFQ_ERROR_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>

/* The OSError of `error`: "operation: strerror: remedy"; `remedy` may be empty. NULL with another
 * exception. */
PyObject *lnfq_error_new(int error, const char *remedy, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Raises it. */
void lnfq_error_raise(int error, const char *remedy, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Takes the raised exception away; NULL where there is none. */
PyObject *lnfq_error_take(void);

/* Raises an exception that lnfq_error_take took; steals the reference. */
void lnfq_error_restore(PyObject *exception);

/* Whether it is not an Exception (KeyboardInterrupt, SystemExit, GreenletExit): it "leaves", and
 * ends every loop at once. */
bool lnfq_error_leaves(PyObject *exception);

/* Gives the raised exception to the unraisable hook, and returns 0. Returns -1 if it leaves: then
 * it stays raised. */
int lnfq_error_tell(PyObject *where);

/*
 * Keeps the raised exception in `first`. If there is one already, the unraisable hook gets the
 * raised one; if only the raised one leaves, the hook gets the earlier one. Returns whether it
 * leaves.
 */
bool lnfq_error_collect(PyObject **first, PyObject *where);

#endif
