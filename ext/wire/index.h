/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where a packet message's attributes are, and their values as numbers. It needs no Python and has
 * no state.
 *
 * Lengths were checked when the message was read (message.h). The values may have changed since: a
 * caller may have overwritten the buffer.
 */
#ifndef LNFQ_INDEX_H
#define LNFQ_INDEX_H

#include <arpa/inet.h>
#include <linux/netlink.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "nested.h"

/* Attributes that the kernel's header which we are built with may be too old to know. */
#define LNFQ_NFQA_PRIORITY 21
#define LNFQ_NFQA_CGROUP_CLASSID 22
#define LNFQ_ATTRIBUTES 23

/* The longest value that an attribute can carry: a payload, to and from the kernel. */
#define LNFQ_PAYLOAD_MAX 65531

/* The longest address that a packet message can carry. */
#define LNFQ_HW_ADDR_MAX 8

/*
 * Where a packet message's attributes are. Offsets count from the start of the message to the
 * attribute's value; lengths are those of the value that is really there. Of an attribute that is
 * absent neither means anything, so that nobody has to clear them before the next message is read.
 */
struct lnfq_index {
    uint32_t id;
    uint32_t size; /* bytes of the message that are there */
    uint16_t queue;
    uint16_t hw_protocol;
    uint16_t payload_declared; /* the payload's length before a short buffer cut it */
    uint8_t family;
    uint8_t hook;
    bool cut;         /* the message is longer than the bytes that are there */
    uint32_t present; /* attributes, as bits */
    uint32_t offset[LNFQ_ATTRIBUTES];
    uint16_t length[LNFQ_ATTRIBUTES];
};

static inline bool
lnfq_index_has(const struct lnfq_index *index, unsigned int attribute)
{
    return (index->present >> attribute & 1) != 0;
}

/* How long it is; 0 where it is absent. */
static inline uint16_t
lnfq_index_length(const struct lnfq_index *index, unsigned int attribute)
{
    return lnfq_index_has(index, attribute) ? index->length[attribute] : 0;
}

/* Its value; where it is absent, some byte of the message. */
static inline const unsigned char *
lnfq_index_value(const struct lnfq_index *index, const unsigned char *bytes, unsigned int attribute)
{
    return lnfq_index_has(index, attribute) ? bytes + index->offset[attribute] : bytes;
}

/* A big-endian attribute of 32 bits, or 0 where it is absent. */
static inline uint32_t
lnfq_index_u32(const struct lnfq_index *index, const unsigned char *bytes, unsigned int attribute)
{
    uint32_t value;

    if (!lnfq_index_has(index, attribute)) {
        return 0;
    }
    memcpy(&value, lnfq_index_value(index, bytes, attribute), sizeof(value));
    return ntohl(value);
}

/* The conntrack entry, as far as it is there. */
static inline void
lnfq_index_conntrack(const struct lnfq_index *index, const unsigned char *bytes,
                     struct lnfq_conntrack *conntrack)
{
    /* Checked when it was indexed; what a caller has overwritten since counts as absent. */
    (void)lnfq_nested_conntrack(lnfq_index_value(index, bytes, NFQA_CT),
                                lnfq_index_length(index, NFQA_CT), conntrack);
}

/* The VLAN tag; the same. */
static inline void
lnfq_index_vlan(const struct lnfq_index *index, const unsigned char *bytes, struct lnfq_vlan *vlan)
{
    (void)lnfq_nested_vlan(lnfq_index_value(index, bytes, NFQA_VLAN),
                           lnfq_index_length(index, NFQA_VLAN), vlan);
}

/* The packet's length before the copy range or a short buffer cut it. */
static inline uint32_t
lnfq_index_original_length(const struct lnfq_index *index, const unsigned char *bytes)
{
    return lnfq_index_has(index, NFQA_CAP_LEN) ? lnfq_index_u32(index, bytes, NFQA_CAP_LEN)
                                               : index->payload_declared;
}

static inline bool
lnfq_index_truncated(const struct lnfq_index *index, const unsigned char *bytes)
{
    return index->cut
           || lnfq_index_length(index, NFQA_PAYLOAD) < lnfq_index_original_length(index, bytes);
}

#endif
