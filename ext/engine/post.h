/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A handle's way out: verdicts are posted in its outbox, and sent together or held. The caller
 * holds the lock, except for the last function.
 */
#ifndef LNFQ_POST_H
#define LNFQ_POST_H

#include <stdint.h>

#include "clock.h"
#include "forward.h"
#include "handle.h"
#include "outbox.h"
#include "verdict.h"

/* Puts the verdict of a packet that was received in the outbox. 0 or ENOMEM. */
int lnfq_post_verdict(lnfq_handle *handle, lnfq_queue *queue, uint32_t id,
                      const struct lnfq_verdict *verdict);

/* Puts a batch verdict in the outbox, for so many packets that were received and for all others up
 * to an id. Returns 0 or ENOMEM. */
int lnfq_post_batch(lnfq_handle *handle, lnfq_queue *queue, uint64_t count, uint32_t up_to,
                    const struct lnfq_verdict *verdict);

/*
 * Gives a packet that was received its queue's default verdict, and counts it. Sends it singly if
 * there is no memory, or if held verdicts have to stay. Returns 0, or an errno: then the packet
 * waits in the kernel until its queue is destroyed, and no batch verdict releases it.
 */
int lnfq_post_default(lnfq_handle *handle, lnfq_queue *queue, uint32_t id, enum lnfq_reason reason);

/* Sends the default verdict for a packet that the kernel may have, though it was not
 * received. Returns 0 or an errno. */
int lnfq_post_unsure(lnfq_handle *handle, const lnfq_queue *queue, uint32_t id);

/* Sends the outbox. Returns 0 or an errno. */
int lnfq_post_send(lnfq_handle *handle);

/* Throws away what the outbox has for a queue, whose packets the kernel has forgotten. */
void lnfq_post_forget(lnfq_handle *handle, const lnfq_queue *queue);

/* Whether a verdict that is given now, outside of a callback, may not wait for others any longer.
 */
static inline bool
lnfq_post_overdue(const lnfq_handle *handle)
{
    return handle->hold_limit == 0
           || (handle->hold_limit > 0
               && lnfq_clock_now() - handle->hold_start > handle->hold_limit);
}

/* What was to be sent and could not be is tried again. */
static inline void
lnfq_post_resend(lnfq_handle *handle)
{
    if (atomic_load(&handle->unsent)) {
        (void)lnfq_post_send(handle);
    }
}

/* With the GIL and without the lock: payloads that were sent. */
void lnfq_post_free_enclosures(struct lnfq_enclosure *enclosure);

#endif
