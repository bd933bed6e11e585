/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Arguments of calls: their places, types and ranges, in errors that name the call and the value.
 * There is no state and no lock.
 */
#include "arguments.h"

#include <math.h>
#include <limits.h>
#include <stdio.h>

#include "nested.h"
#include "verdict.h"

/* A longer wait is cut to this; nobody will see its end. In seconds. */
#define TIMEOUT_MAX 1e9

/* A value as errors show it: the beginning of its repr. Not every value has a repr: an int may be
 * too long for it. */
static PyObject *
show(PyObject *object)
{
    PyObject *text = PyUnicode_FromFormat("%.100R", object);

    if (text == NULL && PyErr_ExceptionMatches(PyExc_Exception)) {
        PyErr_Clear();
        text = PyUnicode_FromFormat("<%.100s object>", Py_TYPE(object)->tp_name);
    }
    return text;
}

void
lnfq_arguments_refuse(PyObject *error, PyObject *object, const char *format, ...)
{
    PyObject *shown, *rule = NULL;
    va_list values;

    PyErr_Clear(); /* Python code must not run with an exception set */
    shown = show(object);
    if (shown != NULL) {
        va_start(values, format);
        rule = PyUnicode_FromFormatV(format, values);
        va_end(values);
    }
    if (rule != NULL && error == PyExc_ValueError) {
        PyErr_Format(error, "%U, not %U", rule, shown);
    }
    else if (rule != NULL) {
        PyErr_Format(error, "%U, not %.100s: %U", rule, Py_TYPE(object)->tp_name, shown);
    }
    Py_XDECREF(rule);
    Py_XDECREF(shown);
}

/* Whether a keyword is this one, which is ASCII. Most others differ in the first letter. */
static bool
is_named(PyObject *name, const char *expected)
{
    const Py_UCS1 *text;
    Py_ssize_t i = 0;

    if (!PyUnicode_IS_COMPACT_ASCII(name)) { /* of a subclass, perhaps */
        return PyUnicode_CompareWithASCIIString(name, expected) == 0;
    }
    text = PyUnicode_1BYTE_DATA(name); /* it ends with a zero */
    while (expected[i] != '\0' && text[i] == (Py_UCS1)expected[i]) {
        i += 1;
    }
    return expected[i] == '\0' && i == PyUnicode_GET_LENGTH(name);
}

static Py_ssize_t
name_position(const char *const *names, PyObject *name)
{
    for (Py_ssize_t i = 0; names[i] != NULL; i++) {
        if (is_named(name, names[i])) {
            return i;
        }
    }
    return -1;
}

static int
place_keyword(const char *call, const char *const *names, PyObject *name, PyObject *value,
              Py_ssize_t nargs, PyObject **values)
{
    Py_ssize_t position = name_position(names, name);

    if (position < 0) {
        PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%U'", call, name);
        return -1;
    }
    if (position < nargs) {
        PyErr_Format(PyExc_TypeError, "%s() got multiple values for argument '%U'", call, name);
        return -1;
    }
    values[position] = value;
    return 0;
}

int
lnfq_arguments_sort(const char *call, const char *const *names, Py_ssize_t required,
                    Py_ssize_t positional, PyObject *const *args, Py_ssize_t nargs,
                    PyObject *kwnames, PyObject **values)
{
    Py_ssize_t keywords = kwnames != NULL ? PyTuple_GET_SIZE(kwnames) : 0;

    if (nargs > positional) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most %zd positional arguments (%zd given)",
                     call, positional, nargs);
        return -1;
    }
    for (Py_ssize_t i = 0; i < nargs; i++) {
        values[i] = args[i];
    }
    for (Py_ssize_t i = 0; i < keywords; i++) {
        if (place_keyword(call, names, PyTuple_GET_ITEM(kwnames, i), args[nargs + i], nargs, values)
            < 0) {
            return -1;
        }
    }
    for (Py_ssize_t i = 0; i < required; i++) {
        if (values[i] == NULL) {
            PyErr_Format(PyExc_TypeError, "%s() missing required argument '%s'", call, names[i]);
            return -1;
        }
    }
    return 0;
}

static bool
read_int(PyObject *number, int64_t lowest, int64_t highest, int64_t *value)
{
    int overflow;

    *value = PyLong_AsLongLongAndOverflow(number, &overflow);
    return overflow == 0 && *value >= lowest && *value <= highest;
}

int
lnfq_arguments_int(PyObject *object, const char *what, int64_t lowest, int64_t highest,
                   int64_t *value)
{
    PyObject *number;
    bool right;

    if (PyLong_Check(object) && read_int(object, lowest, highest, value)) {
        return 0;
    }
    if (!PyIndex_Check(object)) {
        lnfq_arguments_refuse(PyExc_TypeError, object, "%s must be an int", what);
        return -1;
    }
    number = PyNumber_Index(object);
    if (number == NULL) {
        return -1;
    }
    right = read_int(number, lowest, highest, value);
    if (!right) {
        lnfq_arguments_refuse(PyExc_ValueError, number, "%s must be in %lld..%lld", what,
                              (long long)lowest, (long long)highest);
    }
    Py_DECREF(number);
    return right ? 0 : -1;
}

bool
lnfq_arguments_assigned(PyObject *value, const char *attribute)
{
    if (value == NULL) {
        PyErr_Format(PyExc_TypeError, "%s can't be deleted", attribute);
    }
    return value != NULL;
}

int
lnfq_arguments_optional(PyObject *object, const char *what, struct lnfq_optional *number)
{
    int64_t value;

    if (!lnfq_arguments_given(object)) {
        return 0;
    }
    if (lnfq_arguments_int(object, what, 0, UINT32_MAX, &value) < 0) {
        return -1;
    }
    *number = (struct lnfq_optional){true, (uint32_t)value};
    return 0;
}

int
lnfq_arguments_timeout(PyObject *object, const char *what, double *timeout)
{
    if (!lnfq_arguments_given(object)) {
        *timeout = object == NULL ? 0 : -1;
        return 0;
    }
    *timeout = PyFloat_AsDouble(object);
    if (*timeout == -1 && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_TypeError)) {
            lnfq_arguments_refuse(PyExc_TypeError, object, "%s must be a number of seconds or None",
                                  what);
        }
        else if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
            lnfq_arguments_refuse(PyExc_ValueError, object,
                                  "%s must be a number that a float holds", what);
        }
        return -1;
    }
    if (isnan(*timeout) || *timeout < 0) {
        lnfq_arguments_refuse(PyExc_ValueError, object, "%s must be at least 0 or None", what);
        return -1;
    }
    *timeout = fmin(*timeout, TIMEOUT_MAX);
    return 0;
}

int
lnfq_arguments_descriptor(PyObject *object, const char *what, const char *kinds)
{
    int64_t number;
    int fd;

    if (PyLong_Check(object)) {
        return lnfq_arguments_int(object, what, 0, INT_MAX, &number) < 0 ? -1 : (int)number;
    }
    fd = PyObject_AsFileDescriptor(object);
    if (fd < 0 && PyErr_ExceptionMatches(PyExc_TypeError)) {
        lnfq_arguments_refuse(PyExc_TypeError, object,
                              "%s must be %san int or have a fileno() method", what, kinds);
    }
    else if (fd < 0
             && (PyErr_ExceptionMatches(PyExc_ValueError)
                 || PyErr_ExceptionMatches(PyExc_OverflowError))) {
        lnfq_arguments_refuse(PyExc_ValueError, object, "%s must have an open descriptor", what);
    }
    return fd;
}

int
lnfq_arguments_verdict(PyObject *object, const char *what, uint32_t *verdict)
{
    int64_t value;

    if (lnfq_arguments_int(object, what, 0, UINT32_MAX, &value) < 0) {
        return -1;
    }
    if (!lnfq_verdict_valid((uint32_t)value)) {
        PyErr_Format(PyExc_ValueError, "%s must be a Verdict or NF_QUEUE_NR(number), not %lld",
                     what, (long long)value);
        return -1;
    }
    *verdict = (uint32_t)value;
    return 0;
}

int
lnfq_arguments_queue_nr(const char *call, PyObject *const *args, Py_ssize_t nargs,
                        PyObject *kwnames, uint32_t *verdict)
{
    static const char *const names[] = {"number", "bypass", NULL};
    PyObject *values[2] = {NULL, NULL};
    int64_t number;
    int bypass = 0;
    char what[32];

    snprintf(what, sizeof(what), "%s(): number", call);
    if (lnfq_arguments_parse(call, names, 1, 2, args, nargs, kwnames, values) < 0
        || lnfq_arguments_int(values[0], what, 0, UINT16_MAX, &number) < 0) {
        return -1;
    }
    if (values[1] != NULL && (bypass = PyObject_IsTrue(values[1])) < 0) {
        return -1;
    }
    *verdict = lnfq_verdict_queue((uint16_t)number, bypass != 0);
    return 0;
}
