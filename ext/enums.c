/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Numbers as members of the enums of libnetfilterqueue.constants. That module is made from this
 * one's constants, so it is imported when the first member is asked for. The tables belong to the
 * module's state and, once there, do not change.
 */
#include "nfq.h"

/* How many members each table holds: the values from 0 on. */
static const struct {
    const char *name;
    Py_ssize_t count;
} enums[LNFQ_ENUMS] = {
    [LNFQ_ENUM_VERDICT] = {"Verdict", NF_MAX_VERDICT + 1},
    [LNFQ_ENUM_HOOK] = {"Hook", NF_INET_NUMHOOKS},
    [LNFQ_ENUM_SKB_INFO] = {"SkbInfo", NFQA_SKB_CSUM_NOTVERIFIED << 1},
};

static PyObject *
make_table(PyObject *type, Py_ssize_t count)
{
    PyObject *table = PyTuple_New(count);

    for (Py_ssize_t i = 0; table != NULL && i < count; i++) {
        PyObject *member = PyObject_CallFunction(type, "n", i);

        if (member == NULL) {
            Py_CLEAR(table);
        }
        else {
            PyTuple_SET_ITEM(table, i, member);
        }
    }
    return table;
}

static PyObject *
import_table(enum lnfq_enum which)
{
    PyObject *module = PyImport_ImportModule("libnetfilterqueue.constants");
    PyObject *type = module ? PyObject_GetAttrString(module, enums[which].name) : NULL;
    PyObject *table = type ? make_table(type, enums[which].count) : NULL;

    Py_XDECREF(module);
    Py_XDECREF(type);
    return table;
}

PyObject *
lnfq_enum_member(lnfq_state *state, enum lnfq_enum which, uint32_t value)
{
    if (value >= enums[which].count) {
        return PyLong_FromUnsignedLong(value);
    }
    if (state->enums[which] == NULL) {
        PyObject *table = import_table(which);

        if (table == NULL) {
            return NULL;
        }
        Py_XSETREF(state->enums[which], table);
    }
    return Py_NewRef(PyTuple_GET_ITEM(state->enums[which], (Py_ssize_t)value));
}
