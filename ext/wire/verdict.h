/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Verdicts and the messages that carry them, without Python. There is no state.
 */
#ifndef LNFQ_VERDICT_H
#define LNFQ_VERDICT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nested.h"

/* Room for the longest message that is built here, without the options. */
#define LNFQ_VERDICT_SIZE_MAX 64

/* The longest link-layer header that can be replaced; Ethernet's takes 14 bytes, and 4 for each
 * VLAN tag. */
#define LNFQ_L2_HEADER_MAX 64

/* The longest expectation. With three tuples of IPv6 and all names they have half of it. A message
 * with one has to fit every send buffer. */
#define LNFQ_EXPECTATION_MAX 1024

/* The sequence numbers of verdicts that may find nothing: a queue's last batch verdict, its first
 * on what others have left, and one on a packet that may have been lost. Others that have them are
 * on packets with that very id. */
#define LNFQ_SEQ_TEARDOWN 0
#define LNFQ_SEQ_SETTLE 0xfffffffd
#define LNFQ_SEQ_UNSURE 0xfffffffe /* what others send by themselves has small numbers */

/* Why a packet gets a verdict: a program has decided, or it gets its queue's default. */
enum lnfq_reason {
    LNFQ_REASON_DECIDED,
    LNFQ_REASON_RAISED,    /* its callback raised */
    LNFQ_REASON_SILENT,    /* nobody can give it a verdict any more */
    LNFQ_REASON_HANDLED,   /* its handler ended without one */
    LNFQ_REASON_UNBOUND,   /* its queue ended, or who had read it */
    LNFQ_REASON_TOO_LARGE, /* its own verdict was too large for the socket */
    LNFQ_REASON_NO_MEMORY, /* for the packet, or for its own verdict */
};

/* What a packet is to get. Numbers are in host byte order; what is absent is not sent. */
struct lnfq_verdict {
    uint32_t verdict; /* as the caller gave it */
    enum lnfq_reason reason;
    struct lnfq_optional mark;
    struct lnfq_optional priority;
    uint32_t payload_size;
    const void *payload;             /* its new content, NULL to leave it as it is */
    void *owner;                     /* of the payload: whoever set it lets it go once it is sent */
    struct lnfq_attributes *options; /* NULL for none: whoever set them frees them */
};

/* Netlink attributes, one behind the other. */
struct lnfq_attributes {
    size_t size;
    unsigned char bytes[];
};

/* What few verdicts have. */
struct lnfq_options {
    struct lnfq_vlan vlan; /* both of its numbers or none */
    struct lnfq_optional ct_mark;
    bool has_labels;
    unsigned char labels[LNFQ_LABELS_SIZE];
    const void *l2_header; /* of the packet's own length; NULL for none */
    size_t l2_header_size;
    const void *expectation; /* the value of an NFQA_EXP; NULL for none */
    size_t expectation_size;
};

/* Whether user space may give it: one of the six, and a queue number and bypass only with NF_QUEUE.
 */
bool lnfq_verdict_valid(uint32_t verdict);

/* NF_QUEUE with the queue's number, and the flag that lets the packet pass if nobody listens. */
uint32_t lnfq_verdict_queue(uint16_t number, bool bypass);

/* Builds the attributes of options, for the caller to free; NULL without memory. */
struct lnfq_attributes *lnfq_verdict_build_options(const struct lnfq_options *options);

/*
 * Builds an NFQNL_MSG_VERDICT, returns its size. Its sequence number is the packet's id, so that a
 * refusal that echoes no more than the header can be told apart. Its port id is the reason: the
 * kernel does not look at it, and a program that acts as the kernel tells it to a test. A payload
 * is the last attribute and is not copied: it and its padding have to follow what is built here,
 * and count in nlmsg_len.
 */
size_t lnfq_verdict_put(unsigned char *buffer, uint16_t queue, uint32_t id,
                        const struct lnfq_verdict *verdict);

/* Builds an NFQNL_MSG_VERDICT_BATCH over all waiting packets up to an id, returns its size. It can
 * carry a mark and a priority. */
size_t lnfq_verdict_put_batch(unsigned char *buffer, uint16_t queue, uint32_t up_to, uint32_t seq,
                              const struct lnfq_verdict *verdict);

/* Which packet a message is about, or up to which. */
uint32_t lnfq_verdict_id(const unsigned char *message);

/* Whether a message is a batch verdict. */
bool lnfq_verdict_is_batch(const unsigned char *message);

/* Makes of a verdict, as built above, a batch verdict up to a newer id. Its sequence number is that
 * id. */
void lnfq_verdict_extend(unsigned char *message, uint32_t up_to);

#endif
