/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Receiving and sending on the descriptor. No state of its own: the handle's lock protects what is
 * passed in. Nothing here waits, whatever the descriptor's mode is.
 */
#define _GNU_SOURCE /* recvmmsg */
#include "transport.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* What netlink and Unix sockets keep of the send buffer for themselves. */
#define SEND_RESERVE 32

/* A datagram no larger than this fits every send buffer that can be set, without asking. */
#define SEND_ALWAYS 2048

#define OUTBOX_START 4096

/* Any process may send to a netlink socket; on a socket pair nobody else can. */
static bool
from_kernel(const struct msghdr *message)
{
    const struct sockaddr_nl *sender = message->msg_name;

    return message->msg_namelen < sizeof(*sender) || sender->nl_family != AF_NETLINK
           || sender->nl_pid == 0;
}

int
lnfq_transport_receive(int fd, struct lnfq_inlet *inlets, unsigned int count)
{
    struct mmsghdr messages[LNFQ_BATCH_MAX];
    struct sockaddr_nl senders[LNFQ_BATCH_MAX];
    struct iovec vectors[LNFQ_BATCH_MAX];
    int received;

    count = count < LNFQ_BATCH_MAX ? count : LNFQ_BATCH_MAX;
    memset(messages, 0, count * sizeof(messages[0]));
    for (unsigned int i = 0; i < count; i++) {
        vectors[i] = (struct iovec){inlets[i].bytes, inlets[i].capacity};
        messages[i].msg_hdr.msg_name = &senders[i];
        messages[i].msg_hdr.msg_namelen = sizeof(senders[i]);
        messages[i].msg_hdr.msg_iov = &vectors[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    do {
        received = recvmmsg(fd, messages, count, MSG_DONTWAIT, NULL);
    } while (received < 0 && errno == EINTR);
    if (received < 0) {
        return -errno;
    }
    for (int i = 0; i < received; i++) {
        inlets[i].length = from_kernel(&messages[i].msg_hdr) ? messages[i].msg_len : 0;
    }
    return received;
}

int
lnfq_transport_send(int fd, const void *bytes, size_t size)
{
    ssize_t sent;

    do {
        sent = send(fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? errno : 0;
}

bool
lnfq_transport_transient(int error)
{
    return error == EAGAIN || error == ENOBUFS || error == ENOMEM;
}

unsigned char *
lnfq_outbox_reserve(struct lnfq_outbox *outbox, size_t size)
{
    if (outbox->capacity - outbox->used < size) {
        size_t capacity = outbox->capacity ? outbox->capacity * 2 : OUTBOX_START;
        unsigned char *bytes;

        while (capacity - outbox->used < size) {
            capacity *= 2;
        }
        bytes = realloc(outbox->bytes, capacity);
        if (bytes == NULL) {
            return NULL;
        }
        outbox->bytes = bytes;
        outbox->capacity = capacity;
    }
    return outbox->bytes + outbox->used;
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
