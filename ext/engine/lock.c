/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The handle's lock: taking it without keeping the GIL from others, and what is done when it is
 * released. Destructors never wait for it, so the thread that holds it does their work. Payloads
 * that were sent are released after the lock, because that may run Python code.
 */
#include "lock.h"

#include <pthread.h>
#include <stdlib.h>

#include "bound.h"
#include "fork.h"
#include "handle.h"
#include "kept.h"
#include "outbox.h"
#include "post.h"

/* With the lock: what destructors could not send. */
static void
pay_debts(lnfq_handle *handle)
{
    struct lnfq_kept *debt = atomic_exchange(&handle->debts, NULL);

    while (debt != NULL) {
        struct lnfq_kept *next = debt->next_debt;

        if (debt->listed) {
            lnfq_queue *queue = lnfq_bound_find(handle, debt->number);

            lnfq_kept_remove(queue, debt);
            (void)lnfq_post_default(handle, queue, debt->id);
        }
        free(debt);
        debt = next;
    }
    if (!handle->held) { /* what is held stays held */
        (void)lnfq_post_send(handle);
    }
}

/* A child of fork may find the lock taken for ever, and can do no more than close: close_forked. */
void
lnfq_lock_acquire(lnfq_handle *handle)
{
    if (lnfq_handle_forked(handle)) {
        return;
    }
    while (pthread_mutex_trylock(&handle->lock) != 0) {
        Py_BEGIN_ALLOW_THREADS
        pthread_mutex_lock(&handle->lock);
        lnfq_lock_release(handle);
        Py_END_ALLOW_THREADS
    }
}

void
lnfq_lock_release(lnfq_handle *handle)
{
    if (lnfq_handle_forked(handle)) {
        return;
    }
    /* A destructor that finds the lock taken leaves a debt: look again once it is free. */
    do {
        if (atomic_load(&handle->debts) != NULL) {
            pay_debts(handle);
        }
        pthread_mutex_unlock(&handle->lock);
    } while (atomic_load(&handle->debts) != NULL && pthread_mutex_trylock(&handle->lock) == 0);
}

PyThreadState *
lnfq_lock_enter(lnfq_handle *handle)
{
    PyThreadState *thread = PyEval_SaveThread();

    if (!lnfq_handle_forked(handle)) {
        pthread_mutex_lock(&handle->lock);
    }
    return thread;
}

void
lnfq_lock_close_unused(lnfq_handle *handle)
{
    if (handle->closed && handle->waiters == 0) {
        lnfq_fork_close(handle);
    }
}

void
lnfq_lock_leave(lnfq_handle *handle, PyThreadState *thread)
{
    struct lnfq_enclosure *done = lnfq_outbox_take_done(&handle->outbox);

    lnfq_lock_close_unused(handle);
    lnfq_lock_release(handle);
    PyEval_RestoreThread(thread);
    lnfq_post_free_enclosures(done);
}
