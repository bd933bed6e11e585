/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Verdicts that the kernel refused; see refusal.h.
 */
#include "refusal.h"

#include <linux/netfilter/nfnetlink_queue.h>
#include <stdlib.h>

#include "handle.h"
#include "message.h"

static void
push(lnfq_handle *handle, struct lnfq_refusal *refusal)
{
    refusal->next = atomic_load(&handle->refusals);
    while (!atomic_compare_exchange_weak(&handle->refusals, &refusal->next, refusal)) {
    }
}

void
lnfq_refusal_add(lnfq_handle *handle, const struct lnfq_answer *answer)
{
    struct lnfq_refusal *refusal;

    handle->stats.verdict_errors += 1;
    if (handle->on_verdict_error == NULL) {
        return;
    }
    refusal = malloc(sizeof(*refusal));
    if (refusal == NULL) {
        return; /* it is counted all the same */
    }
    refusal->answer = *answer;
    push(handle, refusal);
}

struct lnfq_refusal *
lnfq_refusal_take(lnfq_handle *handle)
{
    struct lnfq_refusal *newest = atomic_exchange(&handle->refusals, NULL);
    struct lnfq_refusal *oldest = NULL;

    while (newest != NULL) {
        struct lnfq_refusal *next = newest->next;

        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    return oldest;
}

void
lnfq_refusal_defaulted(lnfq_handle *handle, uint16_t queue, uint32_t id, int error)
{
    const struct lnfq_answer refusal = {
        .error = error,
        .type = LNFQ_MESSAGE_TYPE(NFQNL_MSG_VERDICT),
        .named = true,
        .queue = queue,
        .id = id,
        .seq = id,
    };

    lnfq_refusal_add(handle, &refusal);
    handle->stats.defaulted += 1;
}

void
lnfq_refusal_put_back(lnfq_handle *handle, struct lnfq_refusal *oldest)
{
    struct lnfq_refusal *newer = lnfq_refusal_take(handle);
    struct lnfq_refusal **end = &oldest;

    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = newer;
    while (oldest != NULL) {
        struct lnfq_refusal *next = oldest->next;

        push(handle, oldest);
        oldest = next;
    }
}
