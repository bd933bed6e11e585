/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What becomes of a packet: its callback, its verdict, or its queue's default. The caller holds the
 * lock.
 */
#ifndef LNFQ_FATE_H
#define LNFQ_FATE_H

#include <stdint.h>

#include "forward.h"
#include "verdict.h"

/* Its queue lists it as kept. Returns 0 or ENOMEM. */
int lnfq_fate_keep(lnfq_packet *packet);

/* A batch verdict has covered a packet whose callback runs, or is about to. */
void lnfq_fate_cover(lnfq_packet *packet, uint32_t verdict);

/* Its message is this queue's, and its callback begins. */
void lnfq_fate_begin(lnfq_packet *packet, lnfq_queue *queue);

/* Its callback is over. */
void lnfq_fate_end(lnfq_packet *packet);

/* Puts the verdict that is recorded in the outbox, for good. Returns 0 or ENOMEM. */
int lnfq_fate_execute(lnfq_packet *packet);

/* The same with its queue's default; nobody can give it another one any more. */
void lnfq_fate_default(lnfq_packet *packet, enum lnfq_reason reason);

/* A kept packet learns whether a batch verdict has covered it. */
void lnfq_fate_learn(lnfq_packet *packet);

#endif
