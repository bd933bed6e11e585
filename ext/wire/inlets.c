/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Buffers that many datagrams are received into; see inlets.h.
 */
#define _GNU_SOURCE /* recvmmsg */
#include "inlets.h"

#include <errno.h>
#include <linux/netlink.h>
#include <stdlib.h>
#include <sys/socket.h>

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

/* The result of the system call; notes what it has left in so many headers. */
static int
note(struct lnfq_inlets *inlets, int received)
{
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

int
lnfq_inlets_receive(struct lnfq_inlets *inlets, int fd, unsigned int count)
{
    int received;

    do {
        received = recvmmsg(fd, inlets->headers, count, MSG_DONTWAIT, NULL);
    } while (received < 0 && errno == EINTR);
    return note(inlets, received);
}

int
lnfq_inlets_await(struct lnfq_inlets *inlets, int fd, unsigned int count)
{
    return note(inlets, recvmmsg(fd, inlets->headers, count, MSG_WAITFORONE, NULL));
}

size_t
lnfq_inlets_length(const struct lnfq_inlets *inlets, unsigned int index)
{
    return inlets->places[index].length;
}
