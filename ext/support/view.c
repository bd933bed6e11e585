/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A view exports a part of a slot, read-only: a payload's memoryview is made on it. It holds only
 * the slot, so that a memoryview is not a reference to its packet. Python code sees it only as
 * `memoryview.obj`. It is immutable and has no lock.
 */
#include "view.h"

#include "reference.h"
#include "slot.h"
#include "state.h"

typedef struct {
    PyObject_HEAD
    lnfq_slot *slot; /* strong */
    const unsigned char *start;
    size_t length;
} lnfq_view;

PyObject *
lnfq_view_new(lnfq_state *state, lnfq_slot *slot, const unsigned char *start, size_t length)
{
    lnfq_view *view = PyObject_GC_New(lnfq_view, state->view_type);
    PyObject *memory;

    if (view == NULL) {
        return NULL;
    }
    view->slot = (lnfq_slot *)Py_NewRef((PyObject *)slot);
    view->start = start;
    view->length = length;
    lnfq_reference_share((PyObject *)view);
    PyObject_GC_Track(view);
    lnfq_slot_track(slot);
    memory = PyMemoryView_FromObject((PyObject *)view);
    Py_DECREF(view);
    return memory;
}

static int
view_getbuffer(PyObject *self, Py_buffer *buffer, int flags)
{
    const lnfq_view *view = (lnfq_view *)self;

    /* The buffer protocol has no pointer to const; that it is read-only is said by the flag. */
    return PyBuffer_FillInfo(buffer, self, (void *)(uintptr_t)view->start, (Py_ssize_t)view->length,
                             1, flags);
}

static int
view_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((lnfq_view *)self)->slot);
    return 0;
}

static void
view_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    Py_DECREF(((lnfq_view *)self)->slot);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyType_Slot view_slots[] = {
    {Py_bf_getbuffer, view_getbuffer},
    {Py_tp_traverse, view_traverse},
    {Py_tp_dealloc, view_dealloc},
    {0, NULL},
};

PyType_Spec lnfq_view_spec = {
    .name = "libnetfilterqueue._ext._View",
    .basicsize = sizeof(lnfq_view),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION
             | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = view_slots,
};
