/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The handle's lock; handle.h says what it protects.
 */
#ifndef LNFQ_LOCK_H
#define LNFQ_LOCK_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "forward.h"

/* Takes the lock; gives up the GIL while it has to wait, and never waits for the GIL with it. */
void lnfq_lock_acquire(lnfq_handle *handle);

/* Pays the debts, then releases the lock. Callable with and without the GIL. */
void lnfq_lock_release(lnfq_handle *handle);

/* Gives up the GIL and takes the lock, for sections that make system calls; and the reverse. One
 * who has the lock and the GIL may give up the latter alone, by PyEval_SaveThread, and leave. */
PyThreadState *lnfq_lock_enter(lnfq_handle *handle);
void lnfq_lock_leave(lnfq_handle *handle, PyThreadState *thread);

/* With the lock: closes the descriptors if the handle is closed and nobody waits on them. */
void lnfq_lock_close_unused(lnfq_handle *handle);

#endif
