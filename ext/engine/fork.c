/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Children of fork: the handles of their parent are closed in them at once, whatever code forked. A
 * queue lives as long as a copy of its socket's descriptor. A child that kept a copy would so keep
 * the queue after its parent has ended.
 *
 * A fork copies the whole process. So the list of handles belongs to the process and not to one
 * interpreter. It is the only global here. It holds no references. Each handle is in it from its
 * creation to its destruction.
 *
 * The lock is held while the list or a handle's list of queues changes, while descriptors are
 * opened and closed, and by the thread that forks. So the child finds a complete list with all
 * descriptors. A thread that holds the lock waits for nobody.
 */
#include "fork.h"

#include <errno.h>
#include <pthread.h>

#include "descriptors.h"
#include "handle.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t watching = PTHREAD_ONCE_INIT;
static int watch_error;
static lnfq_handle *handles;

void
lnfq_fork_hold_off(void)
{
    pthread_mutex_lock(&lock);
}

void
lnfq_fork_allow(void)
{
    pthread_mutex_unlock(&lock);
}

/* Nothing may happen here but what a signal handler may do: another thread may have been in the
 * middle of anything. */
static void
after_in_child(void)
{
    for (lnfq_handle *handle = handles; handle != NULL; handle = handle->next) {
        handle->forked = true;
        handle->closed = true;
        lnfq_descriptors_close(handle);
    }
    lnfq_fork_allow();
}

static void
watch(void)
{
    watch_error = pthread_atfork(lnfq_fork_hold_off, lnfq_fork_allow, after_in_child);
}

int
lnfq_fork_watch(void)
{
    int error = pthread_once(&watching, watch);

    return error != 0 ? error : watch_error;
}

void
lnfq_fork_add(lnfq_handle *handle)
{
    lnfq_fork_hold_off();
    handle->next = handles;
    handle->link = &handles;
    if (handles != NULL) {
        handles->link = &handle->next;
    }
    handles = handle;
    lnfq_fork_allow();
}

void
lnfq_fork_remove(lnfq_handle *handle)
{
    lnfq_fork_hold_off();
    *handle->link = handle->next;
    if (handle->next != NULL) {
        handle->next->link = handle->link;
    }
    lnfq_fork_allow();
}

void
lnfq_fork_each(void (*function)(lnfq_handle *handle, void *argument), void *argument)
{
    for (lnfq_handle *handle = handles; handle != NULL; handle = handle->next) {
        function(handle, argument);
    }
}

void
lnfq_fork_close(lnfq_handle *handle)
{
    lnfq_fork_hold_off();
    lnfq_descriptors_close(handle);
    lnfq_fork_allow();
}
