/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading nested attributes; see nested.h. Any thread may call it. There is no state.
 */
#include "nested.h"

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <string.h>

/* Puts one attribute into the result; false if its value is too short. */
typedef bool take_attribute(void *result, unsigned int type, const unsigned char *value,
                            size_t size);

static const char *
walk(const unsigned char *bytes, size_t size, take_attribute *take, void *result)
{
    while (size > 0) {
        struct nlattr header;
        size_t step;

        if (size < (size_t)MNL_ATTR_HDRLEN) {
            return "bytes are left over behind the last nested attribute";
        }
        memcpy(&header, bytes, sizeof(header));
        if (header.nla_len < MNL_ATTR_HDRLEN) {
            return "a nested attribute is shorter than its header";
        }
        if (header.nla_len > size) {
            return "a nested attribute is longer than what it is in";
        }
        if (!take(result, header.nla_type & NLA_TYPE_MASK, bytes + MNL_ATTR_HDRLEN,
                  header.nla_len - (size_t)MNL_ATTR_HDRLEN)) {
            return "a nested attribute is too short for its type";
        }
        step = MNL_ALIGN((size_t)header.nla_len);
        step = step < size ? step : size;
        bytes += step;
        size -= step;
    }
    return NULL;
}

static bool
take_u32(struct lnfq_optional *number, const unsigned char *value, size_t size)
{
    uint32_t big_endian;

    if (size < sizeof(big_endian)) {
        return false;
    }
    memcpy(&big_endian, value, sizeof(big_endian));
    *number = (struct lnfq_optional){true, ntohl(big_endian)};
    return true;
}

static bool
take_u16(struct lnfq_optional *number, const unsigned char *value, size_t size)
{
    uint16_t big_endian;

    if (size < sizeof(big_endian)) {
        return false;
    }
    memcpy(&big_endian, value, sizeof(big_endian));
    *number = (struct lnfq_optional){true, ntohs(big_endian)};
    return true;
}

static bool
take_labels(struct lnfq_conntrack *conntrack, const unsigned char *value, size_t size)
{
    if (size < sizeof(conntrack->labels)) {
        return false;
    }
    memcpy(conntrack->labels, value, sizeof(conntrack->labels));
    conntrack->has_labels = true;
    return true;
}

static bool
take_conntrack(void *result, unsigned int type, const unsigned char *value, size_t size)
{
    struct lnfq_conntrack *conntrack = result;

    switch (type) {
    case CTA_ID:
        return take_u32(&conntrack->id, value, size);
    case CTA_STATUS:
        return take_u32(&conntrack->status, value, size);
    case CTA_MARK:
        return take_u32(&conntrack->mark, value, size);
    case CTA_ZONE:
        return take_u16(&conntrack->zone, value, size);
    case CTA_TIMEOUT:
        return take_u32(&conntrack->timeout, value, size);
    case CTA_LABELS:
        return take_labels(conntrack, value, size);
    default:
        return true;
    }
}

const char *
lnfq_nested_conntrack(const unsigned char *bytes, size_t size, struct lnfq_conntrack *conntrack)
{
    memset(conntrack, 0, sizeof(*conntrack));
    return walk(bytes, size, take_conntrack, conntrack);
}

static bool
take_vlan(void *result, unsigned int type, const unsigned char *value, size_t size)
{
    struct lnfq_vlan *vlan = result;

    switch (type) {
    case NFQA_VLAN_PROTO:
        return take_u16(&vlan->proto, value, size);
    case NFQA_VLAN_TCI:
        return take_u16(&vlan->tci, value, size);
    default:
        return true;
    }
}

const char *
lnfq_nested_vlan(const unsigned char *bytes, size_t size, struct lnfq_vlan *vlan)
{
    memset(vlan, 0, sizeof(*vlan));
    return walk(bytes, size, take_vlan, vlan);
}

/* What an expectation has to have. */
struct expectation {
    bool tuple;
    bool mask;
};

static bool
take_expectation(void *result, unsigned int type, const unsigned char *value, size_t size)
{
    struct expectation *expectation = result;

    (void)value;
    expectation->tuple |= type == CTA_EXPECT_TUPLE;
    expectation->mask |= type == CTA_EXPECT_MASK;
    return size > 0 || (type != CTA_EXPECT_TUPLE && type != CTA_EXPECT_MASK);
}

const char *
lnfq_nested_expectation(const unsigned char *bytes, size_t size)
{
    struct expectation expectation = {false, false};
    const char *wrong = walk(bytes, size, take_expectation, &expectation);

    if (wrong == NULL && !expectation.tuple) {
        wrong = "there is no CTA_EXPECT_TUPLE";
    }
    if (wrong == NULL && !expectation.mask) {
        wrong = "there is no CTA_EXPECT_MASK";
    }
    return wrong;
}
