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

/* A number, and the handle that looks whether others have it on the same socket. */
struct rivals {
    const lnfq_handle *handle;
    uint16_t number;
    bool any;
};

static bool
is_rival(const lnfq_handle *handle, const struct rivals *rivals)
{
    return handle != rivals->handle && !handle->forked
           && handle->file.device == rivals->handle->file.device
           && handle->file.inode == rivals->handle->file.inode;
}

static void
look_for_bound(lnfq_handle *handle, void *argument)
{
    struct rivals *rivals = argument;

    rivals->any |= is_rival(handle, rivals) && lnfq_bound_find(handle, rivals->number) != NULL;
}

static void
look_for_leaving(lnfq_handle *handle, void *argument)
{
    struct rivals *rivals = argument;

    rivals->any |=
        is_rival(handle, rivals) && lnfq_bound_find_leaving(handle, rivals->number) != NULL;
}

bool
lnfq_bound_is_leaving(lnfq_handle *handle, uint16_t number)
{
    struct rivals rivals = {
        .handle = handle,
        .number = number,
        .any = lnfq_bound_find_leaving(handle, number) != NULL,
    };

    lnfq_fork_hold_off();
    lnfq_fork_each(look_for_leaving, &rivals);
    lnfq_fork_allow();
    return rivals.any;
}

int
lnfq_bound_reserve(lnfq_handle *handle)
{
    size_t capacity = handle->queue_capacity ? handle->queue_capacity * 2 : 4;
    lnfq_queue **queues;

    if (handle->history == NULL) {
        handle->history = calloc(UINT16_MAX + 1, sizeof(handle->history[0]));
        if (handle->history == NULL) {
            return ENOMEM;
        }
    }
    if (handle->queue_count < handle->queue_capacity) {
        return 0;
    }
    queues = realloc(handle->queues, capacity * sizeof(*queues));
    if (queues == NULL) {
        return ENOMEM;
    }
    handle->queues = queues;
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

bool
lnfq_bound_insert(lnfq_handle *handle, lnfq_queue *queue)
{
    struct rivals rivals = {.handle = handle, .number = queue->number};

    lnfq_fork_hold_off();
    lnfq_fork_each(look_for_bound, &rivals);
    if (!rivals.any) {
        insert(handle, queue);
    }
    lnfq_fork_allow();
    return !rivals.any;
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
