/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A handle's bound queues; see bound.h.
 */
#include "bound.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fork.h"
#include "handle.h"
#include "queue.h"

static size_t
position(const lnfq_handle *handle, uint16_t number)
{
    size_t low = 0, high = handle->queue_count;

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (handle->queues[middle]->number < number) {
            low = middle + 1;
        }
        else {
            high = middle;
        }
    }
    return low;
}

inline lnfq_queue *
lnfq_bound_find(lnfq_handle *handle, uint16_t number)
{
    size_t at;

    if (handle->queue_count == 1) { /* as nearly always */
        return handle->queues[0]->number == number ? handle->queues[0] : NULL;
    }
    at = position(handle, number);
    return at < handle->queue_count && handle->queues[at]->number == number ? handle->queues[at]
                                                                            : NULL;
}

lnfq_queue *
lnfq_bound_find_leaving(lnfq_handle *handle, uint16_t number)
{
    lnfq_queue *queue = handle->leaving;

    while (queue != NULL && queue->number != number) {
        queue = queue->next_leaving;
    }
    return queue;
}

/* A number, the handle that looks, and what others on the same socket do with it. */
struct rivals {
    const lnfq_handle *handle;
    uint16_t number;
    bool bound;
    bool leaving;
};

static void
look_for_rival(lnfq_handle *handle, void *argument)
{
    struct rivals *rivals = argument;

    if (handle == rivals->handle || handle->forked
        || handle->file.device != rivals->handle->file.device
        || handle->file.inode != rivals->handle->file.inode) {
        return;
    }
    rivals->bound |= lnfq_bound_find(handle, rivals->number) != NULL;
    rivals->leaving |= lnfq_bound_find_leaving(handle, rivals->number) != NULL;
}

int
lnfq_bound_reserve(lnfq_handle *handle)
{
    size_t capacity = handle->queue_capacity ? handle->queue_capacity * 2 : 4;
    lnfq_queue **queues, **former;

    if (handle->history == NULL) {
        handle->history = calloc(UINT16_MAX + 1, sizeof(handle->history[0]));
        if (handle->history == NULL) {
            return ENOMEM;
        }
    }
    if (handle->queue_count < handle->queue_capacity) {
        return 0;
    }
    queues = malloc(capacity * sizeof(*queues));
    if (queues == NULL) {
        return ENOMEM;
    }
    if (handle->queue_count > 0) {
        memcpy(queues, handle->queues, handle->queue_count * sizeof(*queues));
    }
    former = handle->queues;
    lnfq_fork_hold_off();
    handle->queues = queues;
    lnfq_fork_allow();
    free(former);
    handle->queue_capacity = capacity;
    return 0;
}

/* With forks held off, as whenever other handles look at the lists. */
static void
insert(lnfq_handle *handle, lnfq_queue *queue)
{
    size_t at = position(handle, queue->number);

    memmove(&handle->queues[at + 1], &handle->queues[at],
            (handle->queue_count - at) * sizeof(handle->queues[0]));
    handle->queues[at] = queue;
    handle->queue_count += 1;
}

int
lnfq_bound_insert(lnfq_handle *handle, lnfq_queue *queue)
{
    struct rivals rivals = {
        .handle = handle,
        .number = queue->number,
        .leaving = lnfq_bound_find_leaving(handle, queue->number) != NULL,
    };

    lnfq_fork_hold_off();
    lnfq_fork_each(look_for_rival, &rivals);
    if (!rivals.bound && !rivals.leaving) {
        insert(handle, queue);
    }
    lnfq_fork_allow();
    if (rivals.leaving) {
        return EAGAIN;
    }
    return rivals.bound ? EBUSY : 0;
}

void
lnfq_bound_remove(lnfq_handle *handle, const lnfq_queue *queue)
{
    size_t at = position(handle, queue->number);

    lnfq_fork_hold_off();
    handle->queue_count -= 1;
    memmove(&handle->queues[at], &handle->queues[at + 1],
            (handle->queue_count - at) * sizeof(handle->queues[0]));
    lnfq_fork_allow();
}

void
lnfq_bound_strand_all(lnfq_handle *handle)
{
    for (size_t i = 0; i < handle->queue_count; i++) {
        handle->queues[i]->pending.stranded = true;
    }
}

void
lnfq_bound_leave(lnfq_handle *handle, lnfq_queue *queue)
{
    lnfq_fork_hold_off();
    queue->next_leaving = handle->leaving;
    handle->leaving = queue;
    lnfq_fork_allow();
}

void
lnfq_bound_left(lnfq_handle *handle, const lnfq_queue *queue)
{
    lnfq_queue **link = &handle->leaving;

    while (*link != queue) {
        link = &(*link)->next_leaving;
    }
    lnfq_fork_hold_off();
    *link = queue->next_leaving;
    lnfq_fork_allow();
}
