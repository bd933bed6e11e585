/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The optional arguments of create_queue.
 */
#ifndef LNFQ_QUEUE_OPTIONS_H
#define LNFQ_QUEUE_OPTIONS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "binding.h"

/* How many there are, from `mode` on. */
#define LNFQ_QUEUE_OPTIONS 8

/* Reads those that were passed. 0, or -1 with an exception. */
int lnfq_queue_options_parse(PyObject *const values[LNFQ_QUEUE_OPTIONS],
                             struct lnfq_queue_options *options);

#endif
