/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Slots: who owns the bytes that packets look into. The caller holds the GIL.
 */
#ifndef LNFQ_SLOT_H
#define LNFQ_SLOT_H

#include <stdatomic.h>
#include <stddef.h>

#include "state.h"

typedef struct {
    PyObject_VAR_HEAD
    unsigned char *bytes;
    Py_buffer *borrowed; /* a caller's buffer, in `own`; NULL where the bytes are the slot's own */
    _Alignas(Py_buffer) unsigned char own[];
} lnfq_slot;

extern PyType_Spec lnfq_slot_spec;

/* A slot with `size` bytes of its own. */
lnfq_slot *lnfq_slot_new(lnfq_state *state, size_t size);

/* A slot that looks into a caller's buffer and holds it: the one in `spare`, if there is one. */
lnfq_slot *lnfq_slot_borrow(lnfq_state *state, _Atomic(lnfq_slot *) *spare, PyObject *buffer);

/* Takes such a slot; if nobody else looks into it, the buffer is released, and it becomes the spare
 * one. */
void lnfq_slot_give_back(_Atomic(lnfq_slot *) *spare, lnfq_slot *slot);

/* More than one object holds it from now on, or may: the garbage collector has to know it. */
void lnfq_slot_track(lnfq_slot *slot);

/* For the traversal of what holds a slot, which may be NULL, and holds it alone unless it is
 * tracked. */
int lnfq_slot_visit(lnfq_slot *slot, visitproc visit, void *arg);

#endif
