/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Receiving and sending on the descriptor. No state of its own: the handle's lock protects what is
 * passed in. Nothing here waits, whatever the descriptor's mode is.
 */
#define _GNU_SOURCE /* recvmmsg, POLLRDHUP */
#include "transport.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* One datagram's place; the headers are in an array of their own. */
struct inlet {
    struct sockaddr_nl sender;
    struct iovec piece;
    size_t length;
};

struct lnfq_inlets {
    struct inlet *places;
    struct mmsghdr headers[];
};

struct lnfq_inlets *
lnfq_inlets_new(unsigned int count)
{
    struct lnfq_inlets *inlets = calloc(1, sizeof(*inlets) + count * sizeof(inlets->headers[0]));

    if (inlets == NULL) {
        return NULL;
    }
    inlets->places = calloc(count, sizeof(inlets->places[0]));
    if (inlets->places == NULL) {
        free(inlets);
        return NULL;
    }
    for (unsigned int i = 0; i < count; i++) {
        struct msghdr *header = &inlets->headers[i].msg_hdr;

        header->msg_name = &inlets->places[i].sender;
        header->msg_namelen = sizeof(inlets->places[i].sender);
        header->msg_iov = &inlets->places[i].piece;
        header->msg_iovlen = 1;
    }
    return inlets;
}

void
lnfq_inlets_free(struct lnfq_inlets *inlets)
{
    if (inlets != NULL) {
        free(inlets->places);
        free(inlets);
    }
}

void
lnfq_inlets_set(struct lnfq_inlets *inlets, unsigned int index, unsigned char *bytes,
                size_t capacity)
{
    inlets->places[index].piece = (struct iovec){bytes, capacity};
}

/* Any process may send to a netlink socket; on a socket pair nobody else can. */
static bool
from_kernel(const struct msghdr *header, const struct sockaddr_nl *sender)
{
    return header->msg_namelen < sizeof(*sender) || sender->nl_family != AF_NETLINK
           || sender->nl_pid == 0;
}

int
lnfq_inlets_receive(struct lnfq_inlets *inlets, int fd, unsigned int count)
{
    int received;

    do {
        received = recvmmsg(fd, inlets->headers, count, MSG_DONTWAIT, NULL);
    } while (received < 0 && errno == EINTR);
    if (received < 0) {
        return -errno;
    }
    for (int i = 0; i < received; i++) {
        struct mmsghdr *header = &inlets->headers[i];
        struct inlet *place = &inlets->places[i];

        place->length = from_kernel(&header->msg_hdr, &place->sender) ? header->msg_len : 0;
        header->msg_hdr.msg_namelen = sizeof(place->sender); /* for the next time */
    }
    return received;
}

size_t
lnfq_inlets_length(const struct lnfq_inlets *inlets, unsigned int index)
{
    return inlets->places[index].length;
}

bool
lnfq_transport_ended(int fd)
{
    struct pollfd poller = {.fd = fd, .events = POLLRDHUP};

    return poll(&poller, 1, 0) > 0 && (poller.revents & (POLLRDHUP | POLLHUP)) != 0;
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

int
lnfq_transport_send_pieces(int fd, struct iovec *pieces, size_t count)
{
    const struct msghdr message = {.msg_iov = pieces, .msg_iovlen = count};
    ssize_t sent;

    if (count == 1) {
        return lnfq_transport_send(fd, pieces->iov_base, pieces->iov_len); /* costs less */
    }
    do {
        sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? errno : 0;
}

bool
lnfq_transport_drops(int fd, uint32_t *drops)
{
    uint32_t memory[SK_MEMINFO_VARS];
    socklen_t size = sizeof(memory);

    if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, memory, &size) < 0 || size < sizeof(memory)) {
        return false;
    }
    *drops = memory[SK_MEMINFO_DROPS];
    return true;
}

bool
lnfq_transport_permitted(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];

    return syscall(SYS_capget, &header, sets) == 0
           && (sets[CAP_TO_INDEX(CAP_NET_ADMIN)].effective & CAP_TO_MASK(CAP_NET_ADMIN)) != 0;
}
