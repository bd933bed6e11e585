/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Closing a handle: its queues are destroyed, waiting threads are woken, the descriptors are
 * closed.
 */
#ifndef LNFQ_CLOSE_H
#define LNFQ_CLOSE_H

#include "forward.h"

/* With the GIL and without the lock. A handle that is closed already stays closed. Returns 0, or -1
 * with an exception of a listener that is not an Exception, once everything else is done. */
int lnfq_close_handle(lnfq_handle *handle);

#endif
