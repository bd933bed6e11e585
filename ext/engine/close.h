/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Closing a handle: its queues are destroyed, waiting threads are woken, the descriptors are
 * closed. Or the netlink socket is left to another process, with its queues.
 */
#ifndef LNFQ_CLOSE_H
#define LNFQ_CLOSE_H

#include <stdbool.h>

#include "forward.h"

/* With the GIL and without the lock. A handle that is closed already stays closed. The queues of
 * one that is kept stay bound, unless `unbind` is set. Returns 0, or -1 with an exception of a
 * listener that is not an Exception, once everything else is done. */
int lnfq_close_handle(lnfq_handle *handle, bool unbind);

/* Closes the handle and leaves its queues bound. Returns the netlink socket's descriptor, which is
 * the caller's now; or -1 with an exception. Then the handle is still open. */
int lnfq_close_detach(lnfq_handle *handle);

#endif
