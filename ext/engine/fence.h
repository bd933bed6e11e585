/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Letting packets into a queue that may be mistaken for its predecessor: behind a marker, once it
 * is bound without room; see claim.h. All with the lock and without the GIL. They return 0 or an
 * errno.
 */
#ifndef LNFQ_FENCE_H
#define LNFQ_FENCE_H

#include "config.h"
#include "forward.h"

/* No room: the kernel queues no packets, and gives no ids. They pass if the default verdict is
 * NF_ACCEPT, else they are dropped. */
struct lnfq_config lnfq_fence_no_room(const lnfq_queue *queue);

/* Binds a queue without room. */
int lnfq_fence_bind(lnfq_queue *queue, const struct lnfq_config *config);

/* Gives its room to a queue that lnfq_fence_bind has bound with the same configuration. */
int lnfq_fence_open(lnfq_queue *queue, const struct lnfq_config *config);

/* Configures a queue that was bound without a mode, which the configuration gives it. */
int lnfq_fence_configure(lnfq_queue *queue, const struct lnfq_config *config);

#endif
