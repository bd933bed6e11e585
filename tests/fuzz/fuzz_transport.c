/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libFuzzer target: what one end sends, in one piece or several, the other end receives once, in
 * its order, cut where its place is too short, and never past the place; what another process sent
 * has length 0; where nothing waits, or the peer has no room, the call says so at once.
 */
#include "inlets.h"
#include "transport.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fuzz.h"

#define PLACES 8
#define LONGEST 300
#define PIECES 5

struct datagram {
    size_t size;
    bool forged;
    unsigned char bytes[LONGEST];
};

struct model {
    int sender;
    int receiver;
    int forger; /* another socket that sends to the receiver; -1 on a socket pair */
    struct sockaddr_nl address;
    struct lnfq_inlets *inlets;
    unsigned int first, count; /* of the datagrams on their way */
    struct datagram datagrams[PLACES];
};

static void
send_pieces(int fd, const struct datagram *datagram, struct input *input)
{
    struct iovec pieces[PIECES];
    size_t count = 1 + take_u8(input) % PIECES;
    size_t at = 0;

    for (size_t i = 0; i < count; i++) {
        size_t size = i + 1 < count ? take_u8(input) : datagram->size;

        size = size < datagram->size - at ? size : datagram->size - at;
        pieces[i] = (struct iovec){(void *)(uintptr_t)(datagram->bytes + at), size};
        at += size;
    }
    require(lnfq_transport_send_pieces(fd, pieces, count) == 0);
}

static void
send_one(struct model *model, struct input *input)
{
    struct datagram *datagram = &model->datagrams[(model->first + model->count) % PLACES];
    uint8_t how = take_u8(input);

    if (model->count == PLACES) {
        return;
    }
    datagram->size = 1 + take_u16(input) % LONGEST;
    datagram->forged = how % 4 == 0 && model->forger >= 0;
    take(input, datagram->bytes, datagram->size);
    if (datagram->forged) {
        require(sendto(model->forger, datagram->bytes, datagram->size, 0,
                       (struct sockaddr *)&model->address, sizeof(model->address))
                >= 0);
    }
    else if (model->sender < 0) {
        return; /* nobody plays the kernel on a netlink socket */
    }
    else if (how % 2 == 0) {
        require(lnfq_transport_send(model->sender, datagram->bytes, datagram->size) == 0);
    }
    else {
        send_pieces(model->sender, datagram, input);
    }
    model->count += 1;
}

static void
check_received(struct model *model, unsigned int index, const unsigned char *bytes, size_t capacity)
{
    const struct datagram *datagram = &model->datagrams[model->first];
    size_t length = datagram->size < capacity ? datagram->size : capacity;

    require(lnfq_inlets_length(model->inlets, index) == (datagram->forged ? 0 : length));
    require(memcmp(bytes, datagram->bytes, length) == 0);
    model->first = (model->first + 1) % PLACES;
    model->count -= 1;
}

static void
receive_some(struct model *model, struct input *input)
{
    unsigned int places = 1 + take_u8(input) % PLACES;
    unsigned char *bytes[PLACES];
    size_t capacity = 1 + take_u16(input) % LONGEST;
    unsigned int expected = places < model->count ? places : model->count;
    int received;

    for (unsigned int i = 0; i < places; i++) {
        bytes[i] = malloc(capacity);
        require(bytes[i] != NULL);
        lnfq_inlets_set(model->inlets, i, bytes[i], capacity);
    }
    received = lnfq_inlets_receive(model->inlets, model->receiver, places);
    require(received == (expected > 0 ? (int)expected : -EAGAIN));
    for (unsigned int i = 0; i < expected; i++) {
        check_received(model, i, bytes[i], capacity);
    }
    for (unsigned int i = 0; i < places; i++) {
        free(bytes[i]);
    }
}

/* As the handle of a test that plays the kernel. */
static void
open_pair(struct model *model)
{
    int sockets[2];

    require(socketpair(AF_UNIX, SOCK_DGRAM, 0, sockets) == 0);
    model->sender = sockets[0];
    model->receiver = sockets[1];
    model->forger = -1;
}

/* As a real handle, to whose address others may send. */
static void
open_netlink(struct model *model)
{
    socklen_t size = sizeof(model->address);

    model->sender = -1;
    model->receiver = socket(AF_NETLINK, SOCK_RAW, NETLINK_USERSOCK);
    model->forger = socket(AF_NETLINK, SOCK_RAW, NETLINK_USERSOCK);
    require(model->receiver >= 0 && model->forger >= 0);
    model->address.nl_family = AF_NETLINK;
    require(bind(model->receiver, (struct sockaddr *)&model->address, size) == 0);
    require(getsockname(model->receiver, (struct sockaddr *)&model->address, &size) == 0);
}

/* Sends until there is no room, and once the peer is gone. */
static void
check_refusals(const struct model *model)
{
    int error = 0;

    while (error == 0) {
        error = lnfq_transport_send(model->sender, "", 1);
    }
    require(error == EAGAIN);
    (void)close(model->receiver);
    error = lnfq_transport_send(model->sender, "", 1);
    require(error == ECONNREFUSED);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    struct model model = {.inlets = lnfq_inlets_new(PLACES)};
    uint8_t way = take_u8(&input);

    require(model.inlets != NULL);
    if (way & 1) {
        open_netlink(&model);
    }
    else {
        open_pair(&model);
    }
    while (input.size > 0) {
        if (take_u8(&input) % 3 > 0) {
            send_one(&model, &input);
        }
        else {
            receive_some(&model, &input);
        }
    }
    if (way == 2) { /* now and then only: it takes long */
        check_refusals(&model);
    }
    else {
        (void)close(model.receiver);
    }
    (void)close(way & 1 ? model.forger : model.sender);
    lnfq_inlets_free(model.inlets);
    return 0;
}
