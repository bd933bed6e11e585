/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading nested attributes without Python: the conntrack entry and the VLAN tag of a packet
 * message, and the expectation of a verdict. The bytes may come from anyone and may change while
 * they are looked at; nothing here allocates, locks or keeps a pointer.
 */
#ifndef LNFQ_NESTED_H
#define LNFQ_NESTED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A connection's labels: 128 bits, in the byte order of the host. */
#define LNFQ_LABELS_SIZE 16

/* A number that may be absent, and is 0 then. */
struct lnfq_optional {
    bool there;
    uint32_t value;
};

/* NFQA_CT: what is not there is absent. */
struct lnfq_conntrack {
    struct lnfq_optional id;
    struct lnfq_optional status; /* IPS_* bits */
    struct lnfq_optional mark;
    struct lnfq_optional zone;
    struct lnfq_optional timeout; /* seconds */
    bool has_labels;
    unsigned char labels[LNFQ_LABELS_SIZE];
};

/* NFQA_VLAN: the tag's EtherType and its control information, in host byte order. */
struct lnfq_vlan {
    struct lnfq_optional proto;
    struct lnfq_optional tci;
};

/* Both read `size` bytes, return NULL, or what is wrong with them (a static string); then what
 * stands before that is in the result. */
const char *lnfq_nested_conntrack(const unsigned char *bytes, size_t size,
                                  struct lnfq_conntrack *conntrack);
const char *lnfq_nested_vlan(const unsigned char *bytes, size_t size, struct lnfq_vlan *vlan);

/* What is wrong with the value of an NFQA_EXP (a static string), or NULL. Without a tuple and a
 * mask most kernels crash: they follow a null pointer. */
const char *lnfq_nested_expectation(const unsigned char *bytes, size_t size);

#endif
