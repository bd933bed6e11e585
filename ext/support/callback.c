/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Callables that get packets and reports. Nobody awaits their results. A callable that does nothing
 * when it is called, such as a coroutine function, is refused when it is set. An awaitable is
 * refused when a callback returns it. The caller holds the GIL and no lock. There is no state.
 */
#include "callback.h"

#include "arguments.h"

/* A function with one of these flags makes an object when it is called, and runs nothing. */
#define RUNS_LATER (CO_GENERATOR | CO_COROUTINE | CO_ITERABLE_COROUTINE | CO_ASYNC_GENERATOR)

/* How many callables within one another are looked into. */
#define DEPTH 16

/* Whether it is a functools.partial; -1 with an exception. */
static int
is_partial(PyObject *callable)
{
    PyObject *functools = PyImport_ImportModule("functools"); /* enum has loaded it */
    PyObject *partial = functools ? PyObject_GetAttrString(functools, "partial") : NULL;
    int is = partial ? PyObject_IsInstance(callable, partial) : -1;

    Py_XDECREF(partial);
    Py_XDECREF(functools);
    return is;
}

/* The function that a callable object calls, a new reference; NULL with an exception, or if it is C
 * code. */
static PyObject *
inner(PyObject *callable)
{
    int partial;

    if (PyMethod_Check(callable)) {
        return Py_NewRef(PyMethod_GET_FUNCTION(callable));
    }
    if (!PyType_HasFeature(Py_TYPE(callable), Py_TPFLAGS_HEAPTYPE)) {
        return NULL;
    }
    partial = is_partial(callable);
    if (partial < 0) {
        return NULL;
    }
    return partial ? PyObject_GetAttrString(callable, "func")
                   : PyObject_GetAttrString((PyObject *)Py_TYPE(callable), "__call__");
}

/* Whether it makes an object when it is called, and runs nothing; -1 with an exception. */
static int
runs_later(PyObject *callable)
{
    int later = 0;

    Py_INCREF(callable);
    for (int i = 0; callable != NULL && i < DEPTH; i++) {
        if (PyFunction_Check(callable)) {
            later = (((PyCodeObject *)PyFunction_GET_CODE(callable))->co_flags & RUNS_LATER) != 0;
            break;
        }
        Py_SETREF(callable, inner(callable));
    }
    Py_XDECREF(callable);
    return PyErr_Occurred() ? -1 : later;
}

int
lnfq_callback_check(PyObject *object, const char *what)
{
    int later;

    if (!PyCallable_Check(object)) {
        lnfq_arguments_refuse(PyExc_TypeError, object, "%s must be callable", what);
        return -1;
    }
    later = runs_later(object);
    if (later > 0) {
        PyErr_Format(PyExc_TypeError,
                     "%s is called and not awaited, so it can't be a coroutine function or a "
                     "generator: %R (libnetfilterqueue.aio.serve runs coroutines)",
                     what, object);
    }
    return later != 0 ? -1 : 0;
}

/* Whether it does nothing unless somebody awaits it, or iterates over it asynchronously. */
static bool
is_awaited(PyObject *object)
{
    const PyAsyncMethods *methods = Py_TYPE(object)->tp_as_async;

    return methods != NULL && (methods->am_await != NULL || methods->am_anext != NULL);
}

/* Ends what nobody is going to await: coroutines are closed, futures and tasks cancelled. */
static void
end(PyObject *awaitable)
{
    static const char *const names[] = {"close", "cancel"};

    for (size_t i = 0; i < Py_ARRAY_LENGTH(names); i++) {
        PyObject *method = PyObject_GetAttrString(awaitable, names[i]);
        PyObject *result = method ? PyObject_CallNoArgs(method) : NULL;
        bool missing = method == NULL && PyErr_ExceptionMatches(PyExc_AttributeError);

        if (missing) {
            PyErr_Clear();
        }
        else if (result == NULL) {
            PyErr_WriteUnraisable(awaitable);
        }
        Py_XDECREF(result);
        Py_XDECREF(method);
        if (!missing) {
            return;
        }
    }
}

PyObject *
lnfq_callback_result(PyObject *callback, PyObject *result)
{
    if (!is_awaited(result)) {
        return result;
    }
    end(result);
    PyErr_Format(PyExc_TypeError,
                 "the callback returned an awaitable, %.100s, which nobody awaits; "
                 "libnetfilterqueue.aio.serve runs coroutines: %R",
                 Py_TYPE(result)->tp_name, callback);
    Py_DECREF(result);
    return NULL;
}
