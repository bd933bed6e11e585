/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The receive buffer of a handle's socket. The caller holds the lock.
 */
#ifndef LNFQ_RCVBUF_H
#define LNFQ_RCVBUF_H

#include <stdint.h>

#include "forward.h"

/* Reads its size in bytes, as the kernel reports it. Returns 0 or an errno. */
int lnfq_rcvbuf_read(lnfq_handle *handle, int *value);

/* Sets the size: past rmem_max if we are allowed to, else up to it. The buffer does not grow any
 * more then. Returns 0 or an errno. */
int lnfq_rcvbuf_write(lnfq_handle *handle, int *value);

/* Grows the receive buffer, unless its size was set, so that it has room for the packets that all
 * queues may hold, and for so many more. */
void lnfq_rcvbuf_grow(lnfq_handle *handle, uint32_t more);

#endif
