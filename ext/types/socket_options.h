/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The options of the handle's socket, as attributes of the handle.
 */
#ifndef LNFQ_SOCKET_OPTIONS_H
#define LNFQ_SOCKET_OPTIONS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

PyObject *lnfq_socket_options_get_rcvbuf(PyObject *self, void *closure);
int lnfq_socket_options_set_rcvbuf(PyObject *self, PyObject *value, void *closure);
PyObject *lnfq_socket_options_get_no_enobufs(PyObject *self, void *closure);
int lnfq_socket_options_set_no_enobufs(PyObject *self, PyObject *value, void *closure);

#endif
