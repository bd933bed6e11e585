/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Verdicts that wait to be sent; see outbox.h.
 */
#include "outbox.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "transport.h"

/* What netlink and Unix sockets keep of the send buffer for themselves. */
#define SEND_RESERVE 32

/* A datagram no larger than this fits every send buffer that can be set, without asking. */
#define SEND_ALWAYS 2048

#define CAPACITY_START 4096

int
lnfq_outbox_reserve(struct lnfq_outbox *outbox)
{
    size_t capacity = outbox->capacity != 0 ? outbox->capacity * 2 : CAPACITY_START;
    unsigned char *bytes;

    if (outbox->capacity - outbox->used >= LNFQ_VERDICT_SIZE_MAX) {
        return 0;
    }
    bytes = realloc(outbox->bytes, capacity);
    if (bytes == NULL) {
        return ENOMEM;
    }
    outbox->bytes = bytes;
    outbox->capacity = capacity;
    return 0;
}

static bool
equal(const struct lnfq_verdict *a, const struct lnfq_verdict *b)
{
    return a->verdict == b->verdict && a->has_mark == b->has_mark
           && (!a->has_mark || a->mark == b->mark);
}

int
lnfq_outbox_add(struct lnfq_outbox *outbox, uint16_t queue, uint32_t id,
                const struct lnfq_verdict *verdict, bool batch)
{
    int error;

    if (batch && outbox->growing && outbox->queue == queue && equal(&outbox->verdict, verdict)) {
        lnfq_verdict_extend(outbox->bytes + outbox->last, id);
        return 0;
    }
    error = lnfq_outbox_reserve(outbox);
    if (error != 0) {
        return error;
    }
    outbox->growing = batch;
    outbox->last = outbox->used;
    outbox->queue = queue;
    outbox->verdict = *verdict;
    outbox->used += lnfq_verdict_put(outbox->bytes + outbox->used, queue, id, verdict);
    return 0;
}

/* How many bytes one datagram may have now; a user may have changed the send buffer. */
static size_t
send_limit(int fd)
{
    int buffer;
    socklen_t size = sizeof(buffer);

    if (getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer, &size) < 0
        || buffer < SEND_ALWAYS + SEND_RESERVE) {
        return SEND_ALWAYS;
    }
    return (size_t)buffer - SEND_RESERVE;
}

/* The whole messages from `bytes` on that fit in `limit`; one that is larger goes alone. */
static size_t
fitting(const unsigned char *bytes, size_t size, size_t limit)
{
    size_t at = 0;

    while (at < size) {
        struct nlmsghdr header;
        size_t next;

        memcpy(&header, bytes + at, sizeof(header));
        next = at + NLMSG_ALIGN((size_t)header.nlmsg_len);
        if (next > limit && at > 0) {
            break;
        }
        at = next;
    }
    return at;
}

int
lnfq_outbox_send(struct lnfq_outbox *outbox, int fd, uint64_t *sends)
{
    size_t limit = outbox->used <= SEND_ALWAYS ? SEND_ALWAYS : send_limit(fd);
    size_t sent = 0;
    int error = 0;

    if (outbox->used == 0) {
        return 0;
    }
    outbox->growing = false;
    while (sent < outbox->used) {
        size_t size = outbox->used - sent;

        size = size <= limit ? size : fitting(outbox->bytes + sent, size, limit);
        error = lnfq_transport_send(fd, outbox->bytes + sent, size);
        if (error != 0) {
            break;
        }
        *sends += 1;
        sent += size;
    }
    outbox->used = lnfq_transport_transient(error) ? outbox->used - sent : 0;
    memmove(outbox->bytes, outbox->bytes + sent, outbox->used);
    return error;
}

void
lnfq_outbox_forget(struct lnfq_outbox *outbox, uint16_t queue)
{
    size_t at = 0;

    outbox->growing = false;
    while (at < outbox->used) {
        unsigned char *message = outbox->bytes + at;
        struct nlmsghdr header;
        struct nfgenmsg family;
        size_t size;

        memcpy(&header, message, sizeof(header));
        memcpy(&family, message + NLMSG_HDRLEN, sizeof(family));
        size = NLMSG_ALIGN((size_t)header.nlmsg_len);
        if (ntohs(family.res_id) != queue) {
            at += size;
            continue;
        }
        outbox->used -= size;
        memmove(message, message + size, outbox->used - at);
    }
}

void
lnfq_outbox_free(struct lnfq_outbox *outbox)
{
    free(outbox->bytes);
    memset(outbox, 0, sizeof(*outbox));
}
