/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A handle's way out: verdicts are posted in its outbox, and sent together or held.
 */
#include "nfq.h"

#include <errno.h>

int
lnfq_handle_post(lnfq_handle *handle, lnfq_queue *queue, uint32_t id,
                 const struct lnfq_verdict *verdict)
{
    bool batch = lnfq_pending_answer(&queue->pending, id);
    int error = lnfq_outbox_add(&handle->outbox, queue->number, id, verdict, batch);

    if (error != 0) {
        /* There is room for one once the others are gone. */
        (void)lnfq_handle_send(handle);
        error = lnfq_outbox_add(&handle->outbox, queue->number, id, verdict, batch);
    }
    if (error != 0) {
        queue->pending.outstanding += 1;
        return error;
    }
    handle->stats.verdicts += 1;
    return 0;
}

int
lnfq_handle_post_batch(lnfq_handle *handle, const lnfq_queue *queue, uint32_t up_to,
                       const struct lnfq_verdict *verdict)
{
    int error = lnfq_outbox_add_batch(&handle->outbox, queue->number, up_to, verdict);

    if (error != 0) {
        (void)lnfq_handle_send(handle);
        error = lnfq_outbox_add_batch(&handle->outbox, queue->number, up_to, verdict);
    }
    return error;
}

int
lnfq_handle_send(lnfq_handle *handle)
{
    int error;

    handle->held = false;
    if (handle->closed) {
        return 0;
    }
    do {
        error = lnfq_outbox_send(&handle->outbox, handle->fd, &handle->stats.sends);
    } while (error == EAGAIN && lnfq_peer_await_room(handle));
    return error;
}

int
lnfq_handle_flush(lnfq_handle *handle, const char *call)
{
    PyThreadState *thread;
    int error;

    if (lnfq_handle_check_forked(handle, call) < 0) {
        return -1;
    }
    lnfq_handle_lock(handle);
    if (handle->outbox.used == 0 && !handle->marker_wanted) {
        lnfq_handle_unlock(handle);
        return 0;
    }
    thread = PyEval_SaveThread();
    error = lnfq_handle_send(handle);
    if (handle->marker_wanted && !handle->closed) {
        (void)lnfq_config_mark(handle);
    }
    lnfq_handle_leave(handle, thread);
    if (error != 0) {
        lnfq_error_raise(error, "", "%s: sending verdicts", call);
        return -1;
    }
    return 0;
}

int
lnfq_handle_send_or_hold(lnfq_handle *handle, const char *call)
{
    PyObject *hook = NULL;
    bool hold;

    lnfq_handle_lock(handle);
    hold = !handle->autoflush;
    if (hold && !handle->held && handle->outbox.used > 0) { /* another may have sent it already */
        handle->held = true;
        hook = Py_XNewRef(handle->on_held);
    }
    lnfq_handle_unlock(handle);
    if (!hold) {
        return lnfq_handle_flush(handle, call);
    }
    lnfq_hook_call(hook);
    return 0;
}
