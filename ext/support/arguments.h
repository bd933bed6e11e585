/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Arguments of calls: their places, types and ranges. The caller holds the GIL. There is no state
 * and no lock.
 */
#ifndef LNFQ_ARGUMENTS_H
#define LNFQ_ARGUMENTS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <stdint.h>

#include "nested.h"

/* What the next one does where there are keywords, or too few or too many arguments. */
int lnfq_arguments_sort(const char *call, const char *const *names, Py_ssize_t required,
                        Py_ssize_t positional, PyObject *const *args, Py_ssize_t nargs,
                        PyObject *kwnames, PyObject **values);

/*
 * Sorts positional and keyword arguments into `values`, borrowed, in the order of `names`; those
 * that were not passed are left alone. The first `required` must be there; keywords only from
 * `positional` on. Returns 0, or -1 with TypeError.
 */
static inline int
lnfq_arguments_parse(const char *call, const char *const *names, Py_ssize_t required,
                     Py_ssize_t positional, PyObject *const *args, Py_ssize_t nargs,
                     PyObject *kwnames, PyObject **values)
{
    if (kwnames != NULL || nargs < required || nargs > positional) {
        return lnfq_arguments_sort(call, names, required, positional, args, nargs, kwnames, values);
    }
    for (Py_ssize_t i = 0; i < nargs; i++) {
        values[i] = args[i];
    }
    return 0;
}

/* Raises `error`, a TypeError or the like unless it is ValueError: the rule that the format says,
 * and which value breaks it. */
void lnfq_arguments_refuse(PyObject *error, PyObject *object, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Reads an int in lowest..highest. Returns 0, or -1 with TypeError or ValueError naming `what`. */
int lnfq_arguments_int(PyObject *object, const char *what, int64_t lowest, int64_t highest,
                       int64_t *value);

/* Whether an optional argument was passed, and is not None. */
static inline bool
lnfq_arguments_given(PyObject *object)
{
    return object != NULL && object != Py_None;
}

/* Whether an attribute's setter was given a value. Without one the attribute is being deleted,
 * which raises TypeError. */
bool lnfq_arguments_assigned(PyObject *value, const char *attribute);

/* Reads a number of 32 bits that may be left out: then it stays as it is. 0, or -1. */
int lnfq_arguments_optional(PyObject *object, const char *what, struct lnfq_optional *number);

/* Reads seconds as select does: 0 where it was not passed, -1 for None. 0, or -1 with an exception.
 */
int lnfq_arguments_timeout(PyObject *object, const char *what, double *timeout);

/* Reads a descriptor, or what has a fileno() method; `kinds` says what else `what` may be. Returns
 * it, or -1 with an exception. */
int lnfq_arguments_descriptor(PyObject *object, const char *what, const char *kinds);

/* Reads a verdict as an int; ValueError for one that user space may not give. 0, or -1. */
int lnfq_arguments_verdict(PyObject *object, const char *what, uint32_t *verdict);

/* Reads the arguments (number, bypass=False) of a call, as the verdict that passes a packet on. */
int lnfq_arguments_queue_nr(const char *call, PyObject *const *args, Py_ssize_t nargs,
                            PyObject *kwnames, uint32_t *verdict);

#endif
