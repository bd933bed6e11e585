/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The objects of the engine by name: a handle has queues, which have packets.
 */
#ifndef LNFQ_FORWARD_H
#define LNFQ_FORWARD_H

typedef struct lnfq_handle lnfq_handle;
typedef struct lnfq_queue lnfq_queue;
typedef struct lnfq_packet lnfq_packet;
typedef struct lnfq_batch lnfq_batch;

#endif
