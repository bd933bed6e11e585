/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A packet's attributes: those of its message as Python objects, a reader and a row for each.
 *
 * Making an object may run Python code, such as a finalizer in a garbage collection, and other
 * threads. Meanwhile the packet's callback may return, and the packet then uses another slot. So
 * the slot that a reader looks into is held for it, whatever happens to the packet.
 */
#include "attributes.h"

#include <arpa/inet.h>
#include <endian.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <string.h>

#include "docstrings.h"
#include "enums.h"
#include "handle.h"
#include "index.h"
#include "name.h"
#include "nested.h"
#include "packet.h"
#include "queue.h"
#include "reference.h"
#include "slot.h"
#include "state.h"
#include "tuples.h"
#include "verdict_methods.h"

/* What a reader looks into: held for it while it runs. */
struct content {
    lnfq_state *state;
    const struct lnfq_index *index;
    lnfq_slot *slot;
    const unsigned char *bytes; /* in the slot */
};

/* Makes a Python object of an attribute, whose number is the kernel's. */
typedef PyObject *(*reader)(const struct content *content, unsigned int attribute);

static inline lnfq_packet *
packet_cast(PyObject *self)
{
    return (lnfq_packet *)self;
}

static PyObject *
packet_read(lnfq_packet *packet, reader read, unsigned int attribute)
{
    struct content content = {
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

/* ---- readers ---- */

static bool
content_has(const struct content *content, unsigned int attribute)
{
    return lnfq_index_has(content->index, attribute);
}

static uint32_t
number_of(const struct content *content, unsigned int attribute)
{
    return lnfq_index_u32(content->index, content->bytes, attribute);
}

/* One of 32 bits, 0 where it is absent. */
static PyObject *
read_u32(const struct content *content, unsigned int attribute)
{
    return PyLong_FromUnsignedLong(number_of(content, attribute));
}

/* One of 32 bits, None where it is absent. */
static PyObject *
read_u32_or_none(const struct content *content, unsigned int attribute)
{
    if (!content_has(content, attribute)) {
        Py_RETURN_NONE;
    }
    return read_u32(content, attribute);
}

/* Bytes of their own, empty where they are absent. */
static PyObject *
read_bytes(const struct content *content, unsigned int attribute)
{
    return PyBytes_FromStringAndSize(
        (const char *)lnfq_index_value(content->index, content->bytes, attribute),
        lnfq_index_length(content->index, attribute));
}

/* The same, None where they are absent. */
static PyObject *
read_bytes_or_none(const struct content *content, unsigned int attribute)
{
    if (!content_has(content, attribute)) {
        Py_RETURN_NONE;
    }
    return read_bytes(content, attribute);
}

static PyObject *
read_hw_addr(const struct content *content, unsigned int Py_UNUSED(attribute))
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
arrival(const struct content *content, uint64_t *seconds, uint64_t *microseconds)
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

static PyObject *
read_time(const struct content *content, unsigned int Py_UNUSED(attribute))
{
    uint64_t seconds, microseconds;

    if (!arrival(content, &seconds, &microseconds)) {
        Py_RETURN_NONE;
    }
    return PyFloat_FromDouble((double)seconds + (double)microseconds * 1e-6);
}

static PyObject *
read_time_pair(const struct content *content, unsigned int Py_UNUSED(attribute))
{
    uint64_t seconds, microseconds;

    if (!arrival(content, &seconds, &microseconds)) {
        Py_RETURN_NONE;
    }
    return Py_BuildValue("(KK)", (unsigned long long)seconds, (unsigned long long)microseconds);
}

static PyObject *
read_skb_info(const struct content *content, unsigned int attribute)
{
    return lnfq_enums_member(content->state, LNFQ_ENUM_SKB_INFO, number_of(content, attribute));
}

static PyObject *
read_original_length(const struct content *content, unsigned int Py_UNUSED(attribute))
{
    return PyLong_FromUnsignedLong(lnfq_index_original_length(content->index, content->bytes));
}

static PyObject *
read_truncated(const struct content *content, unsigned int Py_UNUSED(attribute))
{
    return PyBool_FromLong(lnfq_index_truncated(content->index, content->bytes));
}

static PyObject *
read_secctx(const struct content *content, unsigned int attribute)
{
    size_t size = lnfq_index_length(content->index, attribute);
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

static PyObject *
read_vlan(const struct content *content, unsigned int attribute)
{
    struct lnfq_vlan vlan;

    if (!content_has(content, attribute)) {
        Py_RETURN_NONE;
    }
    lnfq_index_vlan(content->index, content->bytes, &vlan);

    PyObject *const values[] = {optional_number(vlan.proto), optional_number(vlan.tci)};

    return lnfq_tuples_make(content->state, LNFQ_TUPLE_VLAN, values, Py_ARRAY_LENGTH(values));
}

static PyObject *
labels_or_none(const struct lnfq_conntrack *conntrack)
{
    if (!conntrack->has_labels) {
        Py_RETURN_NONE;
    }
    return PyBytes_FromStringAndSize((const char *)conntrack->labels, LNFQ_LABELS_SIZE);
}

static PyObject *
read_conntrack(const struct content *content, unsigned int attribute)
{
    struct lnfq_conntrack conntrack;

    if (!content_has(content, attribute)) {
        Py_RETURN_NONE;
    }
    lnfq_index_conntrack(content->index, content->bytes, &conntrack);

    PyObject *const values[] = {
        optional_number(conntrack.id),          optional_number(conntrack.status),
        optional_number(conntrack.mark),        labels_or_none(&conntrack),
        optional_number(conntrack.zone),        optional_number(conntrack.timeout),
        read_bytes_or_none(content, attribute),
    };

    return lnfq_tuples_make(content->state, LNFQ_TUPLE_CONNTRACK, values, Py_ARRAY_LENGTH(values));
}

/* ---- what the index says ---- */

static PyObject *
get_id(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLong(packet_cast(self)->index.id);
}

static PyObject *
get_queue(PyObject *self, void *Py_UNUSED(closure))
{
    return Py_NewRef((PyObject *)packet_cast(self)->queue);
}

static PyObject *
get_family(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLong(packet_cast(self)->index.family);
}

static PyObject *
get_hook(PyObject *self, void *Py_UNUSED(closure))
{
    lnfq_packet *packet = packet_cast(self);

    return lnfq_enums_member(packet->queue->handle->state, LNFQ_ENUM_HOOK, packet->index.hook);
}

static PyObject *
get_hw_protocol(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLong(packet_cast(self)->index.hw_protocol);
}

/* ---- the names of devices ---- */

static PyObject *
packet_name(PyObject *self, unsigned int attribute, const char *call)
{
    lnfq_packet *packet = packet_cast(self);

    return lnfq_name_find(packet->queue->handle, lnfq_packet_number(packet, attribute), call);
}

/* ---- the original getters ---- */

PyObject *
lnfq_attributes_indev_name(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return packet_name(self, NFQA_IFINDEX_INDEV, "indev_name()");
}

PyObject *
lnfq_attributes_physindev_name(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return packet_name(self, NFQA_IFINDEX_PHYSINDEV, "physindev_name()");
}

PyObject *
lnfq_attributes_outdev_name(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return packet_name(self, NFQA_IFINDEX_OUTDEV, "outdev_name()");
}

PyObject *
lnfq_attributes_physoutdev_name(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return packet_name(self, NFQA_IFINDEX_PHYSOUTDEV, "physoutdev_name()");
}

PyObject *
lnfq_attributes_get_packet_hw(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return packet_read(packet_cast(self), read_hw_addr, NFQA_HWADDR);
}

PyObject *
lnfq_attributes_get_nfmark(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return packet_read(packet_cast(self), read_u32, NFQA_MARK);
}

PyObject *
lnfq_attributes_get_timestamp(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return packet_read(packet_cast(self), read_time_pair, NFQA_TIMESTAMP);
}

PyObject *
lnfq_attributes_get_indev(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return packet_read(packet_cast(self), read_u32, NFQA_IFINDEX_INDEV);
}

PyObject *
lnfq_attributes_get_physindev(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return packet_read(packet_cast(self), read_u32, NFQA_IFINDEX_PHYSINDEV);
}

PyObject *
lnfq_attributes_get_outdev(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return packet_read(packet_cast(self), read_u32, NFQA_IFINDEX_OUTDEV);
}

PyObject *
lnfq_attributes_get_physoutdev(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return packet_read(packet_cast(self), read_u32, NFQA_IFINDEX_PHYSOUTDEV);
}

PyObject *
lnfq_attributes_get_payload(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return packet_read(packet_cast(self), read_bytes, NFQA_PAYLOAD);
}

PyObject *
lnfq_attributes_get_uid(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return packet_read(packet_cast(self), read_u32_or_none, NFQA_UID);
}

PyObject *
lnfq_attributes_get_gid(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return packet_read(packet_cast(self), read_u32_or_none, NFQA_GID);
}

/* Of what the packet exports. */
static PyObject *
get_view(PyObject *self, void *Py_UNUSED(closure))
{
    return PyMemoryView_FromObject(self);
}

/* ---- rows ---- */

/* What a row reads: its closure. */
struct attribute {
    reader read;
    unsigned int number; /* the kernel's, for readers of more than one */
};

static PyObject *
get(PyObject *self, void *closure)
{
    const struct attribute *attribute = closure;

    return packet_read(packet_cast(self), attribute->read, attribute->number);
}

/* A closure, which can't be const. */
#define ATTRIBUTE(read, number) &(struct attribute){read, number}

PyGetSetDef lnfq_attributes_table[] = {
    {"id", get_id, NULL, DOC_NetfilterQueueData_id, NULL},
    {"queue", get_queue, NULL, DOC_NetfilterQueueData_queue, NULL},
    {"family", get_family, NULL, DOC_NetfilterQueueData_family, NULL},
    {"hook", get_hook, NULL, DOC_NetfilterQueueData_hook, NULL},
    {"hw_protocol", get_hw_protocol, NULL, DOC_NetfilterQueueData_hw_protocol, NULL},
    {"hw_addr", get, NULL, DOC_NetfilterQueueData_hw_addr, ATTRIBUTE(read_hw_addr, NFQA_HWADDR)},
    {"mark", get, NULL, DOC_NetfilterQueueData_mark, ATTRIBUTE(read_u32, NFQA_MARK)},
    {"timestamp", get, NULL, DOC_NetfilterQueueData_timestamp,
     ATTRIBUTE(read_time, NFQA_TIMESTAMP)},
    {"indev", get, NULL, DOC_NetfilterQueueData_indev, ATTRIBUTE(read_u32, NFQA_IFINDEX_INDEV)},
    {"physindev", get, NULL, DOC_NetfilterQueueData_physindev,
     ATTRIBUTE(read_u32, NFQA_IFINDEX_PHYSINDEV)},
    {"outdev", get, NULL, DOC_NetfilterQueueData_outdev, ATTRIBUTE(read_u32, NFQA_IFINDEX_OUTDEV)},
    {"physoutdev", get, NULL, DOC_NetfilterQueueData_physoutdev,
     ATTRIBUTE(read_u32, NFQA_IFINDEX_PHYSOUTDEV)},
    {"payload", get_view, NULL, DOC_NetfilterQueueData_payload, NULL},
    {"uid", get, NULL, DOC_NetfilterQueueData_uid, ATTRIBUTE(read_u32_or_none, NFQA_UID)},
    {"gid", get, NULL, DOC_NetfilterQueueData_gid, ATTRIBUTE(read_u32_or_none, NFQA_GID)},
    {"skb_info", get, NULL, DOC_NetfilterQueueData_skb_info,
     ATTRIBUTE(read_skb_info, NFQA_SKB_INFO)},
    {"original_length", get, NULL, DOC_NetfilterQueueData_original_length,
     ATTRIBUTE(read_original_length, NFQA_CAP_LEN)},
    {"truncated", get, NULL, DOC_NetfilterQueueData_truncated,
     ATTRIBUTE(read_truncated, NFQA_CAP_LEN)},
    {"priority", get, NULL, DOC_NetfilterQueueData_priority,
     ATTRIBUTE(read_u32, LNFQ_NFQA_PRIORITY)},
    {"cgroup_classid", get, NULL, DOC_NetfilterQueueData_cgroup_classid,
     ATTRIBUTE(read_u32, LNFQ_NFQA_CGROUP_CLASSID)},
    {"secctx", get, NULL, DOC_NetfilterQueueData_secctx, ATTRIBUTE(read_secctx, NFQA_SECCTX)},
    {"vlan", get, NULL, DOC_NetfilterQueueData_vlan, ATTRIBUTE(read_vlan, NFQA_VLAN)},
    {"l2_header", get, NULL, DOC_NetfilterQueueData_l2_header,
     ATTRIBUTE(read_bytes_or_none, NFQA_L2HDR)},
    {"conntrack", get, NULL, DOC_NetfilterQueueData_conntrack, ATTRIBUTE(read_conntrack, NFQA_CT)},
    {"ct_info", get, NULL, DOC_NetfilterQueueData_ct_info,
     ATTRIBUTE(read_u32_or_none, NFQA_CT_INFO)},
    {"verdict", lnfq_verdict_methods_get_verdict, NULL, DOC_NetfilterQueueData_verdict, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
