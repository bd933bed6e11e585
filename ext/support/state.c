/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The module's state; see state.h.
 */
#include "state.h"

PyObject *
lnfq_state_share(_Atomic(PyObject *) *place, PyObject *made)
{
    PyObject *there = NULL;

    if (made == NULL || atomic_compare_exchange_strong(place, &there, made)) {
        return made;
    }
    Py_DECREF(made);
    return there;
}
