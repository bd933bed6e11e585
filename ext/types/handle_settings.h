/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The attributes of a handle that tell when verdicts leave: autoflush and hold_limit, as
 * PyGetSetDef wants them.
 */
#ifndef LNFQ_HANDLE_SETTINGS_H
#define LNFQ_HANDLE_SETTINGS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

PyObject *lnfq_handle_settings_get_autoflush(PyObject *self, void *closure);
int lnfq_handle_settings_set_autoflush(PyObject *self, PyObject *value, void *closure);
PyObject *lnfq_handle_settings_get_hold_limit(PyObject *self, void *closure);
int lnfq_handle_settings_set_hold_limit(PyObject *self, PyObject *value, void *closure);

#endif
