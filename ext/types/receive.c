/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `process`: waits for messages, and receives many by one system call, into slots that are used
 * again once nobody looks into them.
 *
 * A batch belongs to the thread that received it until it is dispatched. A thread receives with the
 * handle's lock and without the GIL. It waits with neither, and `waiters` counts it: on the
 * descriptors, or inside the system call that receives (reader.h).
 */
#include "receive.h"

#include <errno.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "batch.h"
#include "clock.h"
#include "confirm.h"
#include "dispatch.h"
#include "error.h"
#include "handle.h"
#include "hands.h"
#include "inlets.h"
#include "lock.h"
#include "missing.h"
#include "outbox.h"
#include "peer.h"
#include "post.h"
#include "reader.h"
#include "remedy.h"
#include "report.h"
#include "takeover.h"
#include "transport.h"

#define FOR_EVER INT64_MAX

/* When verdicts that could not be sent are tried again during a wait. */
#define RETRY_NS 10000000

/* Whether one of the datagrams says that the kernel has refused something. */
static bool
any_refusal(const lnfq_batch *batch, int received)
{
    for (int i = 0; i < received; i++) {
        struct {
            struct nlmsghdr header;
            int error; /* 0 in an acknowledgement */
        } report;

        if (lnfq_inlets_length(batch->inlets, (unsigned int)i) >= sizeof(report)) {
            memcpy(&report, batch->slots[i]->bytes, sizeof(report));
            if (report.header.nlmsg_type == NLMSG_ERROR && report.error != 0) {
                return true;
            }
        }
    }
    return false;
}

/*
 * With the lock: whether a system call that received fewer datagrams than it could found the buffer
 * empty. It also ends like that if messages were lost meanwhile: then the socket keeps the error,
 * and the buffer is full.
 */
static bool
found_empty(lnfq_handle *handle, int received, unsigned int count)
{
    int error;

    if (received == -EAGAIN) {
        return true;
    }
    if (received <= 0 || received >= (int)count
        || lnfq_transport_get_option(handle->fd, SOL_SOCKET, SO_ERROR, &error) != 0) {
        return false;
    }
    if (error != ENOBUFS) {
        return error == 0;
    }
    do { /* the kernel takes messages again once somebody has tried to receive one since */
        lnfq_missing_overrun(handle);
    } while (lnfq_transport_peek(handle->fd) == ENOBUFS);
    return false;
}

/* With the lock: 0 if messages may be received into the batch, or a negative errno; -ERANGE if a
 * queue was configured meanwhile, and its messages may be longer than the slots; -EALREADY if that
 * has set older messages aside. */
static int
check_batch(const lnfq_handle *handle, const lnfq_batch *batch)
{
    if (batch->slot_size < atomic_load(&handle->datagram_size)) {
        return -ERANGE;
    }
    return lnfq_backlog_count(&handle->backlog) > 0 ? -EALREADY : 0;
}

/* With the lock: notes what a system call has received. Returns the same, or a negative errno. */
static int
note_received(lnfq_handle *handle, lnfq_batch *batch, unsigned int count, int received)
{
    if (received > 0 && lnfq_peer_ended(handle, batch->inlets, received)) {
        return -ECONNRESET;
    }
    for (int i = 0; handle->patient && i < received; i++) {
        lnfq_peer_note(handle, batch->slots[i]->bytes,
                       lnfq_inlets_length(batch->inlets, (unsigned int)i));
    }
    handle->stats.receives += received > 0;
    batch->epoch = handle->epoch;
    if (handle->outbox.unconfirmed) {
        lnfq_confirm_note(handle, any_refusal(batch, received));
    }
    /* Asking costs a system call: where somebody waits for what it tells. Whether the kernel has
     * refused verdicts is asked for several packets, which may then get one batch verdict. */
    if (((handle->outbox.unconfirmed && received != 1) || handle->overran)
        && found_empty(handle, received, count)) {
        lnfq_confirm_empty(handle);
    }
    if (handle->watching) {
        lnfq_missing_look(handle);
    }
    if (received == -EAGAIN && !handle->kernel && lnfq_transport_ended(handle->fd)) {
        received = -ECONNRESET;
    }
    return received;
}

/* With the lock: receives up to `count` datagrams. Returns how many, or a negative errno. */
static int
receive(lnfq_handle *handle, lnfq_batch *batch, unsigned int count)
{
    int received = check_batch(handle, batch);

    if (received != 0) {
        return received;
    }
    while ((received = lnfq_inlets_receive(batch->inlets, handle->fd, count)) == -ENOBUFS) {
        lnfq_missing_overrun(handle);
    }
    return note_received(handle, batch, count, received);
}

/* With the lock, which it gives up meanwhile: the same, and may wait for a datagram inside the
 * system call. */
static int
receive_waiting(lnfq_handle *handle, lnfq_batch *batch, unsigned int count)
{
    int received = check_batch(handle, batch);

    if (received != 0) {
        return received;
    }
    received = lnfq_reader_wait(handle, batch->inlets, count);
    if (received == -EBUSY) {
        return -EAGAIN; /* nobody has looked whether the buffer is empty */
    }
    if (received == -ENOBUFS) {
        lnfq_missing_overrun(handle);
        return receive(handle, batch, count);
    }
    return note_received(handle, batch, count, received);
}

/* With the lock, which it gives up meanwhile: waits until there is something, the handle is closed,
 * or the time is over. Returns 0, or a negative errno; -EAGAIN if there is nothing. */
static int
await(lnfq_handle *handle, int64_t deadline)
{
    int64_t left = deadline == FOR_EVER ? FOR_EVER : deadline - lnfq_clock_now();
    bool unsent = atomic_load(&handle->unsent);
    int64_t slice = unsent && left > RETRY_NS ? RETRY_NS : left;
    struct timespec timeout = {slice / LNFQ_CLOCK_SECOND, slice % LNFQ_CLOCK_SECOND};
    struct pollfd pollers[2] = {
        {.fd = handle->fd, .events = POLLIN},
        {.fd = handle->wake_fd, .events = POLLIN},
    };
    nfds_t count = unsent ? 1 : 2; /* the second one is readable meanwhile */
    int ready;

    if (left <= 0) {
        return 0; /* no time to wait is time enough to look */
    }
    lnfq_lock_pause(handle);
    ready = ppoll(pollers, count, slice == FOR_EVER ? NULL : &timeout, NULL);
    ready = ready < 0 ? -errno : ready;
    lnfq_lock_resume(handle);
    if (ready < 0) {
        return ready;
    }
    return ready == 0 ? -EAGAIN : 0;
}

/*
 * With the lock: receives, and waits before that if there is nothing. The last call that received
 * tells what to try first: each attempt that fails is a system call too many.
 */
static int
receive_or_await(lnfq_handle *handle, lnfq_batch *batch, unsigned int count, int64_t deadline)
{
    int received = -EAGAIN;

    if (deadline == 0 || !handle->drained) {
        received = receive(handle, batch, count);
    }
    if (received == -EAGAIN) {
        lnfq_post_resend(handle);
        deadline = lnfq_peer_deadline(handle, deadline);
    }
    if (received == -EAGAIN && deadline == FOR_EVER) {
        received = receive_waiting(handle, batch, count);
    }
    if (received == -EAGAIN && deadline != 0) {
        received = await(handle, deadline);
        if (received == 0 && !handle->closed) {
            received = receive(handle, batch, count);
        }
    }
    handle->drained = received < (int)count;
    return received;
}

/* One attempt of batch_receive; the same, or a negative errno. */
static int
batch_try(lnfq_handle *handle, lnfq_batch *batch, unsigned int count, int64_t deadline)
{
    PyThreadState *thread = lnfq_lock_enter(handle);
    int received = -EBADF;

    if (!handle->closed) {
        received = receive_or_await(handle, batch, count, deadline);
    }
    if (handle->closed && received <= 0) {
        received = -EBADF;
    }
    if (received > 0) {
        batch->hand = lnfq_hands_begin(&handle->hands);
    }
    lnfq_lock_leave(handle, thread);
    return received;
}

/* Signal handlers may have raised, or forked. */
static int
check_signals(lnfq_handle *handle)
{
    return PyErr_CheckSignals() < 0 ? -1 : lnfq_handle_check_forked(handle, "process()");
}

/* Receives up to `count` datagrams. Returns how many; 0 after the time or a signal, or if something
 * was set aside; or -1. */
static int
batch_receive(lnfq_handle *handle, lnfq_batch *batch, unsigned int count, int64_t deadline)
{
    int received;

    batch->count = 0;
    do {
        if (lnfq_batch_prepare(handle, batch, count) < 0) {
            return -1;
        }
        if (deadline != 0 && check_signals(handle) < 0) { /* they would not end the wait */
            return -1;
        }
        received = batch_try(handle, batch, count, deadline);
    } while (received == -ERANGE);
    if (received > 0) {
        lnfq_batch_fill(batch, (unsigned int)received);
        return received;
    }
    if (received == -EBADF && lnfq_handle_check(handle, "process()") < 0) {
        return -1;
    }
    if (received < 0 && received != -EAGAIN && received != -EINTR && received != -EALREADY) {
        lnfq_error_raise(-received, lnfq_remedy_descriptor(-received), "process()");
        return -1;
    }
    return 0;
}

/* Dispatches what was set aside, or else what one system call receives. Returns the number of
 * packets, or -1. `more` says that the next call would find more. */
static Py_ssize_t
process_once(lnfq_handle *handle, lnfq_batch *batch, Py_ssize_t most, int64_t deadline, bool *more)
{
    Py_ssize_t packets = lnfq_dispatch_backlog(handle, most);
    unsigned int count;
    int received;

    *more = packets > 0 || lnfq_backlog_count(&handle->backlog) > 0;
    if (packets < 0 || *more) {
        return packets;
    }
    count = most < LNFQ_BATCH_MAX ? (unsigned int)most : LNFQ_BATCH_MAX;
    received = batch_receive(handle, batch, count, deadline);
    *more = received == (int)count || (received > 0 && handle->more)
            || lnfq_backlog_count(&handle->backlog) > 0;
    if (received <= 0) {
        return received;
    }
    packets = lnfq_dispatch_batch(handle, batch);
    lnfq_hands_end(&handle->hands, batch->hand);
    return packets;
}

static Py_ssize_t
process_until(lnfq_handle *handle, lnfq_batch *batch, Py_ssize_t max_packets, int64_t deadline)
{
    Py_ssize_t total = 0;

    if (lnfq_report_refusals(handle) < 0) { /* a configuration call may have read reports */
        return -1;
    }
    for (;;) {
        bool more;
        Py_ssize_t packets =
            process_once(handle, batch, max_packets - total, total > 0 ? 0 : deadline, &more);

        if (packets < 0) {
            return -1;
        }
        total += packets;
        if (total >= max_packets || (total > 0 && (!more || atomic_load(&handle->closed)))) {
            return total;
        }
        if (check_signals(handle) < 0) {
            return -1;
        }
        if (total == 0 && !more && (deadline == 0 || deadline <= lnfq_clock_now())) {
            return 0;
        }
    }
}

Py_ssize_t
lnfq_receive_process(lnfq_handle *handle, Py_ssize_t max_packets, double timeout)
{
    lnfq_batch *batch = lnfq_batch_take(handle);
    int64_t deadline = 0;
    Py_ssize_t total;

    if (batch == NULL) {
        return -1;
    }
    if (timeout < 0) {
        deadline = FOR_EVER;
    }
    else if (timeout > 0) {
        deadline = lnfq_clock_now() + (int64_t)(timeout * LNFQ_CLOCK_SECOND);
    }
    total = process_until(handle, batch, max_packets, deadline);
    lnfq_batch_give_back(handle, batch);
    lnfq_takeover_go_on(handle);
    return total;
}
