/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Results as named tuples of libnetfilterqueue.tuples. That module needs this one's constants, so
 * it is imported when the first tuple is made. The types belong to the module's state. Once they
 * are there, they do not change. There is no lock.
 */
#include "tuples.h"

#include "state.h"

static const char *const tuples[LNFQ_TUPLES] = {
    [LNFQ_TUPLE_HANDLE_STATS] = "HandleStats",
    [LNFQ_TUPLE_QUEUE_STATUS] = "QueueStatus",
    [LNFQ_TUPLE_VLAN] = "Vlan",
    [LNFQ_TUPLE_CONNTRACK] = "Conntrack",
};

/* Its type, borrowed. */
static PyObject *
get_type(lnfq_state *state, enum lnfq_tuple which)
{
    PyObject *type = atomic_load(&state->tuples[which]);

    if (type == NULL) {
        PyObject *module = PyImport_ImportModule("libnetfilterqueue.tuples");

        type = module ? PyObject_GetAttrString(module, tuples[which]) : NULL;
        Py_XDECREF(module);
        type = lnfq_state_share(&state->tuples[which], type);
    }
    return type;
}

PyObject *
lnfq_tuples_make(lnfq_state *state, enum lnfq_tuple which, PyObject *const *values, size_t count)
{
    PyObject *type = get_type(state, which);
    PyObject *tuple = NULL;
    bool whole = type != NULL;

    for (size_t i = 0; i < count; i++) {
        whole = whole && values[i] != NULL;
    }
    if (whole) {
        tuple = PyObject_Vectorcall(type, values, count, NULL);
    }
    for (size_t i = 0; i < count; i++) {
        Py_XDECREF(values[i]);
    }
    return tuple;
}
