/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a verdict may change of its packet, read from the arguments of set_verdict and accept:
 * payload, VLAN tag, link-layer header, conntrack mark and labels, expectation. There is no state
 * and no lock.
 */
#include "verdict_arguments.h"

#include <netinet/in.h> /* before the kernel's, which then leaves it its names */

#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <string.h>

#include "arguments.h"
#include "checksum.h"
#include "index.h"
#include "nested.h"
#include "packet.h"
#include "reference.h"
#include "verdict.h"

/* The object itself if it is bytes, which can't change, or a copy as bytes; NULL with an exception.
 * An object of a class derived from bytes may have attributes, and so hold the packet that holds
 * its verdict. */
static PyObject *
as_bytes(PyObject *object, const char *what)
{
    if (PyBytes_CheckExact(object)) {
        return Py_NewRef(object);
    }
    if (!PyObject_CheckBuffer(object)) {
        lnfq_arguments_refuse(PyExc_TypeError, object, "%s must be a bytes-like object", what);
        return NULL;
    }
    return PyBytes_FromObject(object);
}

/* Why a payload of the packet's can't be replaced, whatever it is; or NULL. */
static const char *
check_own_payload(lnfq_packet *packet)
{
    const char *wrong;

    Py_BEGIN_CRITICAL_SECTION(packet);
    wrong = lnfq_checksum_unfit(lnfq_index_value(&packet->index, packet->bytes, NFQA_PAYLOAD),
                                lnfq_index_length(&packet->index, NFQA_PAYLOAD), false);
    Py_END_CRITICAL_SECTION();
    return wrong;
}

/* Why the kernel would lose the packet with this payload, as far as that is certain; or NULL. */
static const char *
check_segments(lnfq_packet *packet, PyObject *bytes)
{
    const char *wrong;

    if ((lnfq_packet_number(packet, NFQA_SKB_INFO) & NFQA_SKB_GSO) == 0) {
        return NULL;
    }
    wrong = check_own_payload(packet);
    return wrong != NULL ? wrong
                         : lnfq_checksum_unfit((const unsigned char *)PyBytes_AS_STRING(bytes),
                                               (size_t)PyBytes_GET_SIZE(bytes),
                                               packet->index.hook == NF_INET_LOCAL_IN);
}

int
lnfq_verdict_arguments_payload(lnfq_packet *packet, PyObject *object, const char *what,
                               struct lnfq_verdict *verdict)
{
    PyObject *bytes;
    const char *wrong;
    Py_ssize_t size;

    bytes = as_bytes(object, what);
    if (bytes == NULL) {
        return -1;
    }
    size = PyBytes_GET_SIZE(bytes);
    if (size < 1 || size > LNFQ_PAYLOAD_MAX) {
        PyErr_Format(PyExc_ValueError, "%s must have 1..%d bytes, not %zd", what, LNFQ_PAYLOAD_MAX,
                     size);
    }
    else if (lnfq_packet_truncated(packet)) {
        PyErr_Format(PyExc_ValueError,
                     "%s: packet %u is truncated, and the kernel would cut it to this", what,
                     packet->index.id);
    }
    else if ((wrong = check_segments(packet, bytes)) != NULL) {
        PyErr_Format(PyExc_ValueError, "%s: packet %u: %s", what, packet->index.id, wrong);
    }
    else {
        verdict->payload = PyBytes_AS_STRING(bytes);
        verdict->payload_size = (uint32_t)size;
        verdict->owner = bytes;
        return 0;
    }
    Py_DECREF(bytes);
    return -1;
}

/* A pair (EtherType, control information). */
static int
parse_vlan(PyObject *object, struct lnfq_vlan *vlan)
{
    int64_t proto, tci;

    if (!lnfq_arguments_given(object)) {
        return 0;
    }
    if (!PyTuple_Check(object) || PyTuple_GET_SIZE(object) != 2) {
        lnfq_arguments_refuse(PyExc_TypeError, object,
                              "set_verdict(): vlan must be a tuple (proto, tci)");
        return -1;
    }
    if (lnfq_arguments_int(PyTuple_GET_ITEM(object, 0), "set_verdict(): vlan's proto", 0,
                           UINT16_MAX, &proto)
            < 0
        || lnfq_arguments_int(PyTuple_GET_ITEM(object, 1), "set_verdict(): vlan's tci", 0,
                              UINT16_MAX, &tci)
               < 0) {
        return -1;
    }
    vlan->proto = (struct lnfq_optional){true, (uint32_t)proto};
    vlan->tci = (struct lnfq_optional){true, (uint32_t)tci};
    return 0;
}

/* Fewer bytes than there are labels stand for the first ones; the rest are cleared. */
static int
parse_labels(PyObject *object, struct lnfq_options *options)
{
    PyObject *bytes;
    Py_ssize_t size;

    if (!lnfq_arguments_given(object)) {
        return 0;
    }
    bytes = as_bytes(object, "set_verdict(): ct_labels");
    if (bytes == NULL) {
        return -1;
    }
    size = PyBytes_GET_SIZE(bytes);
    options->has_labels = size >= 1 && size <= LNFQ_LABELS_SIZE;
    if (options->has_labels) {
        memcpy(options->labels, PyBytes_AS_STRING(bytes), (size_t)size);
    }
    else {
        PyErr_Format(PyExc_ValueError, "set_verdict(): ct_labels must have 1..%d bytes, not %zd",
                     LNFQ_LABELS_SIZE, size);
    }
    Py_DECREF(bytes);
    return options->has_labels ? 0 : -1;
}

/* The header's owner, a new reference, goes to `owner`: it has to live until the message is built.
 * The kernel refuses a header of another length only after it has unqueued the packet. */
static int
parse_l2_header(const lnfq_packet *packet, PyObject *object, struct lnfq_options *options,
                PyObject **owner)
{
    Py_ssize_t size = lnfq_index_length(&packet->index, NFQA_L2HDR);

    if (!lnfq_arguments_given(object)) {
        return 0;
    }
    *owner = as_bytes(object, "set_verdict(): l2_header");
    if (*owner == NULL) {
        return -1;
    }
    if (size == 0 || size > LNFQ_L2_HEADER_MAX || PyBytes_GET_SIZE(*owner) != size) {
        PyErr_Format(PyExc_ValueError,
                     "set_verdict(): l2_header must be as long as the packet's, %zd bytes, not %zd",
                     size, PyBytes_GET_SIZE(*owner));
        return -1;
    }
    options->l2_header = PyBytes_AS_STRING(*owner);
    options->l2_header_size = (size_t)size;
    return 0;
}

/* The bytes of a mapping's fields. Few programs need what builds them: it is imported here. */
static PyObject *
build_expectation(PyObject *fields)
{
    PyObject *module = PyImport_ImportModule("libnetfilterqueue.expectations");
    PyObject *bytes =
        module ? PyObject_CallMethod(module, "_build", "sO", "set_verdict", fields) : NULL;

    Py_XDECREF(module);
    return bytes;
}

/* The expectation's owner, a new reference, goes to `owner`: it has to live until the message is
 * built. The kernel reports nothing about an expectation that it does not take. */
static int
parse_expectation(PyObject *object, struct lnfq_options *options, PyObject **owner)
{
    const char *wrong;
    Py_ssize_t size;

    if (!lnfq_arguments_given(object)) {
        return 0;
    }
    *owner = PyObject_CheckBuffer(object) ? as_bytes(object, "set_verdict(): expectation")
                                          : build_expectation(object);
    if (*owner == NULL) {
        return -1;
    }
    size = PyBytes_GET_SIZE(*owner);
    if (size > LNFQ_EXPECTATION_MAX) {
        PyErr_Format(PyExc_ValueError,
                     "set_verdict(): expectation must have at most %d bytes, not %zd",
                     LNFQ_EXPECTATION_MAX, size);
        return -1;
    }
    options->expectation = PyBytes_AS_STRING(*owner);
    options->expectation_size = (size_t)size;
    wrong = lnfq_nested_expectation(options->expectation, options->expectation_size);
    if (wrong != NULL) {
        PyErr_Format(PyExc_ValueError,
                     "set_verdict(): expectation must be the attributes of one: %s", wrong);
        return -1;
    }
    return 0;
}

static int
build_options(const struct lnfq_options *options, struct lnfq_verdict *verdict)
{
    verdict->options = lnfq_verdict_build_options(options);
    if (verdict->options == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

/* Whether any is named. */
static bool
named(PyObject *const values[LNFQ_OPTION_ARGUMENTS])
{
    for (int i = 0; i < LNFQ_OPTION_ARGUMENTS; i++) {
        if (lnfq_arguments_given(values[i])) {
            return true;
        }
    }
    return false;
}

int
lnfq_verdict_arguments_options(const lnfq_packet *packet,
                               PyObject *const values[LNFQ_OPTION_ARGUMENTS],
                               struct lnfq_verdict *verdict)
{
    struct lnfq_options options = {0};
    PyObject *l2_header = NULL;
    PyObject *expectation = NULL;
    int result = -1;

    if (!named(values)) {
        return 0;
    }
    if (parse_vlan(values[0], &options.vlan) == 0
        && lnfq_arguments_optional(values[1], "set_verdict(): ct_mark", &options.ct_mark) == 0
        && parse_labels(values[2], &options) == 0
        && parse_l2_header(packet, values[3], &options, &l2_header) == 0
        && parse_expectation(values[4], &options, &expectation) == 0) {
        result = build_options(&options, verdict);
    }
    Py_XDECREF(l2_header);
    Py_XDECREF(expectation);
    return result;
}
