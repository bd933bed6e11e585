/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a packet says: its message's attributes as Python objects. No state.
 *
 * To make an object may run Python code, such as a finalizer in a garbage collection, and other
 * threads. Meanwhile the packet's callback may return, and the packet look into another slot from
 * then on. So what readers look into is held for them, whatever happens to the packet.
 */
#include "nfq.h"

PyObject *
lnfq_packet_read(lnfq_packet *packet, lnfq_reader read, unsigned int attribute)
{
    struct lnfq_content content = {
        .state = packet->queue->handle->state,
        .index = &packet->index,
    };
    PyObject *value;

    Py_BEGIN_CRITICAL_SECTION(packet);
    content.slot = (lnfq_slot *)Py_NewRef((PyObject *)packet->slot);
    content.bytes = packet->bytes;
    Py_END_CRITICAL_SECTION();
    value = read(&content, attribute);
    Py_DECREF(content.slot);
    return value;
}

uint32_t
lnfq_packet_number(lnfq_packet *packet, unsigned int attribute)
{
    uint32_t number;

    Py_BEGIN_CRITICAL_SECTION(packet);
    number = lnfq_index_u32(&packet->index, packet->bytes, attribute);
    Py_END_CRITICAL_SECTION();
    return number;
}

uint32_t
lnfq_packet_original_length(lnfq_packet *packet)
{
    uint32_t length;

    Py_BEGIN_CRITICAL_SECTION(packet);
    length = lnfq_index_original_length(&packet->index, packet->bytes);
    Py_END_CRITICAL_SECTION();
    return length;
}

bool
lnfq_packet_truncated(lnfq_packet *packet)
{
    bool truncated;

    Py_BEGIN_CRITICAL_SECTION(packet);
    truncated = lnfq_index_truncated(&packet->index, packet->bytes);
    Py_END_CRITICAL_SECTION();
    return truncated;
}

/* ---- readers ---- */

static bool
content_has(const struct lnfq_content *content, unsigned int attribute)
{
    return lnfq_index_has(content->index, attribute);
}

static uint32_t
number_of(const struct lnfq_content *content, unsigned int attribute)
{
    return lnfq_index_u32(content->index, content->bytes, attribute);
}

/* One of 32 bits, 0 where it is absent. */
PyObject *
lnfq_read_u32(const struct lnfq_content *content, unsigned int attribute)
{
    return PyLong_FromUnsignedLong(number_of(content, attribute));
}

/* One of 32 bits, None where it is absent. */
PyObject *
lnfq_read_u32_or_none(const struct lnfq_content *content, unsigned int attribute)
{
    if (!content_has(content, attribute)) {
        Py_RETURN_NONE;
    }
    return lnfq_read_u32(content, attribute);
}

/* Bytes of their own, empty where they are absent. */
PyObject *
lnfq_read_bytes(const struct lnfq_content *content, unsigned int attribute)
{
    return PyBytes_FromStringAndSize(
        (const char *)lnfq_index_value(content->index, content->bytes, attribute),
        content->index->length[attribute]);
}

/* The same, None where they are absent. */
PyObject *
lnfq_read_bytes_or_none(const struct lnfq_content *content, unsigned int attribute)
{
    if (!content_has(content, attribute)) {
        Py_RETURN_NONE;
    }
    return lnfq_read_bytes(content, attribute);
}

PyObject *
lnfq_read_hw_addr(const struct lnfq_content *content, unsigned int Py_UNUSED(attribute))
{
    struct nfqnl_msg_packet_hw hw;
    uint16_t length;

    if (!content_has(content, NFQA_HWADDR)) {
        return PyBytes_FromStringAndSize(NULL, 0);
    }
    memcpy(&hw, lnfq_index_value(content->index, content->bytes, NFQA_HWADDR), sizeof(hw));
    /* Checked when it was indexed; a caller may have overwritten the buffer since. */
    length = ntohs(hw.hw_addrlen);
    length = length < LNFQ_HW_ADDR_MAX ? length : LNFQ_HW_ADDR_MAX;
    return PyBytes_FromStringAndSize((char *)hw.hw_addr, length);
}

/* False where there is none. */
static bool
arrival(const struct lnfq_content *content, uint64_t *seconds, uint64_t *microseconds)
{
    struct nfqnl_msg_packet_timestamp stamp;

    if (!content_has(content, NFQA_TIMESTAMP)) {
        return false;
    }
    memcpy(&stamp, lnfq_index_value(content->index, content->bytes, NFQA_TIMESTAMP), sizeof(stamp));
    *seconds = be64toh(stamp.sec);
    *microseconds = be64toh(stamp.usec);
    return true;
}

PyObject *
lnfq_read_time(const struct lnfq_content *content, unsigned int Py_UNUSED(attribute))
{
    uint64_t seconds, microseconds;

    if (!arrival(content, &seconds, &microseconds)) {
        Py_RETURN_NONE;
    }
    return PyFloat_FromDouble((double)seconds + (double)microseconds * 1e-6);
}

PyObject *
lnfq_read_time_pair(const struct lnfq_content *content, unsigned int Py_UNUSED(attribute))
{
    uint64_t seconds, microseconds;

    if (!arrival(content, &seconds, &microseconds)) {
        Py_RETURN_NONE;
    }
    return Py_BuildValue("(KK)", (unsigned long long)seconds, (unsigned long long)microseconds);
}

PyObject *
lnfq_read_view(const struct lnfq_content *content, unsigned int attribute)
{
    return lnfq_view_new(content->state, content->slot,
                         lnfq_index_value(content->index, content->bytes, attribute),
                         content->index->length[attribute]);
}

PyObject *
lnfq_read_skb_info(const struct lnfq_content *content, unsigned int attribute)
{
    return lnfq_enum_member(content->state, LNFQ_ENUM_SKB_INFO, number_of(content, attribute));
}

PyObject *
lnfq_read_original_length(const struct lnfq_content *content, unsigned int Py_UNUSED(attribute))
{
    return PyLong_FromUnsignedLong(lnfq_index_original_length(content->index, content->bytes));
}

PyObject *
lnfq_read_truncated(const struct lnfq_content *content, unsigned int Py_UNUSED(attribute))
{
    return PyBool_FromLong(lnfq_index_truncated(content->index, content->bytes));
}

PyObject *
lnfq_read_secctx(const struct lnfq_content *content, unsigned int attribute)
{
    size_t size = content->index->length[attribute];
    const char *context = (const char *)lnfq_index_value(content->index, content->bytes, attribute);

    if (!content_has(content, attribute)) {
        Py_RETURN_NONE;
    }
    /* SELinux counts the end of the string. */
    if (size > 0 && context[size - 1] == '\0') {
        size -= 1;
    }
    return PyBytes_FromStringAndSize(context, (Py_ssize_t)size);
}

/* An int, or None where there is no number. */
static PyObject *
optional_number(struct lnfq_optional number)
{
    if (!number.there) {
        Py_RETURN_NONE;
    }
    return PyLong_FromUnsignedLong(number.value);
}

PyObject *
lnfq_read_vlan(const struct lnfq_content *content, unsigned int attribute)
{
    struct lnfq_vlan vlan;

    if (!content_has(content, attribute)) {
        Py_RETURN_NONE;
    }
    lnfq_index_vlan(content->index, content->bytes, &vlan);

    PyObject *const values[] = {optional_number(vlan.proto), optional_number(vlan.tci)};

    return lnfq_tuple_make(content->state, LNFQ_TUPLE_VLAN, values, Py_ARRAY_LENGTH(values));
}

static PyObject *
labels_or_none(const struct lnfq_conntrack *conntrack)
{
    if (!conntrack->has_labels) {
        Py_RETURN_NONE;
    }
    return PyBytes_FromStringAndSize((const char *)conntrack->labels, LNFQ_LABELS_SIZE);
}

PyObject *
lnfq_read_conntrack(const struct lnfq_content *content, unsigned int attribute)
{
    struct lnfq_conntrack conntrack;

    if (!content_has(content, attribute)) {
        Py_RETURN_NONE;
    }
    lnfq_index_conntrack(content->index, content->bytes, &conntrack);

    PyObject *const values[] = {
        optional_number(conntrack.id),
        optional_number(conntrack.status),
        optional_number(conntrack.mark),
        labels_or_none(&conntrack),
        optional_number(conntrack.zone),
        optional_number(conntrack.timeout),
        lnfq_read_bytes_or_none(content, attribute),
    };

    return lnfq_tuple_make(content->state, LNFQ_TUPLE_CONNTRACK, values, Py_ARRAY_LENGTH(values));
}
