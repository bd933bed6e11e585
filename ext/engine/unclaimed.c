/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Packets for numbers that nobody has created here yet; see unclaimed.h.
 *
 * Each waits in the kernel for its verdict, so there are no more of them than the kernel's queues
 * hold.
 */
#include "unclaimed.h"

#include <netinet/in.h> /* before the kernel's, which then leaves it its names */

#include <linux/netfilter.h>
#include <linux/netlink.h>

#include "backlog.h"
#include "handle.h"
#include "index.h"
#include "message.h"
#include "peer.h"
#include "verdict.h"

static bool
is_claimable(const lnfq_handle *handle, uint16_t number)
{
    return handle->adopted && (handle->history == NULL || !handle->history[number].bound);
}

/* No queue says what its default is. */
static void
drop(lnfq_handle *handle, uint16_t number, uint32_t id)
{
    const struct lnfq_verdict verdict = {.verdict = NF_DROP};
    _Alignas(struct nlmsghdr) unsigned char bytes[LNFQ_VERDICT_SIZE_MAX];

    (void)lnfq_peer_send(handle, bytes, lnfq_verdict_put(bytes, number, id, &verdict));
}

void
lnfq_unclaimed_add(lnfq_handle *handle, const struct lnfq_unclaimed *message)
{
    struct lnfq_aside *aside;

    if (!is_claimable(handle, message->number)) {
        return;
    }
    aside = lnfq_backlog_aside(message->bytes, message->size, message->epoch, message->foreign);
    if (aside != NULL) {
        lnfq_backlog_append(&handle->unclaimed, aside);
    }
    else {
        drop(handle, message->number, message->id);
    }
}

static uint16_t
number_of(const struct lnfq_aside *aside)
{
    struct lnfq_message message;
    struct lnfq_index index = {0};

    (void)lnfq_message_read(aside->bytes, aside->length, &message, &index); /* it was read before */
    return index.queue;
}

/* Takes a number's messages out of the list. */
static void
take(lnfq_handle *handle, uint16_t number, struct lnfq_backlog *taken)
{
    struct lnfq_backlog rest;
    struct lnfq_aside *aside;

    lnfq_backlog_init(taken);
    lnfq_backlog_init(&rest);
    while ((aside = lnfq_backlog_pop(&handle->unclaimed)) != NULL) {
        lnfq_backlog_append(number_of(aside) == number ? taken : &rest, aside);
    }
    lnfq_backlog_prepend(&handle->unclaimed, &rest);
}

void
lnfq_unclaimed_claim(lnfq_handle *handle, uint16_t number)
{
    struct lnfq_backlog taken;

    take(handle, number, &taken);
    handle->stats.orphaned -= taken.count;
    lnfq_backlog_prepend(&handle->backlog, &taken);
}

void
lnfq_unclaimed_forget(lnfq_handle *handle, uint16_t number)
{
    struct lnfq_backlog taken;

    take(handle, number, &taken);
    lnfq_backlog_clear(&taken);
}
