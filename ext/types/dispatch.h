/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From received messages to callbacks to verdicts. All functions return the number of packets that
 * were dispatched, or -1 with the first exception, unless a comment says otherwise.
 */
#ifndef LNFQ_DISPATCH_H
#define LNFQ_DISPATCH_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "forward.h"

/* `handle_packet`: what was set aside, then the buffer. */
Py_ssize_t lnfq_dispatch_buffer(lnfq_handle *handle, PyObject *buffer);

/* Up to `most` packets that were set aside. */
Py_ssize_t lnfq_dispatch_backlog(lnfq_handle *handle, Py_ssize_t most);

/* What `process` received. */
Py_ssize_t lnfq_dispatch_batch(lnfq_handle *handle, const lnfq_batch *batch);

#endif
