/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The handle's lock; handle.h says what it protects.
 */
#ifndef LNFQ_LOCK_H
#define LNFQ_LOCK_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdatomic.h>
#include <stddef.h>

#include "handle.h"
#include "mutex.h"
#include "seldom.h"

/* With the lock, and perhaps without the GIL: gives packets that are gone their default verdicts.
 */
void lnfq_lock_settle(lnfq_handle *handle);

/* The slow ways of the two below. */
void lnfq_lock_await(lnfq_handle *handle);
void lnfq_lock_pay(lnfq_handle *handle);

/* Takes the lock; gives up the GIL while it has to wait, and never waits for the GIL with it. A
 * child of fork may find it taken for ever, and can do no more than close: fork.c. */
static inline void
lnfq_lock_acquire(lnfq_handle *handle)
{
    if (!lnfq_handle_forked(handle) && !lnfq_mutex_try(&handle->lock)) {
        lnfq_lock_await(handle);
    }
}

/* Releases the lock, and pays the debts: a destructor that finds the lock taken leaves one behind.
 * Callable with and without the GIL. */
LNFQ_ALWAYS static void
lnfq_lock_release(lnfq_handle *handle)
{
    if (lnfq_handle_forked(handle)) {
        return;
    }
    lnfq_mutex_release(&handle->lock);
    if (atomic_load(&handle->debts) != NULL) {
        lnfq_lock_pay(handle);
    }
}

/* Gives up the GIL and takes the lock, for sections that make system calls; and the reverse. One
 * who has the lock and the GIL may give up the latter alone, by PyEval_SaveThread, and leave. */
PyThreadState *lnfq_lock_enter(lnfq_handle *handle);
void lnfq_lock_leave(lnfq_handle *handle, PyThreadState *thread); /* NULL: it kept the GIL */

/* With the lock, and without the GIL: gives the lock up to wait on the descriptors, which stay open
 * meanwhile; and takes it again. */
void lnfq_lock_pause(lnfq_handle *handle);
void lnfq_lock_resume(lnfq_handle *handle);

/* With the lock: closes the descriptors if the handle is closed and nobody waits on them. */
void lnfq_lock_close_unused(lnfq_handle *handle);

#endif
