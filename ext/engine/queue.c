/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A queue, and whether it is bound; see queue.h.
 */
#include "queue.h"

#include "handle.h"
#include "lock.h"

bool
lnfq_queue_bound(lnfq_queue *queue)
{
    bool bound;

    lnfq_lock_acquire(queue->handle);
    bound = queue->bound && !lnfq_handle_forked(queue->handle);
    lnfq_lock_release(queue->handle);
    return bound;
}

PyObject *
lnfq_queue_raise_destroyed(const lnfq_queue *queue, const char *call)
{
    PyErr_Format(queue->handle->state->closed_error, "%s: queue %u is destroyed", call,
                 queue->number);
    return NULL;
}
