/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libnetfilterqueue._ext: the module, its state, its functions, and the kernel's constants, which
 * libnetfilterqueue.constants makes enums of. The state does not change after initialisation,
 * but for the tables of enums.c and the types of tuples.c, which are atomic. No lock.
 */
#include "nfq.h"

#include "checksum.h"

#include <errno.h>
#include <unistd.h>

static inline lnfq_state *
module_state(PyObject *module)
{
    return PyModule_GetState(module);
}

/* ---- functions ---- */

PyDoc_STRVAR(open_doc,
             "open($module, /, *, netns=None, fd=None)\n"
             "--\n"
             "\n"
             "Open a netlink socket to the kernel's queues; return a NetfilterQueueHandle.\n"
             "\n"
             "netns is the path of another network namespace, or a descriptor on it, in which\n"
             "the socket is opened; the calling thread stays in its own. The handle then binds\n"
             "that namespace's queues.\n"
             "\n"
             "With fd, the handle uses a copy of that descriptor instead: a NETLINK_NETFILTER\n"
             "socket that was opened elsewhere, or one end of a datagram socket pair behind\n"
             "which a test plays the kernel. On a pair of SOCK_SEQPACKET sockets the other end\n"
             "must read all: a full pair is waited for, 2 seconds at most, rcvbuf is only told\n"
             "to it, and its end is a ConnectionError. The descriptor is not inherited by child\n"
             "programs.\n"
             "\n"
             "Needs no capability, but for netns CAP_SYS_ADMIN; binding queues does. Never\n"
             "waits. Raises OSError if the socket can't be opened, netns is no network\n"
             "namespace, or fd is no socket; ValueError for an fd of another kind, or for both;\n"
             "TypeError. See nfq_open(3), setns(2).");

static PyObject *
open_elsewhere(PyObject *module, PyObject *netns)
{
    int fd = lnfq_netns_descriptor(netns);
    PyObject *handle;

    if (fd < 0) {
        return NULL;
    }
    handle = lnfq_handle_open(module_state(module), fd);
    (void)close(fd);
    return handle;
}

static PyObject *
open_adopted(PyObject *module, PyObject *fd)
{
    int number = lnfq_parse_descriptor(fd, "open(): fd", "");

    return number < 0 ? NULL : lnfq_handle_adopt(module_state(module), number);
}

static PyObject *
module_open(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"netns", "fd", NULL};
    PyObject *values[2] = {NULL, NULL};
    bool netns, fd;

    if (lnfq_parse_arguments("open", names, 0, 0, args, nargs, kwnames, values) < 0) {
        return NULL;
    }
    netns = lnfq_given(values[0]);
    fd = lnfq_given(values[1]);
    if (netns && fd) {
        PyErr_SetString(PyExc_ValueError,
                        "open(): netns and fd exclude each other: a descriptor has its namespace");
        return NULL;
    }
    if (netns) {
        return open_elsewhere(module, values[0]);
    }
    return fd ? open_adopted(module, values[1]) : lnfq_handle_open(module_state(module), -1);
}

PyDoc_STRVAR(queue_status_doc,
             "queue_status($module, /)\n"
             "--\n"
             "\n"
             "What the kernel knows of all queues that are bound in the calling thread's network\n"
             "namespace: a list of QueueStatus.\n"
             "\n"
             "Raises PermissionError for all but root of the user namespace in which the network\n"
             "namespace was made; if both were made at once (unshare -rn), for all but root of\n"
             "the initial one. Raises another OSError if there is no such table. Kernel:\n"
             "/proc/net/netfilter/nfnetlink_queue.");

static PyObject *
module_queue_status(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    return lnfq_status_list(module_state(module));
}

PyDoc_STRVAR(queue_nr_doc,
             "NF_QUEUE_NR($module, /, number, bypass=False)\n"
             "--\n"
             "\n"
             "The verdict that passes a packet on to queue `number`, 0 to 65535; an int.\n"
             "\n"
             "With bypass, the packet is let through when nobody listens there; without, it is\n"
             "dropped. Raises ValueError for a number out of range, TypeError. Kernel:\n"
             "NF_QUEUE_NR, NF_VERDICT_FLAG_QUEUE_BYPASS.");

static PyObject *
module_queue_nr(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs,
                PyObject *kwnames)
{
    uint32_t verdict;

    if (lnfq_parse_queue_nr("NF_QUEUE_NR", args, nargs, kwnames, &verdict) < 0) {
        return NULL;
    }
    return PyLong_FromUnsignedLong(verdict);
}

PyDoc_STRVAR(
    update_checksums_doc,
    "update_checksums($module, /, buffer, skb_info=0)\n"
    "--\n"
    "\n"
    "Correct, in place, the checksums of the IPv4 or IPv6 packet that the buffer holds.\n"
    "\n"
    "buffer is a writable, C-contiguous bytes-like object (a bytearray, an mmap, a\n"
    "writable memoryview) that begins with the IP header, as a packet's payload does.\n"
    "skb_info is the packet's own skb_info, an int of 0 to 2**32-1.\n"
    "\n"
    "Corrected are the IPv4 header's checksum and that of TCP, UDP, UDP-Lite, SCTP, ICMP\n"
    "or ICMPv6, behind IPv6 extension headers and AH too; of other protocols only the\n"
    "IPv4 header's. Where a route says so, the final destination counts. A UDP checksum\n"
    "of 0 over IPv4 (none) stays 0. A fragment gets its IPv4 header's only. What lies\n"
    "behind the packet is left alone. A TCP packet with a length of 0, as the kernel's\n"
    "own of more than 65535 bytes, ends where the buffer does.\n"
    "\n"
    "The packet in a tunnel's is corrected too: in IPIP, 6in4 and what else is IP in IP,\n"
    "in GRE, whose own checksum is corrected as well, and in VXLAN and GENEVE on the UDP\n"
    "ports 4789, 8472 and 6081; on all ports where skb_info has NFQA_SKB_CSUMNOTREADY.\n"
    "Tunnels may be up to three deep. What is no valid packet in there stays as it is.\n"
    "\n"
    "Call it on every payload that replaces a packet's: the kernel takes the bytes as\n"
    "they are, and whoever receives the packet drops it if a checksum is wrong. With\n"
    "NFQA_CFG_F_GSO that goes for an unchanged copy too: where skb_info has\n"
    "NFQA_SKB_CSUMNOTREADY a checksum is not complete yet. A packet that is accepted\n"
    "without a payload needs none of this.\n"
    "\n"
    "With NFQA_CFG_F_GSO pass skb_info. Where it has NFQA_SKB_GSO the kernel cuts the\n"
    "packet into segments on its way out. It makes TCP's checksums anew, but goes on from\n"
    "what is in a UDP header (QUIC and others with UDP_SEGMENT; tunnels): that becomes the\n"
    "sum of the pseudo header. Linux 6.1 loses such UDP packets on most devices all the\n"
    "same, 6.12 does not. In INPUT, and in PREROUTING if the packet is for this host,\n"
    "nothing is cut: pass skb_info & ~NFQA_SKB_GSO there. UDP packets that have it then\n"
    "reach sockets with UDP_GRO, and no others. Without NFQA_CFG_F_GSO none of this matters.\n"
    "\n"
    "Never waits. May be called from any thread. Raises ValueError for a packet that is\n"
    "cut short, whose lengths contradict each other, or that is no IP, where the checksum\n"
    "that is not ready is in a tunnel of another kind, and for SCTP with NFQA_SKB_GSO, which\n"
    "only kernels before 6.12 deliver and can't cut; it then has written nothing. Raises\n"
    "TypeError for a buffer of another kind. Sums: RFC 1071; SCTP's: RFC 9260.");

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

    if (lnfq_parse_arguments("update_checksums", names, 1, 2, args, nargs, kwnames, values) < 0
        || (values[1] != NULL
            && lnfq_parse_int(values[1], "update_checksums(): skb_info", 0, UINT32_MAX, &skb_info)
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
    {"open", (PyCFunction)(void (*)(void))module_open, METH_FASTCALL | METH_KEYWORDS, open_doc},
    {"queue_status", module_queue_status, METH_NOARGS, queue_status_doc},
    {"NF_QUEUE_NR", (PyCFunction)(void (*)(void))module_queue_nr, METH_FASTCALL | METH_KEYWORDS,
     queue_nr_doc},
    {"update_checksums", (PyCFunction)(void (*)(void))module_update_checksums,
     METH_FASTCALL | METH_KEYWORDS, update_checksums_doc},
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
    if (add_type(module, &state->handle_type, &lnfq_handle_spec, true) < 0
        || add_type(module, &state->queue_type, &lnfq_queue_spec, true) < 0
        || add_type(module, &state->packet_type, &lnfq_packet_spec, true) < 0
        || add_type(module, &state->slot_type, &lnfq_slot_spec, false) < 0
        || add_type(module, &state->view_type, &lnfq_view_spec, false) < 0) {
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
    if (add_error(module, &state->closed_error, "libnetfilterqueue.ClosedError",
                  "The handle, stream or attachment is closed, or the queue destroyed.",
                  PyExc_ValueError)
            < 0
        || add_error(module, &state->malformed_error, "libnetfilterqueue.MalformedMessageError",
                     "Bytes given to handle_packet() are no valid netlink message.",
                     PyExc_ValueError)
               < 0
        || add_error(module, &state->verdict_error, "libnetfilterqueue.VerdictError",
                     "A second verdict for a packet that has had its own executed.",
                     PyExc_RuntimeError)
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

PyObject *
lnfq_module_share(_Atomic(PyObject *) *place, PyObject *made)
{
    PyObject *there = NULL;

    if (made == NULL || atomic_compare_exchange_strong(place, &there, made)) {
        return made;
    }
    Py_DECREF(made);
    return there;
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
    Py_VISIT(state->view_type);
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
    Py_CLEAR(state->view_type);
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
    .m_doc = "The C core of libnetfilterqueue; see the package.",
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
