/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whose a message is; see claim.h.
 */
#include "claim.h"

#include <stdlib.h>
#include <string.h>

#include "handle.h"
#include "hands.h"
#include "missing.h"
#include "pending.h"
#include "post.h"
#include "queue.h"
#include "seldom.h"

/* What becomes of a message that a loop of the user's own has handed in. */
enum claim {
    CLAIM_OURS,
    CLAIM_OLD,
    CLAIM_DOUBTFUL, /* most likely an old one */
};

/* See claim.h. */
LNFQ_SELDOM static enum claim
judge_foreign(const lnfq_queue *queue, uint32_t id)
{
    const struct lnfq_pending *pending = &queue->pending;
    bool older = pending->seen && !lnfq_pending_newer(id, pending->highest);

    if (queue->silent || (older && pending->missing == 0)) {
        return CLAIM_OLD;
    }
    if (!queue->fenced || id <= queue->received) {
        return CLAIM_OURS;
    }
    return older ? CLAIM_OLD : CLAIM_DOUBTFUL;
}

/* Notes an id, once. Without memory its packet waits until the queue is destroyed, if it is one. */
LNFQ_SELDOM static void
doubts_note(struct lnfq_doubts *doubts, uint32_t id)
{
    size_t at = doubts->count;

    if (doubts->count == doubts->capacity) {
        size_t capacity = doubts->capacity != 0 ? doubts->capacity * 2 : 16;
        uint32_t *ids = realloc(doubts->ids, capacity * sizeof(*ids));

        if (ids == NULL) {
            return;
        }
        doubts->ids = ids;
        doubts->capacity = capacity;
    }
    while (at > 0 && lnfq_pending_newer(doubts->ids[at - 1], id)) {
        at -= 1;
    }
    if (at == 0 || doubts->ids[at - 1] != id) {
        memmove(doubts->ids + at + 1, doubts->ids + at, (doubts->count - at) * sizeof(id));
        doubts->ids[at] = id;
        doubts->count += 1;
    }
}

static void
doubts_remove(struct lnfq_doubts *doubts, size_t at, size_t count)
{
    doubts->count -= count;
    memmove(doubts->ids + at, doubts->ids + at + count,
            (doubts->count - at) * sizeof(doubts->ids[0]));
}

/* There is no doubt about an id that was received. */
LNFQ_SELDOM static void
doubts_forget(struct lnfq_doubts *doubts, uint32_t id)
{
    for (size_t i = 0; i < doubts->count && !lnfq_pending_newer(doubts->ids[i], id); i++) {
        if (doubts->ids[i] == id) {
            doubts_remove(doubts, i, 1);
        }
    }
}

/* A packet that was handed in with an id up to this one, and did not come again, may wait in the
 * kernel, or was lost. */
static void
doubts_settle(lnfq_queue *queue, uint32_t up_to)
{
    struct lnfq_doubts *doubts = &queue->doubts;
    size_t known = 0;

    while (known < doubts->count && !lnfq_pending_newer(doubts->ids[known], up_to)
           && lnfq_post_unsure(queue->handle, queue, doubts->ids[known]) == 0) {
        known += 1;
    }
    doubts_remove(doubts, 0, known);
}

/* All ids up to the one that was received now exist in this binding. Those that have not come yet
 * may be in another call's hands, or set aside: then they still come. */
LNFQ_SELDOM static void
doubts_consider(lnfq_queue *queue, uint32_t received)
{
    struct lnfq_doubts *doubts = &queue->doubts;
    lnfq_handle *handle = queue->handle;

    if (lnfq_backlog_count(&handle->backlog) > 0) {
        return;
    }
    if (lnfq_hands_count(&handle->hands) <= 1) { /* this call's */
        doubts->turn = 0;
        doubts_settle(queue, received);
        return;
    }
    if (doubts->turn == 0) {
        doubts->turn = handle->hands.turn;
        doubts->known = received;
    }
    if (lnfq_hands_are_done(&handle->hands, doubts->turn)) {
        doubts->turn = 0;
        doubts_settle(queue, doubts->known);
    }
}

/* Whether nobody else can have read the descriptor or holds messages that were read. Messages that
 * are set aside are older than those of a reader that has not dispatched all of its own. */
static bool
is_alone(lnfq_handle *handle)
{
    return !handle->exposed && atomic_load(&handle->readers) <= 1
           && lnfq_backlog_count(&handle->backlog) == 0;
}

inline bool
lnfq_claim_message(lnfq_queue *queue, uint32_t id, uint64_t epoch, bool foreign)
{
    lnfq_handle *handle = queue->handle;

    if (!queue->bound || epoch < queue->born) {
        return false;
    }
    if (foreign && queue->successor) {
        enum claim claim = judge_foreign(queue, id);

        if (claim != CLAIM_OURS) {
            /* The marker may have been lost in a flood. */
            handle->marker_wanted |= queue->silent || queue->fenced;
            if (claim == CLAIM_DOUBTFUL) {
                doubts_note(&queue->doubts, id);
            }
            return false;
        }
    }
    lnfq_missing_receive(queue, id, is_alone(handle));
    if (queue->doubts.count > 0) {
        doubts_forget(&queue->doubts, id);
        if (!queue->fenced) {
            doubts_consider(queue, id);
        }
    }
    return true;
}
