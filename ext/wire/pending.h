/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which of a queue's packets have had their verdict, and so when one batch verdict may stand for
 * several. It needs no Python. Its owner locks it.
 *
 * A batch verdict up to an id releases every packet of the queue with a lower id. Among them may be
 * one that is kept, one that another reader of the descriptor has taken and not dispatched yet, and
 * one whose own verdict never reached the kernel. So a batch verdict is safe only up to the newest
 * id that was received here, and only while this invariant holds for every id up to that one:
 *
 *     it was received here and answered, and its own verdict is with the kernel, or stands in the
 *     outbox in front of the batch verdict; or the kernel keeps no such packet.
 *
 * For that reason a packet counts as answered only once its verdict is in the outbox, and nothing
 * in the outbox is ever thrown away (outbox.h).
 */
#ifndef LNFQ_PENDING_H
#define LNFQ_PENDING_H

#include <stdbool.h>
#include <stdint.h>

#include "outbox.h"

struct lnfq_pending {
    uint64_t outstanding; /* received here and not answered */
    uint64_t missing;     /* ids up to `highest` that were not received here */
    uint32_t highest;     /* the newest id that was received here; ids count from 1 and wrap */
    uint32_t lowest;      /* the oldest one, while `inherited` */
    uint32_t frontier;    /* the id up to which all are answered, unless `scattered` */
    bool scattered;       /* one behind the frontier, or before an older one, may be outstanding */
    bool seen;            /* any was received */
    bool inherited;       /* others have read the first packets, up to an id that is not known */
    bool gap;             /* an id up to `highest` may be in other hands */
    bool stranded;        /* the kernel may keep a packet that counts as answered */
};

/* Whether one id is newer than another; the difference counts as signed, as in the kernel. */
static inline bool
lnfq_pending_newer(uint32_t id, uint32_t than)
{
    return (int32_t)(id - than) > 0;
}

/*
 * Notes that a packet was received. `alone` says that nobody else can have read the descriptor or
 * holds messages from it. Packets that are missing then were lost in the kernel, which keeps no
 * such packet.
 */
void lnfq_pending_receive(struct lnfq_pending *pending, uint32_t id, bool alone);

/* Others have read the queue's first packets: which, is not known until lnfq_pending_settle. */
void lnfq_pending_inherit(struct lnfq_pending *pending);

/* What others have read and not answered, up to an id, has had its verdict. All newer packets are
 * received here. */
void lnfq_pending_settle(struct lnfq_pending *pending, uint32_t up_to);

/* It was found out that all ids up to this one that were not received were lost in the kernel. */
void lnfq_pending_close_gap(struct lnfq_pending *pending, uint32_t up_to);

/* Puts the verdict of a packet that was received in the outbox, as part of a batch verdict where
 * that is safe. Returns 0, or ENOMEM, and then nothing has changed. */
int lnfq_pending_post(struct lnfq_pending *pending, struct lnfq_outbox *outbox, uint16_t queue,
                      uint32_t id, const struct lnfq_verdict *verdict);

/* A packet that was received has had its verdict past the outbox. */
void lnfq_pending_answer(struct lnfq_pending *pending, uint32_t id);

/* Whether a batch verdict that a user asks for releases nothing but what waits for its verdict.
 * That is not so while others may have packets in hand. */
static inline bool
lnfq_pending_batchable(const struct lnfq_pending *pending, const struct lnfq_outbox *outbox)
{
    return !pending->inherited && !pending->stranded && !outbox->unconfirmed;
}

/* Puts a batch verdict in the outbox, for so many packets that were received and for all others up
 * to an id. Returns 0, or ENOMEM, and then nothing has changed. */
int lnfq_pending_post_batch(struct lnfq_pending *pending, struct lnfq_outbox *outbox,
                            uint16_t queue, uint64_t count, uint32_t up_to,
                            const struct lnfq_verdict *verdict);

#endif
