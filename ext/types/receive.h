/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `process`.
 */
#ifndef LNFQ_RECEIVE_H
#define LNFQ_RECEIVE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "forward.h"

/* `process`. `timeout` in seconds, negative for ever. Returns the number of packets or -1. */
Py_ssize_t lnfq_receive_process(lnfq_handle *handle, Py_ssize_t max_packets, double timeout);

#endif
