/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * When one batch verdict may stand for several; see pending.h.
 */
#include "pending.h"

#include <assert.h>

#include "seldom.h"

/* The id of the first packet that is expected here. */
LNFQ_SELDOM static uint32_t
first_id(struct lnfq_pending *pending, uint32_t id)
{
    pending->lowest = id;
    if (!pending->inherited) {
        return 1;
    }
    pending->frontier = id - 1;
    return id;
}

/* A packet came that is older than another one. Returns by how much `missing` changes. */
LNFQ_SELDOM static int64_t
receive_late(struct lnfq_pending *pending, uint32_t id)
{
    uint32_t lowest = pending->lowest;

    pending->scattered = true; /* the frontier may be past it */
    if (pending->inherited && lnfq_pending_newer(lowest, id)) {
        pending->lowest = id;
        return (int64_t)(lowest - id - 1);
    }
    return -(int64_t)(pending->missing > 0);
}

void
lnfq_pending_receive(struct lnfq_pending *pending, uint32_t id, bool alone)
{
    uint32_t next = pending->seen ? pending->highest + 1 : first_id(pending, id);
    bool newer = !pending->seen || lnfq_pending_newer(id, pending->highest);
    int64_t more = newer ? (int64_t)(id - next) : receive_late(pending, id);

    if (!newer || (more > 0 && !alone)) {
        pending->gap = true;
    }
    else if (alone && pending->outstanding == 0 && !pending->inherited) {
        pending->gap = false; /* all that anybody has received is answered */
    }
    if (newer) {
        pending->highest = id;
    }
    pending->missing += (uint64_t)more;
    pending->seen = true;
    pending->outstanding += 1;
}

void
lnfq_pending_inherit(struct lnfq_pending *pending)
{
    *pending = (struct lnfq_pending){.inherited = true, .gap = true};
}

void
lnfq_pending_settle(struct lnfq_pending *pending, uint32_t up_to)
{
    if (!pending->seen) {
        pending->highest = up_to;
        pending->frontier = up_to;
        pending->seen = true;
    }
    else if (lnfq_pending_newer(pending->lowest, up_to + 1)) {
        pending->missing += pending->lowest - up_to - 1; /* they are set aside */
    }
    pending->inherited = false;
    pending->gap = pending->missing > 0;
}

void
lnfq_pending_close_gap(struct lnfq_pending *pending, uint32_t up_to)
{
    bool newer = lnfq_pending_newer(pending->highest, up_to);

    pending->missing = newer ? pending->highest - up_to - 1 : 0; /* the newest was received */
    pending->gap = pending->missing > 0;
}

/* Whether all up to the id are answered once it is. */
static bool
completes(const struct lnfq_pending *pending, uint32_t id)
{
    bool next = !pending->scattered && id == pending->frontier + 1;
    bool last = pending->outstanding == 1 && id == pending->highest;

    return next || last;
}

/* `complete` says that all up to the id are answered now. */
static void
answer(struct lnfq_pending *pending, uint32_t id, bool complete)
{
    assert(pending->outstanding > 0);
    assert(!lnfq_pending_newer(id, pending->highest));
    pending->outstanding -= 1;
    pending->scattered = !complete;
    pending->frontier = id;
}

void
lnfq_pending_answer(struct lnfq_pending *pending, uint32_t id)
{
    answer(pending, id, completes(pending, id));
}

inline int
lnfq_pending_post(struct lnfq_pending *pending, struct lnfq_outbox *outbox, uint16_t queue,
                  uint32_t id, const struct lnfq_verdict *verdict)
{
    bool complete = completes(pending, id);
    bool batch = complete && !pending->gap && lnfq_pending_batchable(pending, outbox);
    int error = lnfq_outbox_add(outbox, queue, id, verdict, batch);

    if (error == 0) {
        /* The frontier moves: this one's verdict is behind all that went before. */
        assert(lnfq_outbox_ends_with(outbox, queue, id));
        answer(pending, id, complete);
    }
    return error;
}

int
lnfq_pending_post_batch(struct lnfq_pending *pending, struct lnfq_outbox *outbox, uint16_t queue,
                        uint64_t count, uint32_t up_to, const struct lnfq_verdict *verdict)
{
    int error = lnfq_outbox_add_batch(outbox, queue, up_to, verdict);

    if (error != 0) {
        return error;
    }
    assert(lnfq_outbox_ends_with(outbox, queue, up_to));
    assert(count <= pending->outstanding);
    pending->outstanding -= count;
    if (pending->scattered || lnfq_pending_newer(up_to, pending->frontier)) {
        pending->scattered = false;
        pending->frontier = up_to;
    }
    return 0;
}
