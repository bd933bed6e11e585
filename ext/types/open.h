/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Opening handles.
 */
#ifndef LNFQ_OPEN_H
#define LNFQ_OPEN_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "state.h"

/* Opens a socket, in the namespace that `netns` is a descriptor on, or with -1 in the thread's. */
PyObject *lnfq_open_socket(lnfq_state *state, int netns);

/* On a duplicate of the descriptor. */
PyObject *lnfq_open_adopted(lnfq_state *state, int fd);

#endif
