/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where a reader waits; see reader.h. `receiving` is the mutex of the one that is inside the system
 * call. It is taken with the handle's lock, and released with it too: who has waited for it finds
 * noted what was received.
 *
 * Who wants it out first says so (`readers`, `expelling`) and then looks at the mutex; who goes in
 * first takes the mutex and then looks whether somebody has said so.
 */
#include "reader.h"

#include <errno.h>
#include <linux/netlink.h>

#include "config.h"
#include "descriptors.h"
#include "handle.h"
#include "lock.h"
#include "mutex.h"
#include "transport.h"

/*
 * How long one waits there at most; then it waits on the descriptors, where it hears all. So nobody
 * waits for it longer if the marker gets lost, or the descriptor was closed behind our back. With a
 * limit signals also end the wait whose handlers were installed with SA_RESTART.
 */
#define LIMIT_US 100000

/* Without the lock and the GIL: gets out who is inside. */
static void
get_out(lnfq_handle *handle)
{
    _Alignas(struct nlmsghdr) unsigned char bytes[LNFQ_CONFIG_SIZE_MAX];

    lnfq_mutex_take(&handle->lock);
    if (lnfq_descriptors_are_ours(handle)) {
        (void)lnfq_transport_send(handle->fd, bytes,
                                  lnfq_config_put_marker(bytes, ++handle->seq, handle->port));
    }
    lnfq_lock_release(handle);
    lnfq_mutex_take(&handle->receiving);
    lnfq_mutex_release(&handle->receiving);
}

/* With the GIL and without the lock. */
static void
get_out_if_inside(lnfq_handle *handle)
{
    if (lnfq_mutex_taken(&handle->receiving) && !lnfq_handle_forked(handle)) {
        Py_BEGIN_ALLOW_THREADS
        get_out(handle);
        Py_END_ALLOW_THREADS
    }
}

void
lnfq_reader_begin(lnfq_handle *handle)
{
    atomic_fetch_add(&handle->readers, 1);
    get_out_if_inside(handle);
}

void
lnfq_reader_end(lnfq_handle *handle)
{
    atomic_fetch_sub(&handle->readers, 1);
}

void
lnfq_reader_expel(lnfq_handle *handle)
{
    atomic_fetch_add(&handle->expelling, 1);
    get_out_if_inside(handle);
}

void
lnfq_reader_admit(lnfq_handle *handle)
{
    atomic_fetch_sub(&handle->expelling, 1);
}

PyThreadState *
lnfq_reader_lock_out(lnfq_handle *handle)
{
    lnfq_reader_expel(handle);
    return lnfq_lock_enter(handle);
}

void
lnfq_reader_let_in(lnfq_handle *handle, PyThreadState *thread)
{
    lnfq_lock_leave(handle, thread);
    lnfq_reader_admit(handle);
}

/* With the lock: receiving on the descriptor ends after the limit. Returns 0 or an errno. */
static int
set_limit(lnfq_handle *handle)
{
    int error = handle->limited ? 0 : lnfq_transport_set_limit(handle->fd, LIMIT_US);

    handle->limited = error == 0;
    return error;
}

void
lnfq_reader_lift_limit(lnfq_handle *handle)
{
    if (handle->limited) {
        (void)lnfq_transport_set_limit(handle->fd, 0);
        handle->limited = false;
    }
}

int
lnfq_reader_descriptor(lnfq_handle *handle, bool expose)
{
    int fd;

    lnfq_lock_acquire(handle);
    fd = handle->closed ? -1 : handle->fd;
    if (expose) {
        handle->exposed = true;
        lnfq_reader_lift_limit(handle);
    }
    lnfq_lock_release(handle);
    if (expose) {
        get_out_if_inside(handle);
    }
    return fd;
}

/* With the lock: whether the reader is alone, and stays so as long as nobody calls the handle. What
 * is kept, or could not be sent, may need it awake. Who knows the descriptor may close it. */
static bool
is_alone(const lnfq_handle *handle)
{
    return handle->kernel && !handle->exposed && handle->kept_pool.used == 0
           && handle->outbox.used == 0 && atomic_load(&handle->readers) == 1
           && atomic_load(&handle->expelling) == 0;
}

int
lnfq_reader_wait(lnfq_handle *handle, struct lnfq_inlets *inlets, unsigned int count)
{
    const int fd = handle->fd; /* which close takes back */
    int received = -EBUSY;

    if (!lnfq_mutex_try(&handle->receiving)) {
        return received;
    }
    if (is_alone(handle) && set_limit(handle) == 0) {
        lnfq_lock_pause(handle);
        received = lnfq_inlets_await(inlets, fd, count);
        lnfq_lock_resume(handle);
    }
    lnfq_mutex_release(&handle->receiving);
    return received;
}
