/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A configuration request, its answer, and what arrives in between.
 *
 * The kernel answers on the descriptor, among packets. Its answer to a request is in the receive
 * buffer when the request's send returns, so nobody waits. The messages in front of the answer are
 * set aside, for the next dispatch. If the answer isn't there (the receive buffer was full, or
 * another reader took it), the request is sent again. Only a test's kernel, behind a socket pair,
 * answers later.
 *
 * A marker (see config.h) follows when packets were set aside, so that select sees them.
 *
 * Everything here runs with the handle's lock and without the GIL.
 */
#include "exchange.h"

#include <errno.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "backlog.h"
#include "bound.h"
#include "claim.h"
#include "clock.h"
#include "config.h"
#include "confirm.h"
#include "handle.h"
#include "index.h"
#include "inlets.h"
#include "lock.h"
#include "message.h"
#include "missing.h"
#include "outbox.h"
#include "peer.h"
#include "post.h"
#include "queue.h"
#include "refusal.h"
#include "transport.h"
#include "verdict.h"

/* How often a request is sent again while its answer gets lost in a flood; and how long where
 * another process may read it. */
#define ATTEMPTS 1000
#define SHARED_NS LNFQ_CLOCK_SECOND

/* How long a peer that is no kernel may take, in slices: another thread may read its answer. */
#define PEER_SLICE_MS 10
#define PEER_SLICES 500

/* Without memory a packet gets its queue's default. */
static void
set_aside(lnfq_handle *handle, const unsigned char *bytes, size_t length,
          const struct lnfq_index *index)
{
    struct lnfq_aside *aside = lnfq_backlog_aside(bytes, length, handle->epoch, false);
    lnfq_queue *queue;

    if (aside != NULL) {
        lnfq_backlog_append(&handle->backlog, aside);
        return;
    }
    queue = index != NULL ? lnfq_bound_find(handle, index->queue) : NULL;
    if (queue != NULL && lnfq_claim_message(queue, index->id, handle->epoch, false)) {
        queue->pending.gap = true; /* older ones may wait to be dispatched */
        (void)lnfq_post_default(handle, queue, index->id, LNFQ_REASON_NO_MEMORY);
    }
}

static void
sort_datagram(lnfq_handle *handle, const unsigned char *bytes, size_t length)
{
    while (length > 0) {
        struct lnfq_message message;
        struct lnfq_index index;

        if (lnfq_message_read(bytes, length, &message, &index) != NULL) {
            set_aside(handle, bytes, length, NULL); /* for the next dispatch to complain of */
            return;
        }
        if (message.kind == LNFQ_MESSAGE_ANSWER) {
            lnfq_exchange_answer(handle, &message.answer, false);
        }
        else if (message.kind == LNFQ_MESSAGE_PACKET) {
            set_aside(handle, bytes, message.size, &index);
        }
        bytes += message.size;
        length -= message.size;
    }
}

/* The receive buffer's size: no more bytes can have waited when a request was sent. */
static size_t
receive_buffer(lnfq_handle *handle)
{
    int size;

    return lnfq_transport_get_option(handle->fd, SOL_SOCKET, SO_RCVBUF, &size) != 0 ? 0
                                                                                    : (size_t)size;
}

/* Reads messages until the answer, but no more bytes than can have waited with it. Returns 0 or an
 * errno, EAGAIN if nothing is left. */
static int
drain(lnfq_handle *handle, const struct lnfq_awaited *awaited)
{
    size_t limit = receive_buffer(handle);
    size_t total = 0;

    while (!awaited->answered && total <= limit) {
        int received = lnfq_inlets_receive(handle->inlets, handle->fd, 1);

        if (received == -ENOBUFS) {
            lnfq_missing_overrun(handle);
        }
        else if (received < 0) {
            return -received;
        }
        else if (lnfq_peer_ended(handle, handle->inlets, received)) {
            return ECONNRESET;
        }
        else {
            size_t length = lnfq_inlets_length(handle->inlets, 0);

            total += length;
            sort_datagram(handle, handle->scratch, length);
        }
    }
    return 0;
}

/* Waits for a peer that is no kernel, and reads. Gives up the lock while it waits. */
static int
await_peer(lnfq_handle *handle, const struct lnfq_awaited *awaited)
{
    for (int slice = 0; slice < PEER_SLICES && !awaited->answered; slice++) {
        struct pollfd poller = {.fd = handle->fd, .events = POLLIN};
        int error;

        lnfq_lock_pause(handle);
        (void)poll(&poller, 1, PEER_SLICE_MS);
        lnfq_lock_resume(handle);
        error = drain(handle, awaited);
        if (error != 0 && error != EAGAIN) {
            return error;
        }
    }
    return awaited->answered ? 0 : ETIMEDOUT;
}

static void
awaited_add(lnfq_handle *handle, struct lnfq_awaited *awaited)
{
    awaited->next = handle->awaited;
    handle->awaited = awaited;
}

static void
awaited_remove(lnfq_handle *handle, const struct lnfq_awaited *awaited)
{
    struct lnfq_awaited **link = &handle->awaited;

    while (*link != awaited) {
        link = &(*link)->next;
    }
    *link = awaited->next;
}

/* Sends the request once and reads. Returns 0 or an errno; EAGAIN where the answer got lost. */
static int
attempt(lnfq_handle *handle, struct lnfq_awaited *awaited, const unsigned char *bytes, size_t size)
{
    int error = lnfq_peer_send(handle, bytes, size);

    if (error != 0) {
        return error;
    }
    error = drain(handle, awaited);
    if ((error == 0 || error == EAGAIN) && !awaited->answered && !handle->kernel) {
        error = await_peer(handle, awaited);
    }
    if (awaited->answered) {
        return awaited->error;
    }
    return error != 0 ? error : EAGAIN;
}

/* Whether a number that is found bound on this socket can only have been bound by this handle. */
static bool
binds_alone(const lnfq_handle *handle, uint16_t queue)
{
    return !handle->adopted || (handle->history[queue].bound && !handle->shared);
}

/* A repeated request may find its work done. On an adopted socket it may be another process's work:
 * then the queue is taken over. */
static int
confirm(const lnfq_handle *handle, uint16_t queue, int error, bool repeated,
        const struct lnfq_config *config)
{
    if (config->command == NFQNL_CFG_CMD_BIND && repeated && error == EBUSY
        && binds_alone(handle, queue)) {
        return 0;
    }
    if (config->command == NFQNL_CFG_CMD_UNBIND && error == ENODEV) {
        return 0;
    }
    return error;
}

/* So that select sees that something was set aside, or is to be told. */
static void
mark_if_wanted(lnfq_handle *handle)
{
    if (lnfq_backlog_count(&handle->backlog) > 0 || handle->marker_wanted
        || atomic_load(&handle->refusals) != NULL) {
        (void)lnfq_exchange_mark(handle);
    }
}

void
lnfq_exchange_expect(lnfq_handle *handle, const struct lnfq_config *config)
{
    uint32_t range = 0;
    size_t size;

    if (config->has_mode && config->mode == NFQNL_COPY_PACKET) {
        range = config->range != 0 && config->range < LNFQ_PAYLOAD_MAX ? config->range
                                                                       : LNFQ_PAYLOAD_MAX;
    }
    size = LNFQ_DATAGRAM_HEAD + range;
    if (size > atomic_load(&handle->datagram_size)) {
        atomic_store(&handle->datagram_size, size);
    }
}

/* Why an answer does not come: it was dropped, or found room, and so somebody else has it. `drops`
 * is the socket's count, when the one before did not come and now. */
static int
explain_loss(lnfq_handle *handle, uint32_t *drops)
{
    uint32_t before = *drops;

    return lnfq_transport_drops(handle->fd, drops) && *drops == before ? ETIMEDOUT : ENOBUFS;
}

/* Whether to send a request once more. */
static bool
may_try(int attempts, int64_t deadline)
{
    return deadline != 0 ? lnfq_clock_now() < deadline : attempts < ATTEMPTS;
}

/* Builds a request's messages, behind `size` bytes of others. Returns the size of all. */
static size_t
put_request(lnfq_handle *handle, struct lnfq_awaited *awaited, unsigned char *bytes, size_t size,
            uint16_t queue, const struct lnfq_config *config)
{
    struct nlmsghdr first;

    awaited->seq = ++handle->seq;
    awaited->answered = false;
    size += lnfq_config_put(bytes + size, queue, awaited->seq, true, config);
    if (config->next != NULL) {
        size += lnfq_config_put(bytes + size, queue, ++handle->seq, false, config->next);
    }
    memcpy(&first, bytes, sizeof(first));
    awaited->first_seq = first.nlmsg_seq;
    return size;
}

/*
 * What is sent once the answer got lost. The kernel has executed what it was sent, so this asks for
 * no more than an answer: by now somebody else may have bound a number that was unbound.
 */
static const struct lnfq_config *
again(const lnfq_handle *handle, const struct lnfq_config *config)
{
    static const struct lnfq_config nothing;

    return handle->kernel && config->command == NFQNL_CFG_CMD_UNBIND ? &nothing : config;
}

int
lnfq_exchange_request(lnfq_handle *handle, uint16_t queue, const struct lnfq_config *config,
                      const unsigned char *before, size_t before_size)
{
    _Alignas(struct nlmsghdr) unsigned char bytes[2 * LNFQ_CONFIG_SIZE_MAX + LNFQ_VERDICT_SIZE_MAX];
    struct lnfq_awaited awaited = {0};
    int64_t deadline = handle->shared ? lnfq_clock_now() + SHARED_NS : 0;
    uint32_t drops = 0;
    int error = EAGAIN;
    int loss = ENOBUFS;

    lnfq_exchange_expect(handle, config);
    /* No Python code runs before this function is over, so that `awaited` may live on the stack. */
    awaited_add(handle, &awaited);
    for (int i = 0; error == EAGAIN && may_try(i, deadline); i++) {
        const bool repeated = i > 0;
        size_t size = repeated && handle->kernel ? 0 : before_size;

        if (size > 0) {
            memcpy(bytes, before, size);
        }
        size = put_request(handle, &awaited, bytes, size, queue,
                           repeated ? again(handle, config) : config);
        error = confirm(handle, queue, attempt(handle, &awaited, bytes, size), repeated, config);
        if (error == EAGAIN) {
            loss = explain_loss(handle, &drops);
        }
    }
    awaited_remove(handle, &awaited);
    mark_if_wanted(handle);
    return error == EAGAIN ? loss : error;
}

void
lnfq_exchange_tell(lnfq_handle *handle, uint16_t queue, const struct lnfq_config *config)
{
    _Alignas(struct nlmsghdr) unsigned char bytes[LNFQ_CONFIG_SIZE_MAX];
    const struct lnfq_awaited nothing = {0};

    (void)lnfq_peer_send(handle, bytes,
                         lnfq_config_put(bytes, queue, ++handle->seq, false, config));
    (void)drain(handle, &nothing);
    mark_if_wanted(handle);
}

uint32_t
lnfq_exchange_mark(lnfq_handle *handle)
{
    _Alignas(struct nlmsghdr) unsigned char bytes[LNFQ_CONFIG_SIZE_MAX];
    uint32_t seq = ++handle->seq;

    handle->marker_wanted = false;
    /* Without it the packets are still dispatched with the next one that comes. */
    (void)lnfq_peer_send(handle, bytes, lnfq_config_put_marker(bytes, seq, handle->port));
    return seq;
}

void
lnfq_exchange_catch_up(lnfq_handle *handle)
{
    const struct lnfq_awaited nothing = {0};

    if (handle->closed || !lnfq_confirm_can(handle)) {
        return;
    }
    if (drain(handle, &nothing) == EAGAIN) {
        lnfq_confirm_empty(handle);
    }
    mark_if_wanted(handle);
}

/* Another process's marker on the same socket does not stand in front of our packets. */
static void
lift_fences(lnfq_handle *handle, const struct lnfq_answer *marker)
{
    if (marker->port != handle->port) {
        return;
    }
    for (size_t i = 0; i < handle->queue_count; i++) {
        lnfq_queue *queue = handle->queues[i];

        if (queue->fenced && (int32_t)(queue->fence - marker->seq) <= 0) {
            queue->fenced = false;
        }
    }
}

/* A packet whose verdict was refused is still there, unless that is the reason. A sender without
 * CAP_NET_ADMIN is told of the datagram's first verdict only; others may be other queues'. */
static void
note_refusal(lnfq_handle *handle, const struct lnfq_answer *answer)
{
    lnfq_queue *queue;

    lnfq_refusal_add(handle, answer);
    if (answer->error == ENOENT) {
        return;
    }
    if (!answer->named || answer->error == EPERM) {
        lnfq_bound_strand_all(handle);
        return;
    }
    queue = lnfq_bound_find(handle, answer->queue);
    if (queue != NULL) {
        queue->pending.stranded = true;
    }
}

/* The kernel answers a sender without CAP_NET_ADMIN once, for the first message of a datagram. */
static bool
answers(const struct lnfq_answer *answer, const struct lnfq_awaited *awaited)
{
    return answer->seq == awaited->seq
           || (answer->error == EPERM && answer->seq == awaited->first_seq);
}

static void
answer_awaited(lnfq_handle *handle, const struct lnfq_answer *answer)
{
    for (struct lnfq_awaited *awaited = handle->awaited; awaited != NULL; awaited = awaited->next) {
        if (answers(answer, awaited)) {
            awaited->answered = true;
            awaited->error = answer->error;
        }
    }
}

/* Whether an answer is to a verdict that may find no packet, which has that sequence number. Ids
 * wrap, so another verdict may have it too: its sequence number then is the id that it names. */
static bool
answers_unsure(const struct lnfq_answer *answer, uint32_t seq)
{
    return answer->seq == seq && !(answer->named && answer->id == seq);
}

/* Whether anything was left in the queue that is being unbound. */
static void
note_teardown(lnfq_handle *handle, const struct lnfq_answer *answer, bool read)
{
    lnfq_queue *queue = answer->named ? lnfq_bound_find_leaving(handle, answer->queue) : NULL;

    if (queue != NULL) {
        queue->nothing_left = !read && answer->error == ENOENT;
    }
}

void
lnfq_exchange_answer(lnfq_handle *handle, const struct lnfq_answer *answer, bool read)
{
    switch (answer->type) {
    case NLMSG_NOOP:
        if (read) {
            lift_fences(handle, answer);
        }
        else {
            handle->marker_wanted = true; /* it was not for us: another one has to follow */
        }
        break;
    case LNFQ_MESSAGE_TYPE(NFQNL_MSG_CONFIG):
        answer_awaited(handle, answer);
        break;
    case LNFQ_MESSAGE_TYPE(NFQNL_MSG_VERDICT_BATCH):
        if (answers_unsure(answer, LNFQ_SEQ_TEARDOWN)) {
            note_teardown(handle, answer, read);
        }
        else if (answers_unsure(answer, LNFQ_SEQ_SETTLE)) {
            answer_awaited(handle, answer); /* EPERM for its datagram, in which a request follows */
        }
        else if (answer->error != 0) {
            note_refusal(handle, answer);
        }
        break;
    case LNFQ_MESSAGE_TYPE(NFQNL_MSG_VERDICT):
        if (handle->unsure > 0 && answer->error == ENOENT
            && answers_unsure(answer, LNFQ_SEQ_UNSURE)) {
            handle->unsure -= 1;
            handle->stats.verdicts -= 1;
            handle->stats.defaulted -= 1;
        }
        else if (answer->error != 0) {
            note_refusal(handle, answer);
        }
        break;
    default:
        break;
    }
}
