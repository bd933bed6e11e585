/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A slot owns the bytes that packets and views look into: bytes of its own, or a caller's buffer
 * that it holds. Every user of the bytes holds a reference to the slot. When the last one goes, the
 * bytes go too. Python code can't see slots. A slot does not change once a second user can see it,
 * with one exception: the garbage collector tracks a slot once there is a view of it. A caller's
 * buffer may hold the view, and each slot holds its type and so the module. Before that, the slot's
 * holder visits what the slot holds: see lnfq_slot_visit. The slot's critical section protects
 * this. There is no other lock.
 */
#include "slot.h"

#include "reference.h"
#include "state.h"

lnfq_slot *
lnfq_slot_new(lnfq_state *state, size_t size)
{
    lnfq_slot *slot = PyObject_GC_NewVar(lnfq_slot, state->slot_type, (Py_ssize_t)size);

    if (slot != NULL) {
        slot->bytes = slot->own;
        slot->borrowed = NULL;
        lnfq_reference_share((PyObject *)slot);
    }
    return slot;
}

/* One that will look into a caller's buffer. */
static lnfq_slot *
new_borrower(lnfq_state *state)
{
    lnfq_slot *slot = lnfq_slot_new(state, sizeof(Py_buffer));

    if (slot != NULL) {
        slot->borrowed = (Py_buffer *)(void *)slot->own;
        slot->borrowed->obj = NULL;
    }
    return slot;
}

lnfq_slot *
lnfq_slot_borrow(lnfq_state *state, _Atomic(lnfq_slot *) *spare, PyObject *buffer)
{
    lnfq_slot *slot = atomic_exchange(spare, NULL);

    if (slot == NULL) {
        slot = new_borrower(state);
    }
    if (slot == NULL) {
        return NULL;
    }
    if (PyObject_GetBuffer(buffer, slot->borrowed, PyBUF_SIMPLE) < 0) {
        slot->borrowed->obj = NULL;
        Py_DECREF(slot);
        return NULL;
    }
    slot->bytes = slot->borrowed->buf;
    return slot;
}

void
lnfq_slot_give_back(_Atomic(lnfq_slot *) *spare, lnfq_slot *slot)
{
    if (lnfq_reference_sole((PyObject *)slot)) {
        PyObject_GC_UnTrack(slot);
        PyBuffer_Release(slot->borrowed);
        slot = atomic_exchange(spare, slot);
    }
    Py_XDECREF(slot);
}

void
lnfq_slot_track(lnfq_slot *slot)
{
    Py_BEGIN_CRITICAL_SECTION(slot);
    if (!PyObject_GC_IsTracked((PyObject *)slot)) {
        PyObject_GC_Track(slot);
    }
    Py_END_CRITICAL_SECTION();
}

static int
slot_traverse(PyObject *self, visitproc visit, void *arg)
{
    const Py_buffer *borrowed = ((lnfq_slot *)self)->borrowed;

    Py_VISIT(Py_TYPE(self));
    Py_VISIT(borrowed != NULL ? borrowed->obj : NULL);
    return 0;
}

int
lnfq_slot_visit(lnfq_slot *slot, visitproc visit, void *arg)
{
    if (slot == NULL || PyObject_GC_IsTracked((PyObject *)slot)) {
        Py_VISIT(slot);
        return 0;
    }
    return slot_traverse((PyObject *)slot, visit, arg);
}

static void
slot_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    lnfq_slot *slot = (lnfq_slot *)self;

    PyObject_GC_UnTrack(self);
    if (slot->borrowed != NULL) {
        PyBuffer_Release(slot->borrowed);
    }
    type->tp_free(self);
    Py_DECREF(type);
}

static PyType_Slot slot_slots[] = {
    {Py_tp_traverse, slot_traverse},
    {Py_tp_dealloc, slot_dealloc},
    {0, NULL},
};

PyType_Spec lnfq_slot_spec = {
    .name = "libnetfilterqueue._ext._Slot",
    .basicsize = sizeof(lnfq_slot),
    .itemsize = 1,
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION
             | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slot_slots,
};
