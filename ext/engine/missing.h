/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Ids that are missing: which of them were lost in the kernel (losses.h). The caller holds the
 * lock.
 *
 * The kernel's table tells. It is looked at while ids are missing, ever more seldom: if another
 * reader has them, it goes on saying so.
 */
#ifndef LNFQ_MISSING_H
#define LNFQ_MISSING_H

#include <stdbool.h>
#include <stdint.h>

#include "forward.h"
#include "handle.h"

/* The kernel said that messages were lost. */
static inline void
lnfq_missing_overrun(lnfq_handle *handle)
{
    handle->stats.overruns += 1;
    handle->overran = true;
}

/* Without the GIL, while the handle is `watching`: looks at the kernel's table, if it is time. */
void lnfq_missing_look(lnfq_handle *handle);

/* A packet of the queue was received; `alone` as in lnfq_pending_receive. */
void lnfq_missing_receive(lnfq_queue *queue, uint32_t id, bool alone);

#endif
