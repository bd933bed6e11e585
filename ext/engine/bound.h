/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A handle's bound queues, sorted by their numbers, and those that are being unbound. The caller
 * holds the lock. The list of the bound queues is changed with the GIL too, for the garbage
 * collector. Other handles on the same socket look at both lists without the lock: they change
 * while forks are held off.
 */
#ifndef LNFQ_BOUND_H
#define LNFQ_BOUND_H

#include <stdbool.h>
#include <stdint.h>

#include "forward.h"

/* The queue of that number, borrowed, or NULL. */
lnfq_queue *lnfq_bound_find(lnfq_handle *handle, uint16_t number);

/* The same, of those that are being unbound. */
lnfq_queue *lnfq_bound_find_leaving(lnfq_handle *handle, uint16_t number);

/* Makes room for one more. Returns 0 or ENOMEM. */
int lnfq_bound_reserve(lnfq_handle *handle);

/* Takes the caller's reference; there is room. Or returns an errno: EAGAIN while the number is
 * being unbound, by this handle or by another one of this process on the same socket; EBUSY if such
 * a one has bound it. */
int lnfq_bound_insert(lnfq_handle *handle, lnfq_queue *queue);

/* Gives the reference back to the caller. */
void lnfq_bound_remove(lnfq_handle *handle, const lnfq_queue *queue);

/* The kernel may keep packets of any of them that count as answered. */
void lnfq_bound_strand_all(lnfq_handle *handle);

/* A queue that is to be removed is being unbound, and is no more; the caller holds a reference. */
void lnfq_bound_leave(lnfq_handle *handle, lnfq_queue *queue);
void lnfq_bound_left(lnfq_handle *handle, const lnfq_queue *queue);

#endif
