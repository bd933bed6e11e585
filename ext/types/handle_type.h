/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * NetfilterQueueHandle, the type.
 */
#ifndef LNFQ_HANDLE_TYPE_H
#define LNFQ_HANDLE_TYPE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>

#include "forward.h"

extern PyType_Spec lnfq_handle_type_spec;

/* The descriptor as an int, or NULL with an exception. From now on others may read it, if it is
 * exposed to them. */
PyObject *lnfq_handle_type_fd(lnfq_handle *handle, bool expose, const char *call);

#endif
