/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * NetfilterQueueQueueHandle, the type.
 */
#ifndef LNFQ_QUEUE_TYPE_H
#define LNFQ_QUEUE_TYPE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

extern PyType_Spec lnfq_queue_type_spec;

#endif
