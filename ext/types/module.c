/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libnetfilterqueue._ext: the module, its state, its functions, and the kernel's constants, which
 * libnetfilterqueue.constants makes enums of. The state does not change after initialisation,
 * except for the tables of enums.c and the types of tuples.c, which are atomic. There is no lock.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <netinet/in.h> /* before the kernel's, which then leaves it its names */

#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <string.h>
#include <unistd.h>

#include "arguments.h"
#include "checksum.h"
#include "docstrings.h"
#include "fork.h"
#include "handle_type.h"
#include "keeper.h"
#include "netns.h"
#include "open.h"
#include "packet_type.h"
#include "queue_type.h"
#include "slot.h"
#include "state.h"
#include "status.h"

static inline lnfq_state *
module_state(PyObject *module)
{
    return PyModule_GetState(module);
}

/* ---- functions ---- */

static PyObject *
open_elsewhere(PyObject *module, PyObject *netns)
{
    int fd = lnfq_netns_descriptor(netns);
    PyObject *handle;

    if (fd < 0) {
        return NULL;
    }
    handle = lnfq_open_socket(module_state(module), fd);
    (void)close(fd);
    return handle;
}

static PyObject *
open_adopted(PyObject *module, PyObject *fd)
{
    int number = lnfq_arguments_descriptor(fd, "open(): fd", "");

    return number < 0 ? NULL : lnfq_open_adopted(module_state(module), number);
}

static PyObject *
module_open(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"netns", "fd", NULL};
    PyObject *values[2] = {NULL, NULL};
    bool netns, fd;

    if (lnfq_arguments_parse("open", names, 0, 0, args, nargs, kwnames, values) < 0) {
        return NULL;
    }
    netns = lnfq_arguments_given(values[0]);
    fd = lnfq_arguments_given(values[1]);
    if (netns && fd) {
        PyErr_SetString(PyExc_ValueError,
                        "open(): netns and fd exclude each other: a descriptor has its namespace");
        return NULL;
    }
    if (netns) {
        return open_elsewhere(module, values[0]);
    }
    return fd ? open_adopted(module, values[1]) : lnfq_open_socket(module_state(module), -1);
}

/* What `kept` says in Python. */
static enum lnfq_kept_state
kept_state(PyObject *kept)
{
    if (kept == Py_None) {
        return LNFQ_KEPT_UNKNOWN;
    }
    return kept == Py_True ? LNFQ_KEPT_YES : LNFQ_KEPT_NO;
}

/* For libnetfilterqueue.keeping, which knows what it passes. */
static PyObject *
module_keep(PyObject *module, PyObject *args)
{
    PyObject *handle, *kept, *on_unbind;
    int tired;
    Py_buffer record;

    if (!PyArg_ParseTuple(args, "O!Opw*O:_keep", module_state(module)->handle_type, &handle, &kept,
                          &tired, &record, &on_unbind)) {
        return NULL;
    }
    lnfq_keeper_note((lnfq_handle *)handle, kept_state(kept), tired != 0, &record, on_unbind);
    Py_RETURN_NONE;
}

/* For the adapters, whose loops wait on the descriptor and don't read it. */
static PyObject *
module_fileno(PyObject *module, PyObject *handle)
{
    if (!PyObject_TypeCheck(handle, module_state(module)->handle_type)) {
        PyErr_SetString(PyExc_TypeError, "_fileno(): handle must be a NetfilterQueueHandle");
        return NULL;
    }
    return lnfq_handle_type_fd((lnfq_handle *)handle, false, "fileno()");
}

static PyObject *
module_queue_status(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    return lnfq_status_list(module_state(module));
}

static PyObject *
module_queue_nr(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs,
                PyObject *kwnames)
{
    uint32_t verdict;

    if (lnfq_arguments_queue_nr("NF_QUEUE_NR", args, nargs, kwnames, &verdict) < 0) {
        return NULL;
    }
    return PyLong_FromUnsignedLong(verdict);
}

/* A view of an object's bytes that may be written to. 0, or -1 with an exception. */
static int
get_writable(PyObject *object, Py_buffer *view)
{
    if (PyObject_GetBuffer(object, view, PyBUF_WRITABLE) == 0) {
        return 0;
    }
    /* As for the standard library's own functions, a buffer of another kind is a wrong type. */
    if (PyErr_ExceptionMatches(PyExc_TypeError) || PyErr_ExceptionMatches(PyExc_BufferError)) {
        PyErr_Format(PyExc_TypeError,
                     "update_checksums(): buffer must be a writable, C-contiguous bytes-like "
                     "object, not %.200s",
                     Py_TYPE(object)->tp_name);
    }
    return -1;
}

static PyObject *
module_update_checksums(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs,
                        PyObject *kwnames)
{
    static const char *const names[] = {"buffer", "skb_info", NULL};
    PyObject *values[2] = {NULL};
    int64_t skb_info = 0;
    const char *wrong;
    Py_buffer view;

    if (lnfq_arguments_parse("update_checksums", names, 1, 2, args, nargs, kwnames, values) < 0
        || (values[1] != NULL
            && lnfq_arguments_int(values[1], "update_checksums(): skb_info", 0, UINT32_MAX,
                                  &skb_info)
                   < 0)
        || get_writable(values[0], &view) < 0) {
        return NULL;
    }
    wrong = lnfq_checksum_update(view.buf, (size_t)view.len, (uint32_t)skb_info);
    PyBuffer_Release(&view);
    if (wrong != NULL) {
        PyErr_Format(PyExc_ValueError, "update_checksums(): %s", wrong);
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef module_methods[] = {
    {"open", (PyCFunction)(void (*)(void))module_open, METH_FASTCALL | METH_KEYWORDS, DOC_open},
    {"queue_status", module_queue_status, METH_NOARGS, DOC_queue_status},
    {"NF_QUEUE_NR", (PyCFunction)(void (*)(void))module_queue_nr, METH_FASTCALL | METH_KEYWORDS,
     DOC_NF_QUEUE_NR},
    {"update_checksums", (PyCFunction)(void (*)(void))module_update_checksums,
     METH_FASTCALL | METH_KEYWORDS, DOC_update_checksums},
    {"_keep", module_keep, METH_VARARGS, DOC__keep},
    {"_fileno", module_fileno, METH_O, DOC__fileno},
    {NULL, NULL, 0, NULL},
};

/* ---- initialisation ---- */

static const struct {
    const char *name;
    long value;
} constants[] = {
    {"NF_DROP", NF_DROP},
    {"NF_ACCEPT", NF_ACCEPT},
    {"NF_STOLEN", NF_STOLEN},
    {"NF_QUEUE", NF_QUEUE},
    {"NF_REPEAT", NF_REPEAT},
    {"NF_STOP", NF_STOP},
    {"NFQNL_COPY_NONE", NFQNL_COPY_NONE},
    {"NFQNL_COPY_META", NFQNL_COPY_META},
    {"NFQNL_COPY_PACKET", NFQNL_COPY_PACKET},
    {"NFQA_CFG_F_FAIL_OPEN", NFQA_CFG_F_FAIL_OPEN},
    {"NFQA_CFG_F_CONNTRACK", NFQA_CFG_F_CONNTRACK},
    {"NFQA_CFG_F_GSO", NFQA_CFG_F_GSO},
    {"NFQA_CFG_F_UID_GID", NFQA_CFG_F_UID_GID},
    {"NFQA_CFG_F_SECCTX", NFQA_CFG_F_SECCTX},
    {"NFQA_SKB_CSUMNOTREADY", NFQA_SKB_CSUMNOTREADY},
    {"NFQA_SKB_GSO", NFQA_SKB_GSO},
    {"NFQA_SKB_CSUM_NOTVERIFIED", NFQA_SKB_CSUM_NOTVERIFIED},
    {"NF_INET_PRE_ROUTING", NF_INET_PRE_ROUTING},
    {"NF_INET_LOCAL_IN", NF_INET_LOCAL_IN},
    {"NF_INET_FORWARD", NF_INET_FORWARD},
    {"NF_INET_LOCAL_OUT", NF_INET_LOCAL_OUT},
    {"NF_INET_POST_ROUTING", NF_INET_POST_ROUTING},
};

static int
add_constants(PyObject *module)
{
    for (size_t i = 0; i < sizeof(constants) / sizeof(constants[0]); i++) {
        if (PyModule_AddIntConstant(module, constants[i].name, constants[i].value) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Makes a type; one that users see becomes an attribute too. 0, or -1. */
static int
add_type(PyObject *module, PyTypeObject **type, PyType_Spec *spec, bool visible)
{
    *type = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, NULL);
    if (*type == NULL) {
        return -1;
    }
    return visible ? PyModule_AddType(module, *type) : 0;
}

static int
add_types(PyObject *module, lnfq_state *state)
{
    if (add_type(module, &state->handle_type, &lnfq_handle_type_spec, true) < 0
        || add_type(module, &state->queue_type, &lnfq_queue_type_spec, true) < 0
        || add_type(module, &state->packet_type, &lnfq_packet_type_spec, true) < 0
        || add_type(module, &state->slot_type, &lnfq_slot_spec, false) < 0) {
        return -1;
    }
    return 0;
}

/* Makes an exception, which becomes an attribute too. 0, or -1. */
static int
add_error(PyObject *module, PyObject **error, const char *name, const char *doc, PyObject *base)
{
    *error = PyErr_NewExceptionWithDoc(name, doc, base, NULL);
    return *error != NULL ? PyModule_AddObjectRef(module, strrchr(name, '.') + 1, *error) : -1;
}

static int
add_errors(PyObject *module, lnfq_state *state)
{
    if (add_error(module, &state->closed_error, "libnetfilterqueue.ClosedError", DOC_ClosedError,
                  PyExc_ValueError)
            < 0
        || add_error(module, &state->malformed_error, "libnetfilterqueue.MalformedMessageError",
                     DOC_MalformedMessageError, PyExc_ValueError)
               < 0
        || add_error(module, &state->verdict_error, "libnetfilterqueue.VerdictError",
                     DOC_VerdictError, PyExc_RuntimeError)
               < 0) {
        return -1;
    }
    return 0;
}

static int
watch_forks(void)
{
    errno = lnfq_fork_watch();
    if (errno != 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    return 0;
}

static int
module_exec(PyObject *module)
{
    lnfq_state *state = module_state(module);

    if (watch_forks() < 0 || add_types(module, state) < 0 || add_errors(module, state) < 0) {
        return -1;
    }
    return PyModule_AddStringConstant(module, "__version__", LNFQ_VERSION) < 0
               ? -1
               : add_constants(module);
}

static int
module_traverse(PyObject *module, visitproc visit, void *arg)
{
    lnfq_state *state = module_state(module);

    Py_VISIT(state->handle_type);
    Py_VISIT(state->queue_type);
    Py_VISIT(state->packet_type);
    Py_VISIT(state->slot_type);
    Py_VISIT(state->closed_error);
    Py_VISIT(state->malformed_error);
    Py_VISIT(state->verdict_error);
    for (int i = 0; i < LNFQ_ENUMS; i++) {
        PyObject *table = atomic_load(&state->enums[i]);

        Py_VISIT(table);
    }
    for (int i = 0; i < LNFQ_TUPLES; i++) {
        PyObject *tuple = atomic_load(&state->tuples[i]);

        Py_VISIT(tuple);
    }
    return 0;
}

static int
module_clear(PyObject *module)
{
    lnfq_state *state = module_state(module);

    Py_CLEAR(state->handle_type);
    Py_CLEAR(state->queue_type);
    Py_CLEAR(state->packet_type);
    Py_CLEAR(state->slot_type);
    Py_CLEAR(state->closed_error);
    Py_CLEAR(state->malformed_error);
    Py_CLEAR(state->verdict_error);
    for (int i = 0; i < LNFQ_ENUMS; i++) {
        Py_XDECREF(atomic_exchange(&state->enums[i], NULL));
    }
    for (int i = 0; i < LNFQ_TUPLES; i++) {
        Py_XDECREF(atomic_exchange(&state->tuples[i], NULL));
    }
    return 0;
}

static void
module_free(void *module)
{
    (void)module_clear(module);
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#if PY_VERSION_HEX >= 0x030D0000
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef module_def = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "libnetfilterqueue._ext",
    .m_doc = DOC_module,
    .m_size = sizeof(lnfq_state),
    .m_methods = module_methods,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC PyInit__ext(void);

PyMODINIT_FUNC
PyInit__ext(void)
{
    return PyModuleDef_Init(&module_def);
}
