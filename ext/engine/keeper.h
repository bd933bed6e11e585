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

#include "handle.h"

/* Notes that somebody keeps the socket; see handle.h. Takes over `record`, which is not a
 * memoryview's: the collector clears those while others hold them. Takes a reference to
 * `on_unbind`. Nobody else knows the handle yet. */
void lnfq_keeper_note(lnfq_handle *handle, enum lnfq_kept_state state, bool tired,
                      Py_buffer *record, PyObject *on_unbind);

/* With the lock: notes something for the next process. */
static inline void
lnfq_keeper_record(lnfq_handle *handle, enum lnfq_record what)
{
    if (handle->keeper.record != NULL) {
        handle->keeper.record[what] = 1;
    }
}

/* For the garbage collector, and when the handle goes. */
int lnfq_keeper_visit(const lnfq_handle *handle, visitproc visit, void *arg);
void lnfq_keeper_release(lnfq_handle *handle);

#endif
