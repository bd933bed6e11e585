/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Numbers as members of the enums of libnetfilterqueue.constants. That module uses this one's
 * constants, so it is imported when the first member is needed. The tables belong to the module's
 * state. Once they are filled, they do not change. There is no lock.
 */
#include "enums.h"

#include <netinet/in.h> /* before the kernel's, which then leaves it its names */

#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink_queue.h>

#include "state.h"

/* How many members each table holds: the values from 0 on. What is beyond is a member that the enum
 * makes (flags; what newer kernels may send) or, of verdicts, an int. */
static const struct {
    const char *name;
    Py_ssize_t count;
    bool open;
} enums[LNFQ_ENUMS] = {
    [LNFQ_ENUM_VERDICT] = {"Verdict", NF_MAX_VERDICT + 1, false},
    [LNFQ_ENUM_HOOK] = {"Hook", NF_INET_NUMHOOKS, true},
    [LNFQ_ENUM_SKB_INFO] = {"SkbInfo", NFQA_SKB_CSUM_NOTVERIFIED << 1, true},
    [LNFQ_ENUM_COPY_MODE] = {"CopyMode", NFQNL_COPY_PACKET + 1, true},
};

static PyObject *
import_enum(enum lnfq_enum which)
{
    PyObject *module = PyImport_ImportModule("libnetfilterqueue.constants");
    PyObject *type = module ? PyObject_GetAttrString(module, enums[which].name) : NULL;

    Py_XDECREF(module);
    return type;
}

/* The enum's member of a value that has none in the table. */
static PyObject *
make_member(enum lnfq_enum which, uint32_t value)
{
    PyObject *type = import_enum(which);
    PyObject *member = type ? PyObject_CallFunction(type, "I", value) : NULL;

    Py_XDECREF(type);
    return member;
}

static PyObject *
make_table(enum lnfq_enum which)
{
    PyObject *table = PyTuple_New(enums[which].count);

    for (Py_ssize_t i = 0; table != NULL && i < enums[which].count; i++) {
        PyObject *member = make_member(which, (uint32_t)i);

        if (member == NULL) {
            Py_CLEAR(table);
        }
        else {
            PyTuple_SET_ITEM(table, i, member);
        }
    }
    return table;
}

PyObject *
lnfq_enums_member(lnfq_state *state, enum lnfq_enum which, uint32_t value)
{
    PyObject *table;

    if (value >= enums[which].count) {
        return enums[which].open ? make_member(which, value) : PyLong_FromUnsignedLong(value);
    }
    table = atomic_load(&state->enums[which]);
    if (table == NULL) {
        table = lnfq_state_share(&state->enums[which], make_table(which));
    }
    return table != NULL ? Py_NewRef(PyTuple_GET_ITEM(table, (Py_ssize_t)value)) : NULL;
}
