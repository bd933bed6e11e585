/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Taking over a queue that another process has bound on the same socket. The caller holds the
 * lock and not the GIL.
 *
 * Others have read the queue's first packets, and may have left some of them without a verdict.
 * Whoever reads a socket takes its messages in their order. So if nobody else reads it any more,
 * all packets that are older than the oldest one received here are the others', and no newer one
 * is. If none was received here, the kernel's table tells which was the last: it is read before a
 * request, behind whose answer no older message can come. One batch verdict then settles the
 * others' packets.
 *
 * What other threads of this process have received and not dispatched yet can't be seen. So this is
 * put off until each call of `process` or `handle_packet` that has messages in hand is done: those
 * that begin later get newer packets. Where the table can't be read it is put off until a packet
 * was received here, and then until such calls are done.
 */
#ifndef LNFQ_TAKEOVER_H
#define LNFQ_TAKEOVER_H

#include "config.h"
#include "handle.h"

/*
 * Takes over a queue that is on its handle's list, after the kernel has said that its number is
 * bound on this socket. `config` says how it is to be. Returns 0 or an errno: then the kernel's
 * queue stays bound.
 */
int lnfq_takeover_queue(lnfq_queue *queue, const struct lnfq_config *config);

/* Settles what can be settled now. Takes the lock. With the GIL and maybe an exception. */
void lnfq_takeover_settle(lnfq_handle *handle);

/* A call of `process` or `handle_packet` is over. The same. Whoever takes a queue over meanwhile
 * sees that the call is done, or this sees the queue. */
static inline void
lnfq_takeover_go_on(lnfq_handle *handle)
{
    if (atomic_load(&handle->unsettled)) {
        lnfq_takeover_settle(handle);
    }
}

#endif
