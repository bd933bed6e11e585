/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libFuzzer target: whatever the bytes are, the readers of nested attributes take them for whole if
 * and only if libmnl's own iterator does, and then say what it finds.
 */
#include "nested.h"

#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netfilter/nfnetlink_queue.h>

#include "fuzz.h"

/* More types than either kind has. */
#define TYPES 32

static const size_t conntrack_minimum[TYPES] = {
    [CTA_ID] = 4,   [CTA_STATUS] = 4,  [CTA_MARK] = 4,
    [CTA_ZONE] = 2, [CTA_TIMEOUT] = 4, [CTA_LABELS] = LNFQ_LABELS_SIZE,
};
static const size_t vlan_minimum[TYPES] = {[NFQA_VLAN_PROTO] = 2, [NFQA_VLAN_TCI] = 2};

/* Finds the last attribute of each type. False if any is too short, or bytes are left over. */
static bool
find(const unsigned char *bytes, size_t size, const size_t minimum[TYPES],
     const struct nlattr *found[TYPES])
{
    const struct nlattr *attribute = (const void *)bytes;
    const unsigned char *end = bytes + size;

    memset(found, 0, TYPES * sizeof(found[0]));
    while (mnl_attr_ok(attribute, (int)(end - (const unsigned char *)attribute))) {
        uint16_t type = mnl_attr_get_type(attribute);

        if (type < TYPES) {
            if (mnl_attr_get_payload_len(attribute) < minimum[type]) {
                return false;
            }
            found[type] = attribute;
        }
        attribute = mnl_attr_next(attribute);
    }
    return (const unsigned char *)attribute >= end;
}

static void
check_u32(struct lnfq_optional number, const struct nlattr *attribute)
{
    require(number.there == (attribute != NULL));
    require(!number.there || number.value == ntohl(mnl_attr_get_u32(attribute)));
}

static void
check_u16(struct lnfq_optional number, const struct nlattr *attribute)
{
    require(number.there == (attribute != NULL));
    require(!number.there || number.value == ntohs(mnl_attr_get_u16(attribute)));
}

static void
check_conntrack(const unsigned char *bytes, size_t size)
{
    const struct nlattr *found[TYPES];
    bool whole = find(bytes, size, conntrack_minimum, found);
    struct lnfq_conntrack conntrack;

    require((lnfq_nested_conntrack(bytes, size, &conntrack) == NULL) == whole);
    if (!whole) {
        return;
    }
    check_u32(conntrack.id, found[CTA_ID]);
    check_u32(conntrack.status, found[CTA_STATUS]);
    check_u32(conntrack.mark, found[CTA_MARK]);
    check_u16(conntrack.zone, found[CTA_ZONE]);
    check_u32(conntrack.timeout, found[CTA_TIMEOUT]);
    require(conntrack.has_labels == (found[CTA_LABELS] != NULL));
    require(!conntrack.has_labels
            || memcmp(conntrack.labels, mnl_attr_get_payload(found[CTA_LABELS]), LNFQ_LABELS_SIZE)
                   == 0);
}

static void
check_vlan(const unsigned char *bytes, size_t size)
{
    const struct nlattr *found[TYPES];
    bool whole = find(bytes, size, vlan_minimum, found);
    struct lnfq_vlan vlan;

    require((lnfq_nested_vlan(bytes, size, &vlan) == NULL) == whole);
    if (whole) {
        check_u16(vlan.proto, found[NFQA_VLAN_PROTO]);
        check_u16(vlan.tci, found[NFQA_VLAN_TCI]);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned char *bytes = malloc(size + 1); /* at an aligned address, for libmnl */

    require(bytes != NULL);
    if (size > 0) {
        memcpy(bytes, data, size);
    }
    check_conntrack(bytes, size);
    check_vlan(bytes, size);
    free(bytes);
    return 0;
}
