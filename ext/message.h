/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading netlink messages of nfnetlink_queue, without Python.
 *
 * The bytes may come from anyone and may change while they are looked at (a caller's bytearray):
 * every length is read once, checked, and kept in the result. Nothing here allocates, locks or
 * keeps a pointer.
 */
#ifndef LNFQ_MESSAGE_H
#define LNFQ_MESSAGE_H

#include <arpa/inet.h>
#include <endian.h>
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

/* What a message is to us. */
enum lnfq_message_kind {
    LNFQ_MESSAGE_OTHER,  /* nothing of ours: skipped */
    LNFQ_MESSAGE_PACKET, /* NFQNL_MSG_PACKET */
    LNFQ_MESSAGE_ANSWER, /* NLMSG_ERROR: an acknowledgement or a refusal */
};

/*
 * Where a packet message's attributes are. Offsets count from the start of the message to the
 * attribute's value, 0 where it is absent; lengths are those of the value that is really there.
 */
struct lnfq_index {
    uint32_t id;
    uint32_t size; /* bytes of the message that are there */
    uint16_t queue;
    uint16_t hw_protocol;
    uint16_t payload_declared; /* the payload's length before a short buffer cut it */
    uint8_t family;
    uint8_t hook;
    bool cut; /* the message is longer than the bytes that are there */
    uint32_t offset[LNFQ_ATTRIBUTES];
    uint16_t length[LNFQ_ATTRIBUTES];
};

/* An acknowledgement (error 0) or a refusal of something that was sent. */
struct lnfq_answer {
    int error;     /* an errno, positive */
    uint32_t seq;  /* of the message that it answers */
    uint16_t type; /* of the message that it answers */
    bool named;    /* queue and id were echoed */
    uint16_t queue;
    uint32_t id;
};

struct lnfq_message {
    enum lnfq_message_kind kind;
    size_t size; /* bytes that it takes in its buffer, with the padding up to the next one */
    struct lnfq_answer answer;
};

/*
 * Reads the message at the start of `bytes`, of which `available` are there; a packet's attributes
 * go to `index`. Returns NULL, or what is wrong with it (a static string); then neither result
 * means anything.
 */
const char *lnfq_message_read(const unsigned char *bytes, size_t available,
                              struct lnfq_message *message, struct lnfq_index *index);

static inline bool
lnfq_index_has(const struct lnfq_index *index, unsigned int attribute)
{
    return index->offset[attribute] != 0;
}

static inline const unsigned char *
lnfq_index_value(const struct lnfq_index *index, const unsigned char *bytes, unsigned int attribute)
{
    return bytes + index->offset[attribute];
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
    (void)lnfq_nested_conntrack(lnfq_index_value(index, bytes, NFQA_CT), index->length[NFQA_CT],
                                conntrack);
}

/* The VLAN tag; the same. */
static inline void
lnfq_index_vlan(const struct lnfq_index *index, const unsigned char *bytes, struct lnfq_vlan *vlan)
{
    (void)lnfq_nested_vlan(lnfq_index_value(index, bytes, NFQA_VLAN), index->length[NFQA_VLAN],
                           vlan);
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
    return index->cut || index->length[NFQA_PAYLOAD] < lnfq_index_original_length(index, bytes);
}

#endif
