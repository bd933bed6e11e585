/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Receiving and sending on the descriptor. No state of its own: the handle's lock protects what is
 * passed in. Nothing here waits, whatever the descriptor's mode is.
 */
#define _GNU_SOURCE /* recvmmsg */
#include "transport.h"

#include <errno.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>

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
lnfq_transport_send_pieces(int fd, struct iovec *pieces, size_t count)
{
    const struct msghdr message = {.msg_iov = pieces, .msg_iovlen = count};
    ssize_t sent;

    do {
        sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? errno : 0;
}

int
lnfq_transport_send(int fd, const void *bytes, size_t size)
{
    struct iovec piece = {(void *)(uintptr_t)bytes, size};

    return lnfq_transport_send_pieces(fd, &piece, 1);
}

bool
lnfq_transport_transient(int error)
{
    return error == EAGAIN || error == ENOBUFS || error == ENOMEM;
}
