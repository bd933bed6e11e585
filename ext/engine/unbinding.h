/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Unbinding a queue number, and leaving it to others.
 */
#ifndef LNFQ_UNBINDING_H
#define LNFQ_UNBINDING_H

#include "forward.h"

/*
 * Executes the verdicts that are recorded, gives what else waits the default and unbinds. Returns 0
 * or an errno; the queue is destroyed in any case. The caller holds a reference.
 */
int lnfq_unbinding_destroy(lnfq_queue *queue);

/* Executes the verdicts that are recorded, and leaves the queue bound for whoever takes it over.
 * The caller holds a reference. */
void lnfq_unbinding_leave(lnfq_queue *queue);

/* In a child of fork: the handle, and so its callback, let it go; the parent's stays as it is. */
void lnfq_unbinding_abandon(lnfq_queue *queue);

/* Takes a queue that could not be bound off the list again. Packets that another thread may have
 * dispatched meanwhile go with it: the kernel has forgotten them. */
void lnfq_unbinding_discard(lnfq_queue *queue);

#endif
