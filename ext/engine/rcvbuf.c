/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The receive buffer of a handle's socket; see rcvbuf.h.
 */
#include "rcvbuf.h"

#include <errno.h>
#include <limits.h>
#include <linux/netlink.h>
#include <sys/socket.h>
#include <unistd.h>

#include "config.h"
#include "fork.h"
#include "handle.h"
#include "peer.h"
#include "queue.h"
#include "transport.h"

/* What a packet of 1500 bytes takes of it, and how far it grows, as the kernel counts. */
#define PACKET_COST 2304
#define RCVBUF_MOST (64 << 20)

#define RCVBUF_MIN 2304 /* SOCK_MIN_RCVBUF */

int
lnfq_rcvbuf_read(lnfq_handle *handle, int *value)
{
    if (handle->patient) {
        *value = handle->rcvbuf;
        return 0;
    }
    return lnfq_transport_get_option(handle->fd, SOL_SOCKET, SO_RCVBUF, value);
}

/* The same for one who plays the kernel: the size as the kernel would report it. */
static int
tell_rcvbuf(lnfq_handle *handle, int size)
{
    _Alignas(struct nlmsghdr) unsigned char bytes[LNFQ_CONFIG_SIZE_MAX];

    handle->rcvbuf = 2 * size > RCVBUF_MIN ? 2 * size : RCVBUF_MIN;
    handle->seq += 1;
    return lnfq_peer_send(handle, bytes,
                          lnfq_config_put_rcvbuf(bytes, handle->seq, handle->rcvbuf));
}

int
lnfq_rcvbuf_write(lnfq_handle *handle, int *value)
{
    /* The kernel doubles it, and old ones let that overflow. */
    int size = *value < INT_MAX / 2 ? *value : INT_MAX / 2;
    int error = handle->patient
                    ? tell_rcvbuf(handle, size)
                    : lnfq_transport_set_option(handle->fd, SOL_SOCKET, SO_RCVBUFFORCE, size);

    if (error == EPERM) {
        error = lnfq_transport_set_option(handle->fd, SOL_SOCKET, SO_RCVBUF, size);
    }
    handle->rcvbuf_set |= error == 0;
    return error;
}

/* What the kernel allows without privileges, as it reports it; 0 where that can't be seen. */
static int
allowed_rcvbuf(void)
{
    int size = 0;
    int fd;

    lnfq_fork_hold_off(); /* a child would keep it */
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0) {
        if (lnfq_transport_set_option(fd, SOL_SOCKET, SO_RCVBUF, INT_MAX / 2) == 0) {
            (void)lnfq_transport_get_option(fd, SOL_SOCKET, SO_RCVBUF, &size);
        }
        (void)close(fd);
    }
    lnfq_fork_allow();
    return size;
}

void
lnfq_rcvbuf_grow(lnfq_handle *handle, uint32_t more)
{
    uint64_t packets = more;
    uint64_t most = RCVBUF_MOST / PACKET_COST;
    int size, wanted;

    for (size_t i = 0; i < handle->queue_count; i++) {
        packets += handle->queues[i]->maxlen;
    }
    wanted = packets < most ? (int)packets * PACKET_COST : RCVBUF_MOST;
    if (handle->rcvbuf_set || lnfq_rcvbuf_read(handle, &size) != 0 || size >= wanted) {
        return;
    }
    /* The kernel doubles what is set. */
    if (handle->patient) {
        (void)tell_rcvbuf(handle, wanted / 2);
    }
    else if (lnfq_transport_set_option(handle->fd, SOL_SOCKET, SO_RCVBUFFORCE, wanted / 2) == EPERM
             && allowed_rcvbuf() > size) { /* else it would shrink */
        (void)lnfq_transport_set_option(handle->fd, SOL_SOCKET, SO_RCVBUF, wanted / 2);
    }
}
