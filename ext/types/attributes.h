/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A packet's attributes: those of its message.
 */
#ifndef LNFQ_ATTRIBUTES_H
#define LNFQ_ATTRIBUTES_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

extern PyGetSetDef lnfq_attributes_table[];

/* The methods that libnetfilter_queue's functions are called, and the names of devices. */
PyObject *lnfq_attributes_indev_name(PyObject *self, PyObject *ignored);
PyObject *lnfq_attributes_physindev_name(PyObject *self, PyObject *ignored);
PyObject *lnfq_attributes_outdev_name(PyObject *self, PyObject *ignored);
PyObject *lnfq_attributes_physoutdev_name(PyObject *self, PyObject *ignored);
PyObject *lnfq_attributes_get_packet_hw(PyObject *self, PyObject *ignored);
PyObject *lnfq_attributes_get_nfmark(PyObject *self, PyObject *ignored);
PyObject *lnfq_attributes_get_timestamp(PyObject *self, PyObject *ignored);
PyObject *lnfq_attributes_get_indev(PyObject *self, PyObject *ignored);
PyObject *lnfq_attributes_get_physindev(PyObject *self, PyObject *ignored);
PyObject *lnfq_attributes_get_outdev(PyObject *self, PyObject *ignored);
PyObject *lnfq_attributes_get_physoutdev(PyObject *self, PyObject *ignored);
PyObject *lnfq_attributes_get_payload(PyObject *self, PyObject *ignored);
PyObject *lnfq_attributes_get_uid(PyObject *self, PyObject *ignored);
PyObject *lnfq_attributes_get_gid(PyObject *self, PyObject *ignored);

#endif
