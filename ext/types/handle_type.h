/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * NetfilterQueueHandle, the type.
 */
#ifndef LNFQ_HANDLE_TYPE_H
#define LNFQ_HANDLE_TYPE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

extern PyType_Spec lnfq_handle_type_spec;

#endif
