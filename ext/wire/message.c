/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading netlink messages of nfnetlink_queue: one pass over the bytes, every length checked before
 * it is used. libnetfilter_queue's own reader trusts the bytes and leaves out the newer attributes.
 * Any thread may call it. There is no state.
 */
#include "message.h"
#include "seldom.h"

#include <libmnl/libmnl.h>

#define HEADER_SIZE ((size_t)MNL_NLMSG_HDRLEN)
#define FAMILY_HEADER_SIZE MNL_ALIGN(sizeof(struct nfgenmsg))
#define ATTRIBUTES_START (HEADER_SIZE + FAMILY_HEADER_SIZE)
#define ERRNO_MAX 4095

/* No message is longer: its one long attribute, the payload, ends at 65535 bytes. */
#define MESSAGE_MAX 131072

/* How short a value may be. What is not named may be empty, or is unknown to us and skipped. */
static const uint8_t attribute_minimum[LNFQ_ATTRIBUTES] = {
    [NFQA_PACKET_HDR] = sizeof(struct nfqnl_msg_packet_hdr),
    [NFQA_MARK] = 4,
    [NFQA_TIMESTAMP] = sizeof(struct nfqnl_msg_packet_timestamp),
    [NFQA_IFINDEX_INDEV] = 4,
    [NFQA_IFINDEX_OUTDEV] = 4,
    [NFQA_IFINDEX_PHYSINDEV] = 4,
    [NFQA_IFINDEX_PHYSOUTDEV] = 4,
    [NFQA_HWADDR] = sizeof(struct nfqnl_msg_packet_hw),
    [NFQA_CT_INFO] = 4,
    [NFQA_CAP_LEN] = 4,
    [NFQA_SKB_INFO] = 4,
    [NFQA_UID] = 4,
    [NFQA_GID] = 4,
    [LNFQ_NFQA_PRIORITY] = 4,
    [LNFQ_NFQA_CGROUP_CLASSID] = 4,
};

static const char too_short[] = "an attribute is too short for its type";

static inline size_t
smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline uint16_t
read_u16(const unsigned char *bytes)
{
    uint16_t value;

    memcpy(&value, bytes, sizeof(value));
    return ntohs(value);
}

/* Attributes whose values have lengths inside. */
#define DEEP_ATTRIBUTES (1u << NFQA_HWADDR | 1u << NFQA_CT | 1u << NFQA_VLAN)

/* What is wrong inside of such a value, or NULL. */
LNFQ_SELDOM static const char *
check_deep(const struct lnfq_index *index, const unsigned char *bytes)
{
    struct lnfq_conntrack conntrack;
    struct lnfq_vlan vlan;
    const char *wrong = NULL;

    if (lnfq_index_has(index, NFQA_HWADDR)
        && read_u16(lnfq_index_value(index, bytes, NFQA_HWADDR)) > LNFQ_HW_ADDR_MAX) {
        return "a hardware address is longer than its attribute";
    }
    if (lnfq_index_has(index, NFQA_CT)) {
        wrong = lnfq_nested_conntrack(lnfq_index_value(index, bytes, NFQA_CT),
                                      lnfq_index_length(index, NFQA_CT), &conntrack);
    }
    if (wrong == NULL && lnfq_index_has(index, NFQA_VLAN)) {
        wrong = lnfq_nested_vlan(lnfq_index_value(index, bytes, NFQA_VLAN),
                                 lnfq_index_length(index, NFQA_VLAN), &vlan);
    }
    return wrong;
}

static inline void
index_value(struct lnfq_index *index, unsigned int type, size_t at, size_t there)
{
    index->present |= 1u << type;
    index->offset[type] = (uint32_t)at;
    index->length[type] = (uint16_t)there;
}

/* What stands at `at`, behind the attributes that are wholly there, is malformed, or a short buffer
 * left no more than a part of it. That counts as absent, unless it is the payload. */
LNFQ_SELDOM static const char *
read_remainder(struct lnfq_index *index, const unsigned char *bytes, size_t at, size_t length,
               size_t end)
{
    static const char left_over[] = "bytes are left over behind the last attribute";
    struct nlattr header;
    unsigned int type;
    size_t rest;

    if (length - at < MNL_ATTR_HDRLEN) {
        return left_over;
    }
    if (end < at + MNL_ATTR_HDRLEN) {
        return NULL;
    }
    memcpy(&header, bytes + at, sizeof(header));
    if (header.nla_len < MNL_ATTR_HDRLEN) {
        return "an attribute is shorter than its header";
    }
    if (header.nla_len > length - at) {
        return "an attribute is longer than its message";
    }
    rest = length - at - smaller(MNL_ALIGN(header.nla_len), length - at);
    if (rest > 0 && rest < MNL_ATTR_HDRLEN) {
        return left_over;
    }
    type = header.nla_type & NLA_TYPE_MASK;
    if (type < LNFQ_ATTRIBUTES && header.nla_len - MNL_ATTR_HDRLEN < attribute_minimum[type]) {
        return too_short;
    }
    if (type == NFQA_PAYLOAD) {
        at += MNL_ATTR_HDRLEN;
        index_value(index, NFQA_PAYLOAD, at, end - at);
        index->payload_declared = (uint16_t)(header.nla_len - MNL_ATTR_HDRLEN);
    }
    return NULL;
}

/* Reads the attributes of a message of `length` bytes, of which those up to `end` are there. */
static const char *
read_attributes(struct lnfq_index *index, const unsigned char *bytes, size_t length, size_t end)
{
    size_t at = ATTRIBUTES_START;

    index->present = 0;
    while (at + MNL_ATTR_HDRLEN <= end) {
        size_t value = at + MNL_ATTR_HDRLEN;
        struct nlattr header;
        unsigned int type;
        size_t size;

        memcpy(&header, bytes + at, sizeof(header));
        size = header.nla_len - (size_t)MNL_ATTR_HDRLEN; /* huge, where that is malformed */
        if (size > end - value) {
            break;
        }
        type = header.nla_type & NLA_TYPE_MASK;
        if (type < LNFQ_ATTRIBUTES) {
            if (size < attribute_minimum[type]) {
                return too_short;
            }
            index_value(index, type, value, size);
        }
        at = value + MNL_ALIGN(size);
    }
    index->payload_declared = lnfq_index_length(index, NFQA_PAYLOAD);
    return at < length ? read_remainder(index, bytes, at, length, end) : NULL;
}

static inline const char *
read_packet(struct lnfq_index *index, const unsigned char *bytes, size_t length, size_t available)
{
    struct nfqnl_msg_packet_hdr header;
    struct nfgenmsg family;
    const char *wrong;
    size_t end = smaller(length, available);

    if (end < ATTRIBUTES_START) {
        return "a packet message is shorter than its header";
    }
    wrong = read_attributes(index, bytes, length, end);
    if (wrong == NULL && (index->present & DEEP_ATTRIBUTES) != 0) {
        wrong = check_deep(index, bytes);
    }
    if (wrong != NULL) {
        return wrong;
    }
    if (!lnfq_index_has(index, NFQA_PACKET_HDR)) {
        return "a packet message has no NFQA_PACKET_HDR";
    }
    memcpy(&family, bytes + HEADER_SIZE, sizeof(family));
    memcpy(&header, lnfq_index_value(index, bytes, NFQA_PACKET_HDR), sizeof(header));
    index->id = ntohl(header.packet_id);
    index->size = (uint32_t)end;
    index->queue = ntohs(family.res_id);
    index->hw_protocol = ntohs(header.hw_protocol);
    index->family = family.nfgen_family;
    index->hook = header.hook;
    index->cut = length > available;
    return NULL;
}

/*
 * A refusal echoes the refused message: a verdict's names its queue and, in its first attribute,
 * its packet. A sender may have asked for the echo to be left out (NLM_F_CAPPED).
 */
static void
read_echo(struct lnfq_answer *answer, const unsigned char *echo, size_t size)
{
    struct nfqnl_msg_verdict_hdr verdict;
    struct nfgenmsg family;
    struct nlattr attribute;

    if (size < ATTRIBUTES_START + MNL_ATTR_HDRLEN + sizeof(verdict)) {
        return;
    }
    memcpy(&attribute, echo + ATTRIBUTES_START, sizeof(attribute));
    if ((attribute.nla_type & NLA_TYPE_MASK) != NFQA_VERDICT_HDR) {
        return;
    }
    memcpy(&family, echo + HEADER_SIZE, sizeof(family));
    memcpy(&verdict, echo + ATTRIBUTES_START + MNL_ATTR_HDRLEN, sizeof(verdict));
    answer->queue = ntohs(family.res_id);
    answer->id = ntohl(verdict.id);
    answer->named = true;
}

LNFQ_SELDOM static const char *
read_answer(struct lnfq_answer *answer, const struct nlmsghdr *header, const unsigned char *bytes,
            size_t available)
{
    size_t end = smaller(header->nlmsg_len, available);
    struct nlmsgerr error;

    if (end < HEADER_SIZE + sizeof(error)) {
        return "an error message is shorter than its header";
    }
    memcpy(&error, bytes + HEADER_SIZE, sizeof(error));
    if (error.error > 0 || error.error < -ERRNO_MAX) {
        return "an error message holds no error number";
    }
    memset(answer, 0, sizeof(*answer));
    answer->error = -error.error;
    answer->seq = error.msg.nlmsg_seq;
    answer->port = error.msg.nlmsg_pid;
    answer->type = error.msg.nlmsg_type;
    if (answer->error != 0 && !(header->nlmsg_flags & NLM_F_CAPPED)) {
        size_t echo = HEADER_SIZE + offsetof(struct nlmsgerr, msg);

        read_echo(answer, bytes + echo, smaller(error.msg.nlmsg_len, end - echo));
    }
    return NULL;
}

const char *
lnfq_message_read(const unsigned char *bytes, size_t available, struct lnfq_message *message,
                  struct lnfq_index *index)
{
    struct nlmsghdr header;

    if (available < HEADER_SIZE) {
        return "fewer bytes than a netlink header has";
    }
    memcpy(&header, bytes, sizeof(header));
    if (header.nlmsg_len < HEADER_SIZE) {
        return "a message is shorter than its header";
    }
    if (header.nlmsg_len > MESSAGE_MAX) {
        return "a message is longer than any can be";
    }
    message->size = smaller(MNL_ALIGN((size_t)header.nlmsg_len), available);
    if (header.nlmsg_type == LNFQ_MESSAGE_TYPE(NFQNL_MSG_PACKET)) {
        message->kind = LNFQ_MESSAGE_PACKET;
        return read_packet(index, bytes, header.nlmsg_len, available);
    }
    if (header.nlmsg_type == NLMSG_ERROR) {
        message->kind = LNFQ_MESSAGE_ANSWER;
        return read_answer(&message->answer, &header, bytes, available);
    }
    message->kind = LNFQ_MESSAGE_OTHER;
    return header.nlmsg_len > available ? "a message is longer than its buffer" : NULL;
}
