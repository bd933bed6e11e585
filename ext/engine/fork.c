/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Children of fork: the handles of their parent are closed in them, at once and whoever forked. A
 * queue lives as long as a copy of its socket's descriptor does, so a child that kept one would
 * keep the queue when its parent has ended.
 *
 * A fork copies the whole process. So the list of its handles is the process's and not one
 * interpreter's: it is all that is global here. It holds no references; each handle is on it from
 * its first day to its last.
 *
 * The lock is held while the list changes, while descriptors are opened and closed, and by whoever
 * forks: the child finds the list whole, and in it all descriptors that there are. Whoever holds it
 * waits for nobody.
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
lnfq_fork_close(lnfq_handle *handle)
{
    lnfq_fork_hold_off();
    lnfq_descriptors_close(handle);
    lnfq_fork_allow();
}
