/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether the kernel lost the packets of a queue whose ids are missing, or another reader has them.
 * It needs no Python. Its owner locks it.
 *
 * The kernel gives a message its id, then drops it if the receive buffer is full, and counts the
 * drop for its queue. The socket's own count would not do: it has answers and reports too. So if as
 * many ids up to one are missing as the kernel has dropped messages, nobody else has read any of
 * them. The count has to be no younger than the id, else drops of younger ids would be in it.
 */
#ifndef LNFQ_LOSSES_H
#define LNFQ_LOSSES_H

#include <stdbool.h>
#include <stdint.h>

#include "pending.h"

struct lnfq_losses {
    uint32_t explained; /* of the dropped messages, those that do not count as missing any more */
    uint32_t dropped;   /* the kernel's count, which wraps */
    uint32_t last_id;   /* that it had given when it had counted them, or later */
    bool noted;         /* the latter two are known */
};

/* Notes what the kernel's table says. */
void lnfq_losses_note(struct lnfq_losses *losses, uint32_t dropped, uint32_t last_id);

/* To be called before a packet is received: whether this shows that all that was missing up to
 * `last_id` was lost. What was noted is used up by the first packet that can show it. */
bool lnfq_losses_explain(struct lnfq_losses *losses, const struct lnfq_pending *pending,
                         uint32_t id);

#endif
