/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * References to what threads pass on to each other: packets, slots, views.
 *
 * Without the GIL, CPython counts the references that the thread which made an object holds apart
 * from those of all others. An object whose last reference goes in another thread then lives on
 * until its own thread comes by, which may wait in `process` until the next packet, and the packet
 * would wait for its default verdict as long. So these are counted in one place from the start, as
 * CPython itself counts those of a thread that is gone: the last reference destroys them, in
 * whichever thread it goes. Also, one look then tells whether there are others.
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

/* Whether the caller's is the only reference to such an object. If so, what others have done with
 * it is over. */
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
