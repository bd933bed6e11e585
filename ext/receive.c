/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `process`: waits for messages, and receives many by one system call, into slots that are used
 * again once nobody looks into them.
 *
 * A batch belongs to the thread that received it until it is dispatched. Receiving happens with the
 * handle's lock and without the GIL; waiting with neither, counted in `waiters`.
 */
#include "nfq.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#define FOR_EVER INT64_MAX

static lnfq_batch *
batch_take(lnfq_handle *handle)
{
    lnfq_batch *batch;

    lnfq_handle_lock(handle);
    batch = handle->spare;
    handle->spare = NULL;
    lnfq_handle_unlock(handle);
    if (batch == NULL) {
        batch = calloc(1, sizeof(*batch));
    }
    if (batch == NULL) {
        PyErr_NoMemory();
    }
    return batch;
}

static void
batch_give_back(lnfq_handle *handle, lnfq_batch *batch)
{
    lnfq_batch *surplus;

    lnfq_handle_lock(handle);
    surplus = handle->spare;
    handle->spare = batch;
    lnfq_handle_unlock(handle);
    lnfq_batch_free(surplus);
}

void
lnfq_batch_free(lnfq_batch *batch)
{
    for (int i = 0; batch != NULL && i < LNFQ_BATCH_MAX; i++) {
        Py_XDECREF(batch->slots[i]);
    }
    free(batch);
}

/* Sees that the first `count` slots are there and nobody looks into them. 0, or -1. */
static int
batch_prepare(lnfq_handle *handle, lnfq_batch *batch, unsigned int count)
{
    for (unsigned int i = 0; i < count; i++) {
        if (batch->slots[i] == NULL || Py_REFCNT(batch->slots[i]) > 1) {
            lnfq_slot *slot = lnfq_slot_new(handle->state, LNFQ_DATAGRAM_MAX);

            if (slot == NULL) {
                return -1;
            }
            Py_XSETREF(batch->slots[i], slot);
            batch->inlets[i].bytes = slot->bytes;
            batch->inlets[i].capacity = LNFQ_DATAGRAM_MAX;
        }
    }
    return 0;
}

/* Receives up to `count` datagrams. Returns how many, or -1 with an exception. */
static int
batch_receive(lnfq_handle *handle, lnfq_batch *batch, unsigned int count)
{
    PyThreadState *thread;
    int received = 0;
    bool closed;

    if (batch_prepare(handle, batch, count) < 0) {
        return -1;
    }
    thread = lnfq_handle_enter(handle);
    closed = handle->closed;
    while (!closed) {
        received = lnfq_transport_receive(handle->fd, batch->inlets, count);
        if (received != -ENOBUFS) {
            break;
        }
        handle->stats.overruns += 1;
    }
    handle->stats.receives += received > 0;
    batch->epoch = handle->epoch;
    lnfq_handle_leave(handle, thread);
    if (closed) {
        return lnfq_handle_raise_closed("process()");
    }
    if (received < 0 && received != -EAGAIN) {
        lnfq_error_raise(-received, "", "process()");
        return -1;
    }
    batch->count = received > 0 ? (unsigned int)received : 0;
    return (int)batch->count;
}

/* Waits with neither lock nor GIL. Returns what poll does, or a negative errno. */
static int
await(lnfq_handle *handle, const struct timespec *timeout)
{
    PyThreadState *thread = lnfq_handle_enter(handle);
    struct pollfd pollers[2] = {
        {.fd = handle->fd, .events = POLLIN},
        {.fd = handle->wake_fd, .events = POLLIN},
    };
    int ready = 1;

    if (!handle->closed) {
        handle->waiters += 1;
        lnfq_handle_unlock(handle);
        ready = ppoll(pollers, 2, timeout, NULL);
        ready = ready < 0 ? -errno : ready;
        pthread_mutex_lock(&handle->lock);
        handle->waiters -= 1;
    }
    lnfq_handle_leave(handle, thread);
    return ready;
}

/* Waits until something is there or the handle is closed. 1, or 0 after the time, or -1. */
static int
wait_until(lnfq_handle *handle, int64_t deadline)
{
    for (;;) {
        int64_t left = deadline == FOR_EVER ? FOR_EVER : deadline - lnfq_now();
        struct timespec timeout = {left / LNFQ_SECOND_NS, left % LNFQ_SECOND_NS};
        int ready;

        if (left <= 0) {
            return 0;
        }
        ready = await(handle, deadline == FOR_EVER ? NULL : &timeout);
        if (ready >= 0) {
            return ready > 0;
        }
        if (ready != -EINTR) {
            lnfq_error_raise(-ready, "", "process()");
            return -1;
        }
        if (PyErr_CheckSignals() < 0 || lnfq_handle_check_forked(handle, "process()") < 0) {
            return -1;
        }
    }
}

/* What was set aside, then one system call's worth. Returns the number of packets, or -1; `more`
 * says that the next call would find more. */
static Py_ssize_t
process_once(lnfq_handle *handle, lnfq_batch *batch, Py_ssize_t most, bool *more)
{
    Py_ssize_t packets = lnfq_dispatch_backlog(handle, most);
    unsigned int count;
    int received;

    *more = packets > 0 || lnfq_dispatch_waiting(handle) > 0;
    if (packets < 0 || *more) {
        return packets;
    }
    count = most < LNFQ_BATCH_MAX ? (unsigned int)most : LNFQ_BATCH_MAX;
    received = batch_receive(handle, batch, count);
    if (received <= 0) {
        return received;
    }
    *more = received == (int)count;
    return lnfq_dispatch_batch(handle, batch);
}

static Py_ssize_t
process_until(lnfq_handle *handle, lnfq_batch *batch, Py_ssize_t max_packets, int64_t deadline)
{
    Py_ssize_t total = 0;

    for (;;) {
        bool more;
        Py_ssize_t packets = process_once(handle, batch, max_packets - total, &more);
        int ready;

        if (packets < 0) {
            return -1;
        }
        total += packets;
        if (total >= max_packets) {
            return total;
        }
        if (more) {
            continue;
        }
        if (total > 0 || deadline == 0) {
            return total;
        }
        ready = wait_until(handle, deadline);
        if (ready <= 0) {
            return ready;
        }
    }
}

Py_ssize_t
lnfq_receive_process(lnfq_handle *handle, Py_ssize_t max_packets, double timeout)
{
    lnfq_batch *batch = batch_take(handle);
    int64_t deadline = 0;
    Py_ssize_t total;

    if (batch == NULL) {
        return -1;
    }
    if (timeout < 0) {
        deadline = FOR_EVER;
    }
    else if (timeout > 0) {
        deadline = lnfq_now() + (int64_t)(timeout * LNFQ_SECOND_NS);
    }
    total = process_until(handle, batch, max_packets, deadline);
    batch_give_back(handle, batch);
    return total;
}
