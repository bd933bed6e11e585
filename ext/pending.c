/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * When one batch verdict may stand for several; see pending.h.
 */
#include "pending.h"

void
lnfq_pending_receive(struct lnfq_pending *pending, uint32_t id, bool alone)
{
    bool next = id == (pending->seen ? pending->highest + 1 : 1);
    bool newer = !pending->seen || lnfq_pending_newer(id, pending->highest);

    if (!newer || (!next && !alone)) {
        pending->gap = true;
    }
    else if (alone && pending->outstanding == 0) {
        pending->gap = false; /* all that anybody has received is answered */
    }
    if (newer) {
        pending->highest = id;
    }
    pending->seen = true;
    pending->outstanding += 1;
}

bool
lnfq_pending_answer(struct lnfq_pending *pending, uint32_t id)
{
    bool next = !pending->scattered && id == pending->frontier + 1;
    bool last;

    pending->outstanding -= 1;
    last = pending->outstanding == 0 && id == pending->highest;
    pending->scattered = !next && !last;
    pending->frontier = id;
    return !pending->scattered && !pending->gap && !pending->refused;
}

void
lnfq_pending_answer_batch(struct lnfq_pending *pending, uint64_t count, uint32_t up_to)
{
    pending->outstanding -= count;
    if (pending->scattered || lnfq_pending_newer(up_to, pending->frontier)) {
        pending->scattered = false;
        pending->frontier = up_to;
    }
}
