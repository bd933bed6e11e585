/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the libFuzzer targets share: a promise that is checked, the fuzzer's bytes as a row of
 * numbers, and messages read back by libmnl, strictly.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/*
 * What the linker puts in the place of some functions (--wrap), so that a target can have them
 * fail; here is what it gets that defines none of its own.
 */
void *__real_malloc(size_t size);
void *__real_realloc(void *bytes, size_t size);
ssize_t __real_send(int fd, const void *bytes, size_t size, int flags);
ssize_t __real_sendmsg(int fd, const struct msghdr *message, int flags);
bool __real_lnfq_transport_permitted(void);

void *__wrap_malloc(size_t size);
void *__wrap_realloc(void *bytes, size_t size);
ssize_t __wrap_send(int fd, const void *bytes, size_t size, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags);
bool __wrap_lnfq_transport_permitted(void);

/* A macro, so that the report names the promise that was broken, and its line. */
#define require(condition) \
    ((condition)           \
         ? (void)0         \
         : (fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #condition), abort()))

/* Bytes that are taken one after the other; zeros once they are used up. */
struct input {
    const uint8_t *bytes;
    size_t size;
};

static inline void
take(struct input *input, void *to, size_t size)
{
    size_t there = size < input->size ? size : input->size;

    memset(to, 0, size);
    if (there > 0) {
        memcpy(to, input->bytes, there);
        input->bytes += there;
        input->size -= there;
    }
}

static inline uint8_t
take_u8(struct input *input)
{
    uint8_t value;

    take(input, &value, sizeof(value));
    return value;
}

static inline uint16_t
take_u16(struct input *input)
{
    uint16_t value;

    take(input, &value, sizeof(value));
    return value;
}

static inline uint32_t
take_u32(struct input *input)
{
    uint32_t value;

    take(input, &value, sizeof(value));
    return value;
}

/* More attributes than any kernel has. */
#define ATTRIBUTES 32

/* Where each attribute is, NULL where it is absent; none comes twice, nothing is left over. */
static inline void
read_attributes(const void *bytes, size_t size, const struct nlattr *attributes[ATTRIBUTES])
{
    const struct nlattr *attribute = bytes;

    memset(attributes, 0, ATTRIBUTES * sizeof(attributes[0]));
    while (size > 0) {
        uint16_t type = mnl_attr_get_type(attribute);

        require(mnl_attr_ok(attribute, (int)size));
        require(type < ATTRIBUTES && attributes[type] == NULL);
        attributes[type] = attribute;
        require(size >= (size_t)MNL_ALIGN(attribute->nla_len));
        size -= (size_t)MNL_ALIGN(attribute->nla_len);
        attribute = mnl_attr_next(attribute);
    }
}

/* The same of a message of a queue, whose headers are checked too. */
static inline void
read_message(const struct nlmsghdr *message, uint16_t type, uint16_t queue,
             const struct nlattr *attributes[ATTRIBUTES])
{
    const struct nfgenmsg *family = mnl_nlmsg_get_payload(message);

    require(message->nlmsg_type == (NFNL_SUBSYS_QUEUE << 8 | type));
    require(message->nlmsg_len >= MNL_NLMSG_HDRLEN + sizeof(*family));
    require(message->nlmsg_len % MNL_ALIGNTO == 0);
    require(family->nfgen_family == AF_UNSPEC && family->version == NFNETLINK_V0);
    require(family->res_id == htons(queue));
    read_attributes(mnl_nlmsg_get_payload_offset(message, sizeof(*family)),
                    mnl_nlmsg_get_payload_len(message) - sizeof(*family), attributes);
}

/* Whether an attribute has this value, and nothing else. */
static inline bool
is_bytes(const struct nlattr *attribute, const void *value, size_t size)
{
    return attribute != NULL && mnl_attr_get_payload_len(attribute) == size
           && memcmp(mnl_attr_get_payload(attribute), value, size) == 0;
}

/* A big-endian number. */
static inline bool
is_u32(const struct nlattr *attribute, uint32_t value)
{
    value = htonl(value);
    return is_bytes(attribute, &value, sizeof(value));
}

static inline bool
is_u16(const struct nlattr *attribute, uint16_t value)
{
    value = htons(value);
    return is_bytes(attribute, &value, sizeof(value));
}

#endif
