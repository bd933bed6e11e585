/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The batch verdicts that users ask for. The caller holds the lock.
 */
#ifndef LNFQ_VERDICT_BATCH_H
#define LNFQ_VERDICT_BATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "forward.h"
#include "verdict.h"

/*
 * Gives one verdict to what waits up to an id; `any` says whether there was something. An id that
 * has not been dispatched yet stands for the newest that has: what the kernel queues later must not
 * count as executed. Returns 0 or ENOMEM.
 */
int lnfq_verdict_batch_give(lnfq_queue *queue, uint32_t up_to, const struct lnfq_verdict *verdict,
                            bool *any);

/* Whether a packet that is dispatched now has had a batch verdict before, which is returned. */
bool lnfq_verdict_batch_covers(lnfq_queue *queue, uint32_t id, uint32_t *verdict);

#endif
