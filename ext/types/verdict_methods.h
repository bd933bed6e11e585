/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A packet's methods that give it a verdict, and the attribute that says which it has.
 */
#ifndef LNFQ_VERDICT_METHODS_H
#define LNFQ_VERDICT_METHODS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

PyObject *lnfq_verdict_methods_set_verdict(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                           PyObject *kwnames);
PyObject *lnfq_verdict_methods_accept(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                      PyObject *kwnames);
PyObject *lnfq_verdict_methods_drop(PyObject *self, PyObject *ignored);

PyObject *lnfq_verdict_methods_settle(PyObject *self, PyObject *ignored);
PyObject *lnfq_verdict_methods_repeat(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                      PyObject *kwnames);
PyObject *lnfq_verdict_methods_requeue(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                       PyObject *kwnames);
PyObject *lnfq_verdict_methods_get_verdict(PyObject *self, void *closure);

#endif
