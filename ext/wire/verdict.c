/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Verdict messages. libnetfilter_queue and libmnl build what few of them have. Any thread may call
 * it. There is no state.
 */
#include "verdict.h"

#include <netinet/in.h> /* before the kernel's, which then leaves it its names */

#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <libmnl/libmnl.h>
#include <libnetfilter_queue/libnetfilter_queue.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "message.h"

/* Of NF_QUEUE: the number in the upper half, one flag, the verdict in the lowest byte. */
#define NUMBER_SHIFT 16
#define VERDICT_BITS 0xffu

bool
lnfq_verdict_valid(uint32_t verdict)
{
    if ((verdict & VERDICT_BITS) == NF_QUEUE) {
        return (verdict & 0xffffu & ~(VERDICT_BITS | NF_VERDICT_FLAG_QUEUE_BYPASS)) == 0;
    }
    return verdict <= NF_MAX_VERDICT;
}

uint32_t
lnfq_verdict_queue(uint16_t number, bool bypass)
{
    return ((uint32_t)number << NUMBER_SHIFT) | NF_QUEUE
           | (bypass ? NF_VERDICT_FLAG_QUEUE_BYPASS : 0);
}

static void
put_vlan(struct nlmsghdr *message, const struct lnfq_vlan *vlan)
{
    struct nlattr *nest = mnl_attr_nest_start(message, NFQA_VLAN);

    mnl_attr_put_u16(message, NFQA_VLAN_PROTO, htons((uint16_t)vlan->proto.value));
    mnl_attr_put_u16(message, NFQA_VLAN_TCI, htons((uint16_t)vlan->tci.value));
    mnl_attr_nest_end(message, nest);
}

static void
put_conntrack(struct nlmsghdr *message, const struct lnfq_options *options)
{
    struct nlattr *nest = mnl_attr_nest_start(message, NFQA_CT);

    if (options->ct_mark.there) {
        mnl_attr_put_u32(message, CTA_MARK, htonl(options->ct_mark.value));
    }
    if (options->has_labels) {
        mnl_attr_put(message, CTA_LABELS, sizeof(options->labels), options->labels);
    }
    mnl_attr_nest_end(message, nest);
}

/* The longest: VLAN tag (nested), conntrack mark and labels (nested), link-layer header,
 * expectation. */
#define OPTIONS_SIZE_MAX (20 + 32 + 4 + LNFQ_L2_HEADER_MAX + 4 + LNFQ_EXPECTATION_MAX)

struct lnfq_attributes *
lnfq_verdict_build_options(const struct lnfq_options *options)
{
    /* libmnl puts attributes in messages: this one lends its header. */
    _Alignas(struct nlmsghdr) unsigned char bytes[MNL_NLMSG_HDRLEN + OPTIONS_SIZE_MAX];
    struct nlmsghdr *message = mnl_nlmsg_put_header(bytes);
    struct lnfq_attributes *attributes;
    size_t size;

    if (options->vlan.proto.there) {
        put_vlan(message, &options->vlan);
    }
    /* The kernel reads an expectation only beside this one, which may be empty. */
    if (options->ct_mark.there || options->has_labels || options->expectation != NULL) {
        put_conntrack(message, options);
    }
    if (options->expectation != NULL) {
        mnl_attr_put(message, NFQA_EXP | NLA_F_NESTED, options->expectation_size,
                     options->expectation);
    }
    if (options->l2_header != NULL) {
        mnl_attr_put(message, NFQA_L2HDR, options->l2_header_size, options->l2_header);
    }
    size = mnl_nlmsg_get_payload_len(message);
    attributes = malloc(sizeof(*attributes) + size);
    if (attributes != NULL) {
        attributes->size = size;
        memcpy(attributes->bytes, mnl_nlmsg_get_payload(message), size);
    }
    return attributes;
}

/* Puts the header of a payload that follows; returns the size of what is built. */
static size_t
announce_payload(struct nlmsghdr *message, size_t size)
{
    struct nlattr *attribute = mnl_nlmsg_get_payload_tail(message);
    size_t built = message->nlmsg_len + (size_t)MNL_ATTR_HDRLEN;

    attribute->nla_type = NFQA_PAYLOAD;
    attribute->nla_len = (uint16_t)(MNL_ATTR_HDRLEN + size);
    message->nlmsg_len = (uint32_t)(built + MNL_ALIGN(size));
    return built;
}

/* Two headers, verdict, mark, priority, and the header of a payload. */
_Static_assert(20 + 12 + 8 + 8 + 4 <= LNFQ_VERDICT_SIZE_MAX, "a verdict without options fits");

/* What all verdicts begin with. */
struct beginning {
    struct nlmsghdr header;
    struct nfgenmsg family;
    struct nlattr attribute;
    struct nfqnl_msg_verdict_hdr verdict;
};

static struct beginning *
beginning_of(unsigned char *message)
{
    return (struct beginning *)(void *)message;
}

static size_t
put(unsigned char *buffer, uint16_t type, uint16_t queue, uint32_t id, uint32_t seq,
    const struct lnfq_verdict *verdict)
{
    /* Kernels refuse NF_STOLEN from user space, and would keep the packet; what it means is that
     * the network stack forgets it. */
    uint32_t sent = verdict->verdict == NF_STOLEN ? NF_DROP : verdict->verdict;
    struct nlmsghdr *message = &beginning_of(buffer)->header;

    *beginning_of(buffer) = (struct beginning){
        .header = {sizeof(struct beginning), LNFQ_MESSAGE_TYPE(type), NLM_F_REQUEST, seq,
                   verdict->reason},
        .family = {AF_UNSPEC, NFNETLINK_V0, htons(queue)},
        .attribute = {NLA_HDRLEN + sizeof(struct nfqnl_msg_verdict_hdr), NFQA_VERDICT_HDR},
        .verdict = {htonl(sent), htonl(id)},
    };
    if (verdict->mark.there) {
        nfq_nlmsg_verdict_put_mark(message, verdict->mark.value);
    }
    if (verdict->priority.there) {
        mnl_attr_put_u32(message, LNFQ_NFQA_PRIORITY, htonl(verdict->priority.value));
    }
    if (verdict->options != NULL) {
        memcpy(mnl_nlmsg_get_payload_tail(message), verdict->options->bytes,
               verdict->options->size);
        message->nlmsg_len += (uint32_t)verdict->options->size;
    }
    return verdict->payload != NULL ? announce_payload(message, verdict->payload_size)
                                    : message->nlmsg_len;
}

size_t
lnfq_verdict_put(unsigned char *buffer, uint16_t queue, uint32_t id,
                 const struct lnfq_verdict *verdict)
{
    return put(buffer, NFQNL_MSG_VERDICT, queue, id, id, verdict);
}

size_t
lnfq_verdict_put_batch(unsigned char *buffer, uint16_t queue, uint32_t up_to, uint32_t seq,
                       const struct lnfq_verdict *verdict)
{
    return put(buffer, NFQNL_MSG_VERDICT_BATCH, queue, up_to, seq, verdict);
}

uint32_t
lnfq_verdict_id(const unsigned char *message)
{
    const struct beginning *beginning = (const struct beginning *)(const void *)message;

    return ntohl(beginning->verdict.id);
}

bool
lnfq_verdict_is_batch(const unsigned char *message)
{
    const struct beginning *beginning = (const struct beginning *)(const void *)message;

    return beginning->header.nlmsg_type == LNFQ_MESSAGE_TYPE(NFQNL_MSG_VERDICT_BATCH);
}

void
lnfq_verdict_extend(unsigned char *message, uint32_t up_to)
{
    struct beginning *beginning = beginning_of(message);

    beginning->header.nlmsg_type = LNFQ_MESSAGE_TYPE(NFQNL_MSG_VERDICT_BATCH);
    beginning->header.nlmsg_seq = up_to;
    beginning->verdict.id = htonl(up_to);
}
