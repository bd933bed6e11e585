/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The other end of a pair of SOCK_SEQPACKET sockets: a program that acts as the kernel.
 *
 * The kernel takes a message within the send. This program reads it when its thread runs, so a full
 * pair is waited for. How much room a pair has depends on the user who runs the program, and so
 * does the largest size of a receive buffer. Therefore the other end counts the buffer, and this
 * end only tells it the size. Messages in that buffer that have no room in the pair are waited for,
 * from an NLMSG_NOOP to an NLMSG_DONE. On pairs of datagram sockets nothing of this is done,
 * because perhaps nobody reads at their other end.
 *
 * The caller holds the handle's lock, also while it waits. So nobody waits with the GIL.
 */
#include "peer.h"

#include <errno.h>
#include <linux/netlink.h>
#include <poll.h>
#include <string.h>

#include "clock.h"
#include "handle.h"
#include "inlets.h"
#include "transport.h"

/* Longer than a loaded machine needs to run a thread. */
#define PATIENCE_MS 2000
#define PATIENCE_NS (PATIENCE_MS * INT64_C(1000000))

/* Whether the calling thread has the GIL. */
static bool
attached(void)
{
#if PY_VERSION_HEX >= 0x030d0000
    return PyThreadState_GetUnchecked() != NULL;
#elif PY_VERSION_HEX >= 0x030c0000
    return _PyThreadState_UncheckedGet() != NULL;
#else
    PyThreadState *holder = _PyThreadState_UncheckedGet(); /* of any thread */

    return holder != NULL && holder == PyGILState_GetThisThreadState();
#endif
}

bool
lnfq_peer_await_room(lnfq_handle *handle)
{
    struct pollfd poller = {.fd = handle->fd, .events = POLLOUT};
    int ready;

    /* The other end's thread needs the GIL. It can't be given up here: a daemon thread may never
     * get it back, and would keep the lock. */
    if (!handle->patient || attached()) {
        return false;
    }
    do {
        ready = poll(&poller, 1, PATIENCE_MS);
    } while (ready < 0 && errno == EINTR);
    return ready > 0;
}

int64_t
lnfq_peer_deadline(const lnfq_handle *handle, int64_t deadline)
{
    return deadline == 0 && handle->more ? lnfq_clock_now() + PATIENCE_NS : deadline;
}

int
lnfq_peer_send(lnfq_handle *handle, const void *bytes, size_t size)
{
    int error;

    do {
        error = lnfq_transport_send(handle->fd, bytes, size);
    } while (error == EAGAIN && lnfq_peer_await_room(handle));
    return error == EAGAIN && handle->patient ? ETIMEDOUT : error;
}

bool
lnfq_peer_ended(const lnfq_handle *handle, const struct lnfq_inlets *inlets, int received)
{
    for (int i = 0; i < received; i++) {
        if (lnfq_inlets_length(inlets, (unsigned int)i) > 0) {
            return false;
        }
    }
    return handle->patient && lnfq_transport_ended(handle->fd);
}

void
lnfq_peer_note(lnfq_handle *handle, const unsigned char *bytes, size_t length)
{
    struct nlmsghdr header;

    if (!handle->patient || length < sizeof(header)) {
        return;
    }
    memcpy(&header, bytes, sizeof(header));
    if (header.nlmsg_type == NLMSG_NOOP || header.nlmsg_type == NLMSG_DONE) {
        handle->more = header.nlmsg_type == NLMSG_NOOP;
    }
}
