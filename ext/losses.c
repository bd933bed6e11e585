/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether the ids that are missing were lost in the kernel; see losses.h.
 */
#include "losses.h"

void
lnfq_losses_ask(struct lnfq_losses *losses)
{
    losses->unanswered += 1;
    losses->recent += 1;
}

void
lnfq_losses_answer(struct lnfq_losses *losses)
{
    losses->unanswered -= losses->unanswered > 0; /* of whichever: so `recent` is not too small */
}

void
lnfq_losses_sample(struct lnfq_losses *losses, uint32_t drops, uint64_t epoch)
{
    losses->sample = drops;
    losses->epoch = epoch;
    losses->recent = 0;
}

bool
lnfq_losses_explain(struct lnfq_losses *losses)
{
    uint32_t drops = losses->sample - losses->base; /* the count wraps */
    uint32_t recent = losses->unanswered < losses->recent ? losses->unanswered : losses->recent;
    uint32_t answers = losses->unanswered - recent; /* that may be among the drops */

    losses->epoch = 0;
    if (drops < answers || losses->missing > drops - answers) {
        return false;
    }
    losses->missing = 0;
    losses->base = losses->sample;
    losses->unanswered = recent;
    return true;
}

void
lnfq_losses_restart(struct lnfq_losses *losses, uint64_t missing, uint32_t drops)
{
    losses->missing = missing;
    losses->base = drops;
    losses->epoch = 0;
}
