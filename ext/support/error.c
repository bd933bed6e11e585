/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The one funnel from errno to exceptions, and what keeps the first exception of a batch. The
 * caller holds the GIL. There is no state and no lock.
 */
#include "error.h"

#include <errno.h>
#include <string.h>

static PyObject *
make_error(int error, const char *remedy, const char *format, va_list values)
{
    PyObject *operation = PyUnicode_FromFormatV(format, values);
    PyObject *text;

    if (operation == NULL) {
        return NULL;
    }
    text = PyUnicode_FromFormat("%U: %s%s%s", operation, strerror(error),
                                remedy[0] != '\0' ? ": " : "", remedy);
    Py_DECREF(operation);
    if (text == NULL) {
        return NULL;
    }
    /* OSError picks the subclass that fits the number. */
    return PyObject_CallFunction(PyExc_OSError, "iN", error, text);
}

PyObject *
lnfq_error_new(int error, const char *remedy, const char *format, ...)
{
    PyObject *exception;
    va_list values;

    va_start(values, format);
    exception = make_error(error, remedy, format, values);
    va_end(values);
    return exception;
}

void
lnfq_error_raise(int error, const char *remedy, const char *format, ...)
{
    PyObject *exception;
    va_list values;

    va_start(values, format);
    exception = make_error(error, remedy, format, values);
    va_end(values);
    if (exception != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
        Py_DECREF(exception);
    }
}

PyObject *
lnfq_error_take(void)
{
#if PY_VERSION_HEX >= 0x030C0000
    return PyErr_GetRaisedException();
#else
    PyObject *type, *value, *traceback;

    PyErr_Fetch(&type, &value, &traceback);
    if (type == NULL) {
        return NULL;
    }
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != NULL) {
        PyException_SetTraceback(value, traceback);
        Py_DECREF(traceback);
    }
    Py_DECREF(type);
    return value;
#endif
}

void
lnfq_error_restore(PyObject *exception)
{
#if PY_VERSION_HEX >= 0x030C0000
    PyErr_SetRaisedException(exception);
#else
    PyErr_Restore(Py_NewRef((PyObject *)Py_TYPE(exception)), exception,
                  PyException_GetTraceback(exception));
#endif
}

bool
lnfq_error_leaves(PyObject *exception)
{
    return !PyErr_GivenExceptionMatches(exception, PyExc_Exception);
}

bool
lnfq_error_collect(PyObject **first, PyObject *where)
{
    PyObject *raised = lnfq_error_take();
    bool leaves = lnfq_error_leaves(raised);
    PyObject *surplus = *first;

    if (surplus == NULL) {
        *first = raised;
        return leaves;
    }
    if (leaves && !lnfq_error_leaves(surplus)) {
        *first = raised;
    }
    else {
        surplus = raised;
    }
    lnfq_error_restore(surplus);
    PyErr_WriteUnraisable(where);
    return leaves;
}

int
lnfq_error_tell(PyObject *where)
{
    PyObject *raised = lnfq_error_take();
    bool leaves = lnfq_error_leaves(raised);

    lnfq_error_restore(raised);
    if (!leaves) {
        PyErr_WriteUnraisable(where);
    }
    return leaves ? -1 : 0;
}
