/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The handle's lock: waiting for it without keeping the GIL from others, and what is done once it
 * is released. Destructors never wait for it, so the thread that held it does their work. Payloads
 * that were sent are released after the lock, because that may run Python code.
 */
#include "lock.h"

#include "bound.h"
#include "fork.h"
#include "kept.h"
#include "kept_pool.h"
#include "mutex.h"
#include "outbox.h"
#include "post.h"
#include "seldom.h"

LNFQ_SELDOM void
lnfq_lock_settle(lnfq_handle *handle)
{
    struct lnfq_kept *debt = atomic_exchange(&handle->debts, NULL);

    while (debt != NULL) {
        struct lnfq_kept *next = debt->next_debt;

        if (debt->listed) {
            lnfq_queue *queue = lnfq_bound_find(handle, debt->number);

            lnfq_kept_remove(queue, debt);
            (void)lnfq_post_default(handle, queue, debt->id, LNFQ_REASON_SILENT);
        }
        lnfq_kept_pool_give(&handle->kept_pool, debt);
        debt = next;
    }
    if (!handle->held) { /* what is held stays held */
        (void)lnfq_post_send(handle);
    }
}

LNFQ_SELDOM void
lnfq_lock_await(lnfq_handle *handle)
{
    do {
        Py_BEGIN_ALLOW_THREADS
        lnfq_mutex_take(&handle->lock);
        lnfq_lock_release(handle);
        Py_END_ALLOW_THREADS
    } while (!lnfq_mutex_try(&handle->lock));
}

LNFQ_SELDOM void
lnfq_lock_pay(lnfq_handle *handle)
{
    while (atomic_load(&handle->debts) != NULL && lnfq_mutex_try(&handle->lock)) {
        lnfq_lock_settle(handle);
        lnfq_mutex_release(&handle->lock);
    }
}

PyThreadState *
lnfq_lock_enter(lnfq_handle *handle)
{
    PyThreadState *thread = PyEval_SaveThread();

    if (!lnfq_handle_forked(handle)) {
        lnfq_mutex_take(&handle->lock);
    }
    return thread;
}

void
lnfq_lock_pause(lnfq_handle *handle)
{
    handle->waiters += 1;
    lnfq_lock_release(handle);
}

void
lnfq_lock_resume(lnfq_handle *handle)
{
    lnfq_mutex_take(&handle->lock);
    handle->waiters -= 1;
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
    if (thread != NULL) {
        PyEval_RestoreThread(thread);
    }
    lnfq_post_free_enclosures(done);
}
