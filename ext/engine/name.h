/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The names of devices. The caller holds the GIL and not the lock.
 */
#ifndef LNFQ_NAME_H
#define LNFQ_NAME_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>

#include "forward.h"

/* A device's name, as it was a moment ago. */
struct lnfq_name {
    uint32_t index; /* 0 where there is none */
    int64_t time;
    PyObject *name; /* strong; None where there is no such device */
};

#define LNFQ_NAMES 8

/* The name of a device of the socket's namespace, or None; NULL with an exception. */
PyObject *lnfq_name_find(lnfq_handle *handle, uint32_t index, const char *call);

/* Lets the names go. */
void lnfq_name_forget(lnfq_handle *handle);

#endif
