/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * References to objects that threads pass to each other: packets, slots, views.
 *
 * Without the GIL, CPython counts the references of the thread that made an object apart from those
 * of all other threads. If the last reference goes in another thread, the object lives on until its
 * own thread runs again. That thread may wait in `process` until the next packet, and the packet
 * would wait for its default verdict as long. So the references to these objects are counted in one
 * place from the start, as CPython itself counts those of a thread that has ended. The last
 * reference then destroys the object, in any thread. One look also shows whether there are other
 * references.
 */
#ifndef LNFQ_REFERENCE_H
#define LNFQ_REFERENCE_H

#include <Python.h>

#include <stdbool.h>

#if PY_VERSION_HEX < 0x030D0000 /* which knows no other way than with the GIL */
#define Py_BEGIN_CRITICAL_SECTION(object) {
#define Py_END_CRITICAL_SECTION() }
#endif

/* For an object that was just made. */
static inline void
lnfq_reference_share(PyObject *object)
{
#ifdef Py_GIL_DISABLED
    object->ob_tid = 0; /* nobody's: the next line then sets the count that all share */
    Py_SET_REFCNT(object, 1);
#else
    (void)object;
#endif
}

/* Whether the caller has the only reference to such an object. If so, all others have finished with
 * it. */
static inline bool
lnfq_reference_sole(PyObject *object)
{
#ifdef Py_GIL_DISABLED
    return __atomic_load_n(&object->ob_ref_shared, __ATOMIC_ACQUIRE)
           == _Py_REF_SHARED(1, _Py_REF_MERGED);
#else
    return Py_REFCNT(object) == 1;
#endif
}

#endif
