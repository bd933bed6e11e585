/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The module's state: the types and exceptions, and the tables that are filled when they are
 * needed. The state does not change after initialisation, except for those tables, which are
 * atomic. There is no lock.
 */
#ifndef LNFQ_STATE_H
#define LNFQ_STATE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdatomic.h>
#include <stdbool.h>

/* The enums whose members are returned. */
enum lnfq_enum {
    LNFQ_ENUM_VERDICT,
    LNFQ_ENUM_HOOK,
    LNFQ_ENUM_SKB_INFO,
    LNFQ_ENUM_COPY_MODE,
    LNFQ_ENUMS,
};

/* The named tuples that are returned. */
enum lnfq_tuple {
    LNFQ_TUPLE_HANDLE_STATS,
    LNFQ_TUPLE_QUEUE_STATUS,
    LNFQ_TUPLE_VLAN,
    LNFQ_TUPLE_CONNTRACK,
    LNFQ_TUPLES,
};

typedef struct {
    PyTypeObject *handle_type;
    PyTypeObject *queue_type;
    PyTypeObject *packet_type;
    PyTypeObject *slot_type;
    PyObject *closed_error;
    PyObject *malformed_error;
    PyObject *verdict_error;
    _Atomic(PyObject *) enums[LNFQ_ENUMS];   /* tuples of members; NULL until one is asked for */
    _Atomic(PyObject *) tuples[LNFQ_TUPLES]; /* types; NULL until one is made */
} lnfq_state;

/* The table or type in `place`, a borrowed reference: what is there, or `made`, whose reference it
 * steals. NULL if `made` is NULL. Several threads may call it at the same time: all get the first
 * one's. */
PyObject *lnfq_state_share(_Atomic(PyObject *) *place, PyObject *made);

#endif
