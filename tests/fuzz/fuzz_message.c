/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libFuzzer target: whatever the bytes are, reading them as messages touches nothing outside, comes
 * to an end, and what it says of a packet can be relied on: libmnl finds the same attributes.
 */
#include "message.h"

#include "fuzz.h"

/* Sums the bytes, so that the sanitizer sees each of them touched. */
static unsigned int
touch(const unsigned char *bytes, size_t size)
{
    unsigned int sum = 0;

    for (size_t i = 0; i < size; i++) {
        sum += bytes[i];
    }
    return sum;
}

/* Reads what is nested: it was whole when it was indexed, and so it is now. */
static unsigned int
check_nested(const struct lnfq_index *packet, const unsigned char *bytes)
{
    struct lnfq_conntrack conntrack;
    struct lnfq_vlan vlan;

    require(lnfq_nested_conntrack(lnfq_index_value(packet, bytes, NFQA_CT),
                                  lnfq_index_length(packet, NFQA_CT), &conntrack)
            == NULL);
    require(lnfq_nested_vlan(lnfq_index_value(packet, bytes, NFQA_VLAN),
                             lnfq_index_length(packet, NFQA_VLAN), &vlan)
            == NULL);
    return conntrack.mark.value + vlan.tci.value + conntrack.labels[0];
}

/* Notes the last attribute of each type. */
static int
note_attribute(const struct nlattr *attribute, void *data)
{
    const struct nlattr **found = data;

    if (mnl_attr_get_type(attribute) < LNFQ_ATTRIBUTES) {
        found[mnl_attr_get_type(attribute)] = attribute;
    }
    return MNL_CB_OK;
}

/* Compares with what libmnl finds in a message that is whole. */
static void
check_attributes(const struct lnfq_index *packet, const unsigned char *bytes)
{
    const struct nlattr *found[LNFQ_ATTRIBUTES] = {NULL};
    struct nlmsghdr *message = malloc(packet->size); /* at an aligned address */

    require(message != NULL);
    memcpy(message, bytes, packet->size);
    require(message->nlmsg_len == packet->size);
    require(mnl_attr_parse(message, sizeof(struct nfgenmsg), note_attribute, found) == MNL_CB_OK);
    for (unsigned int type = 0; type < LNFQ_ATTRIBUTES; type++) {
        require(lnfq_index_has(packet, type) == (found[type] != NULL));
        require(found[type] == NULL
                || is_bytes(found[type], lnfq_index_value(packet, bytes, type),
                            lnfq_index_length(packet, type)));
    }
    free(message);
}

static unsigned int
check_packet(const struct lnfq_index *packet, const unsigned char *bytes, size_t there)
{
    unsigned int sum = 0;

    require(packet->size <= there);
    require(lnfq_index_has(packet, NFQA_PACKET_HDR));
    for (unsigned int attribute = 0; attribute < LNFQ_ATTRIBUTES; attribute++) {
        if (lnfq_index_has(packet, attribute)) {
            size_t length = lnfq_index_length(packet, attribute);

            require(packet->offset[attribute] + length <= packet->size);
            sum += touch(lnfq_index_value(packet, bytes, attribute), length);
        }
    }
    if (!packet->cut) {
        check_attributes(packet, bytes);
    }
    sum += check_nested(packet, bytes);
    sum += lnfq_index_u32(packet, bytes, NFQA_MARK);
    sum += lnfq_index_original_length(packet, bytes);
    return sum + lnfq_index_truncated(packet, bytes);
}

static volatile unsigned int sum; /* of all that was read, so that the reads stay */

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    while (size > 0) {
        struct lnfq_message message;
        struct lnfq_index packet;

        if (lnfq_message_read(data, size, &message, &packet) != NULL) {
            break;
        }
        require(message.size > 0 && message.size <= size);
        if (message.kind == LNFQ_MESSAGE_PACKET) {
            sum += check_packet(&packet, data, size);
        }
        else if (message.kind == LNFQ_MESSAGE_ANSWER) {
            require(message.answer.error >= 0);
        }
        data += message.size;
        size -= message.size;
    }
    return 0;
}
