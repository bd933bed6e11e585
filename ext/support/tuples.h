/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Results as named tuples of libnetfilterqueue.tuples. The caller holds the GIL.
 */
#ifndef LNFQ_TUPLES_H
#define LNFQ_TUPLES_H

#include <stddef.h>

#include "state.h"

/* A named tuple of the values, which it steals; NULL among them stands for an exception. */
PyObject *lnfq_tuples_make(lnfq_state *state, enum lnfq_tuple which, PyObject *const *values,
                           size_t count);

#endif
