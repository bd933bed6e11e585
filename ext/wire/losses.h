/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether the kernel lost the packets whose ids are missing, or another reader has them. It needs
 * no Python. Its owner locks it.
 *
 * The kernel gives a message its id, then drops it if the receive buffer is full, and counts the
 * drop for the socket. So if no more ids are missing than the kernel has counted drops, nobody else
 * has read any. But it counts a drop before the gap in the ids shows: a gap shows only with a later
 * packet of the same queue. So the count is taken before a read that finds the buffer empty. All
 * gaps that the count includes have shown once each queue has had a packet that was read after
 * that. The kernel also drops and counts answers to requests, which must not be mistaken for lost
 * packets.
 */
#ifndef LNFQ_LOSSES_H
#define LNFQ_LOSSES_H

#include <stdbool.h>
#include <stdint.h>

struct lnfq_losses {
    uint64_t missing; /* ids, of all queues, since `base` */
    uint32_t base;    /* the kernel's count of drops when none was missing */
    uint32_t sample;  /* its count before the last read that found the buffer empty */
    uint64_t epoch;   /* messages of this one or a later one were read after that; 0: no sample */
    uint32_t unanswered; /* requests since `base` that were not answered here: drops, perhaps */
    uint32_t earlier;    /* how many there were of them when the sample was taken */
    uint32_t recent;     /* requests since the sample */
};

/* A request that wants an answer was sent. */
void lnfq_losses_ask(struct lnfq_losses *losses);

/* An answer was read. */
void lnfq_losses_answer(struct lnfq_losses *losses);

/* Notes that the buffer was found empty, and that the kernel had counted so many drops before.
 * Messages that are read from now on have at least that epoch, others a smaller one. */
void lnfq_losses_sample(struct lnfq_losses *losses, uint32_t drops, uint64_t epoch);

/* Notes that all queues have had a packet that was read after the sample. This uses up the sample.
 * If it shows that every missing id was lost, counting starts again, and true is returned. */
bool lnfq_losses_explain(struct lnfq_losses *losses);

/* Notes that a queue is gone, and with it the gaps that it had or would have shown. `missing` ids
 * of the other queues are left, and `drops` were counted. */
void lnfq_losses_restart(struct lnfq_losses *losses, uint64_t missing, uint32_t drops);

#endif
