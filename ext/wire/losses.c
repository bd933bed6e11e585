/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether the kernel lost the packets whose ids are missing; see losses.h.
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
    losses->unanswered -= losses->unanswered > 0;
}

void
lnfq_losses_sample(struct lnfq_losses *losses, uint32_t drops, uint64_t epoch)
{
    losses->sample = drops;
    losses->epoch = epoch;
    losses->earlier = losses->unanswered;
    losses->recent = 0;
}

static uint32_t
smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

bool
lnfq_losses_explain(struct lnfq_losses *losses)
{
    uint32_t drops = losses->sample - losses->base; /* the count wraps */
    /* An answer may belong to any request. As many answers as possible may be among the drops, or
     * among later ones. */
    uint32_t answers = smaller(losses->unanswered, losses->earlier);
    uint32_t recent = smaller(losses->unanswered, losses->recent);

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
