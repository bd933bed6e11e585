/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The least that an extension does for a loop in Python: what CPython and the kernel take, whatever
 * a handle is like. It has one queue, whose callback accepts. It locks nothing and keeps nothing, a
 * packet has nothing but accept(), and what goes wrong ends the program.
 */
#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "common.h"

static int fd;
static struct batch *batch;
static PyObject *callback;
static PyObject *packet; /* the only one */
static uint32_t verdict;

static PyObject *
packet_accept(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(nothing))
{
    verdict = NF_ACCEPT;
    Py_RETURN_NONE;
}

static PyMethodDef packet_methods[] = {
    {"accept", packet_accept, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject packet_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "bare.Packet",
    .tp_basicsize = sizeof(PyObject),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_methods = packet_methods,
};

static void
call_back(void)
{
    PyObject *result;

    verdict = NF_DROP;
    result = PyObject_CallOneArg(callback, packet);
    fail_if(result == NULL || verdict != NF_ACCEPT, "callback");
    Py_DECREF(result);
}

static void
send_verdict(int type, uint32_t id)
{
    char message[256];
    size_t size = verdict_put(message, type, id, verdict);

    fail_if(send(fd, message, size, 0) < 0, "send");
}

/* bind(callback): binds the queue. Returns the descriptor. */
static PyObject *
bare_bind(PyObject *Py_UNUSED(module), PyObject *argument)
{
    const struct task task = {.verdict = NF_ACCEPT};

    fd = mnl_socket_get_fd(queue_open(&task));
    batch = batch_new();
    callback = Py_NewRef(argument);
    packet = packet_type.tp_alloc(&packet_type, 0);
    fail_if(packet == NULL, "packet");
    return PyLong_FromLong(fd);
}

/* process(wait): receives up to 64 packets, and accepts them by one batch verdict. */
static PyObject *
bare_process(PyObject *Py_UNUSED(module), PyObject *wait)
{
    const int flags = wait == Py_True ? MSG_WAITFORONE : MSG_DONTWAIT;
    int received;

    Py_BEGIN_ALLOW_THREADS
    received = recvmmsg(fd, batch->messages, BATCH, flags, NULL);
    Py_END_ALLOW_THREADS
    fail_if(received < 0 && errno != EAGAIN, "recvmmsg");
    for (int i = 0; i < received; i++) {
        uint32_t id = batch_packet_id(batch, i);

        call_back();
        if (i == received - 1) {
            send_verdict(NFQNL_MSG_VERDICT_BATCH, id);
        }
    }
    Py_RETURN_NONE;
}

/* handle_packet(buffer): accepts the packet in a message that the program has received. */
static PyObject *
bare_handle_packet(PyObject *Py_UNUSED(module), PyObject *buffer)
{
    Py_buffer view;

    if (PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    call_back();
    send_verdict(NFQNL_MSG_VERDICT, packet_id(view.buf));
    PyBuffer_Release(&view);
    Py_RETURN_NONE;
}

static PyMethodDef bare_methods[] = {
    {"bind", bare_bind, METH_O, NULL},
    {"process", bare_process, METH_O, NULL},
    {"handle_packet", bare_handle_packet, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef bare_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "bare",
    .m_methods = bare_methods,
};

PyMODINIT_FUNC
PyInit_bare(void)
{
    return PyType_Ready(&packet_type) < 0 ? NULL : PyModule_Create(&bare_module);
}
