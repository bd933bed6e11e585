/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * NetfilterQueueData: one queued packet and its verdict. Its attributes are in attributes.c, its
 * verdicts in verdict_methods.c.
 */
#include "packet_type.h"

#include <stdlib.h>

#include "attributes.h"
#include "docstrings.h"
#include "packet.h"
#include "queue.h"
#include "slot.h"
#include "verdict_methods.h"

static inline lnfq_packet *
packet_cast(PyObject *self)
{
    return (lnfq_packet *)self;
}

/* ---- lifecycle ---- */

static int
packet_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(packet_cast(self)->queue);
    return lnfq_slot_visit(packet_cast(self)->slot, visit, arg);
}

static void
packet_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    lnfq_packet *packet = packet_cast(self);

    PyObject_GC_UnTrack(self);
    lnfq_packet_end(packet);
    Py_XDECREF(packet->slot);
    Py_XDECREF(packet->queue);
    type->tp_free(self);
    Py_DECREF(type);
}

/* ---- type ---- */

static int
packet_getbuffer(PyObject *self, Py_buffer *buffer, int flags)
{
    return lnfq_packet_export(packet_cast(self), buffer, flags);
}

static PyObject *
packet_repr(PyObject *self)
{
    lnfq_packet *packet = packet_cast(self);

    return PyUnicode_FromFormat("<%s %u of queue %u, %u bytes>", Py_TYPE(self)->tp_name,
                                packet->index.id, packet->queue->number,
                                lnfq_packet_original_length(packet));
}

static PyMethodDef packet_methods[] = {
    {"set_verdict", (PyCFunction)(void (*)(void))lnfq_verdict_methods_set_verdict,
     METH_FASTCALL | METH_KEYWORDS, DOC_NetfilterQueueData_set_verdict},
    {"accept", (PyCFunction)(void (*)(void))lnfq_verdict_methods_accept,
     METH_FASTCALL | METH_KEYWORDS, DOC_NetfilterQueueData_accept},
    {"drop", lnfq_verdict_methods_drop, METH_NOARGS, DOC_NetfilterQueueData_drop},
    {"_settle", lnfq_verdict_methods_settle, METH_NOARGS, DOC_NetfilterQueueData__settle},
    {"repeat", (PyCFunction)(void (*)(void))lnfq_verdict_methods_repeat,
     METH_FASTCALL | METH_KEYWORDS, DOC_NetfilterQueueData_repeat},
    {"requeue", (PyCFunction)(void (*)(void))lnfq_verdict_methods_requeue,
     METH_FASTCALL | METH_KEYWORDS, DOC_NetfilterQueueData_requeue},
    {"get_packet_hw", lnfq_attributes_get_packet_hw, METH_NOARGS,
     DOC_NetfilterQueueData_get_packet_hw},
    {"get_nfmark", lnfq_attributes_get_nfmark, METH_NOARGS, DOC_NetfilterQueueData_get_nfmark},
    {"get_timestamp", lnfq_attributes_get_timestamp, METH_NOARGS,
     DOC_NetfilterQueueData_get_timestamp},
    {"get_indev", lnfq_attributes_get_indev, METH_NOARGS, DOC_NetfilterQueueData_get_indev},
    {"get_physindev", lnfq_attributes_get_physindev, METH_NOARGS,
     DOC_NetfilterQueueData_get_physindev},
    {"get_outdev", lnfq_attributes_get_outdev, METH_NOARGS, DOC_NetfilterQueueData_get_outdev},
    {"get_physoutdev", lnfq_attributes_get_physoutdev, METH_NOARGS,
     DOC_NetfilterQueueData_get_physoutdev},
    {"get_payload", lnfq_attributes_get_payload, METH_NOARGS, DOC_NetfilterQueueData_get_payload},
    {"get_uid", lnfq_attributes_get_uid, METH_NOARGS, DOC_NetfilterQueueData_get_uid},
    {"get_gid", lnfq_attributes_get_gid, METH_NOARGS, DOC_NetfilterQueueData_get_gid},
    {"indev_name", lnfq_attributes_indev_name, METH_NOARGS, DOC_NetfilterQueueData_indev_name},
    {"physindev_name", lnfq_attributes_physindev_name, METH_NOARGS,
     DOC_NetfilterQueueData_physindev_name},
    {"outdev_name", lnfq_attributes_outdev_name, METH_NOARGS, DOC_NetfilterQueueData_outdev_name},
    {"physoutdev_name", lnfq_attributes_physoutdev_name, METH_NOARGS,
     DOC_NetfilterQueueData_physoutdev_name},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot packet_slots[] = {
    {Py_tp_doc, (void *)(uintptr_t)DOC_NetfilterQueueData},
    {Py_tp_methods, packet_methods},
    {Py_tp_getset, lnfq_attributes_table},
    {Py_tp_repr, packet_repr},
    {Py_bf_getbuffer, packet_getbuffer},
    {Py_tp_traverse, packet_traverse},
    {Py_tp_dealloc, packet_dealloc},
    {0, NULL},
};

PyType_Spec lnfq_packet_type_spec = {
    .name = "libnetfilterqueue.NetfilterQueueData",
    .basicsize = sizeof(lnfq_packet),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION
             | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = packet_slots,
};
