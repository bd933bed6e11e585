/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * NetfilterQueueData, the type.
 */
#ifndef LNFQ_PACKET_TYPE_H
#define LNFQ_PACKET_TYPE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

extern PyType_Spec lnfq_packet_type_spec;

#endif
