/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A handle whose socket outlives the process, because somebody keeps a copy of its descriptor:
 * libnetfilterqueue.keeping. The caller holds the GIL.
 */
#ifndef LNFQ_KEEPER_H
#define LNFQ_KEEPER_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>

#include "forward.h"

/* Whether the queues outlive the handle. */
enum lnfq_kept_state {
    LNFQ_KEPT_NO,
    LNFQ_KEPT_YES,
    LNFQ_KEPT_UNKNOWN,
};

/* What the next process is to know of this one: a byte each, which becomes 1. */
enum lnfq_record {
    LNFQ_RECORD_ANSWERED, /* a verdict was sent */
    LNFQ_RECORD_RECEIVED, /* a callback was given a packet */
};

/* Who keeps the socket. */
struct lnfq_keeper {
    enum lnfq_kept_state state;
    bool tired;            /* readers ended again and again: packets are not repeated any more */
    Py_buffer view;        /* memory that is kept too */
    unsigned char *record; /* its first bytes: see enum lnfq_record; NULL for none */
    PyObject *on_unbind;   /* strong: called once all queues are unbound for good */
};

/* Notes that somebody keeps the socket. Takes over `record`, which is not a
 * memoryview's: the collector clears those while others hold them. Takes a reference to
 * `on_unbind`. Nobody else knows the handle yet. */
void lnfq_keeper_note(lnfq_handle *handle, enum lnfq_kept_state state, bool tired,
                      Py_buffer *record, PyObject *on_unbind);

/* With the lock: notes something for the next process. */
static inline void
lnfq_keeper_record(struct lnfq_keeper *keeper, enum lnfq_record what)
{
    if (keeper->record != NULL) {
        keeper->record[what] = 1;
    }
}

/* For the garbage collector, and when the handle goes. */
int lnfq_keeper_visit(const lnfq_handle *handle, visitproc visit, void *arg);
void lnfq_keeper_release(lnfq_handle *handle);

#endif
