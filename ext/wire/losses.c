/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether the kernel lost the packets whose ids are missing; see losses.h.
 */
#include "losses.h"

void
lnfq_losses_note(struct lnfq_losses *losses, uint32_t dropped, uint32_t last_id)
{
    losses->dropped = dropped;
    losses->last_id = last_id;
    losses->noted = true;
}

bool
lnfq_losses_explain(struct lnfq_losses *losses, const struct lnfq_pending *pending, uint32_t id)
{
    uint32_t highest = pending->highest; /* 0 before the first one */
    uint64_t missing;

    if (!losses->noted || lnfq_pending_newer(losses->last_id, id)
        || lnfq_pending_newer(highest, losses->last_id)) {
        return false;
    }
    losses->noted = false;
    missing = pending->missing + (losses->last_id - highest) - (id == losses->last_id);
    if (missing != losses->dropped - losses->explained) {
        return false;
    }
    losses->explained = losses->dropped;
    return true;
}
