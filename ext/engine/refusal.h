/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Verdicts that the kernel refused, until on_verdict_error is called (report.h).
 *
 * The kernel reports a refusal later, on the descriptor. The code that reads it may hold the lock,
 * and so can't call Python code. It notes the refusal here.
 */
#ifndef LNFQ_REFUSAL_H
#define LNFQ_REFUSAL_H

#include <stdint.h>

#include "forward.h"
#include "message.h"

struct lnfq_refusal {
    struct lnfq_refusal *next;
    struct lnfq_answer answer;
};

/* With the lock: counts a refusal, and notes it if anybody wants to be told. */
void lnfq_refusal_add(lnfq_handle *handle, const struct lnfq_answer *answer);

/* With the lock: the same for a verdict that could not be sent: its packet has had the default. */
void lnfq_refusal_defaulted(lnfq_handle *handle, uint16_t queue, uint32_t id, int error);

/* All of them, oldest first; the caller frees them. No lock. */
struct lnfq_refusal *lnfq_refusal_take(lnfq_handle *handle);

/* Puts back the refusals that were not reported, oldest first. Those that came meanwhile are newer.
 * There is no lock. */
void lnfq_refusal_put_back(lnfq_handle *handle, struct lnfq_refusal *oldest);

#endif
