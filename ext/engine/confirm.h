/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether the kernel has taken the verdicts that were sent. It says so only of those that it has
 * refused, in a report among the messages (refusal.h). All others are confirmed once nobody can
 * still come upon such a report. All of this is called with the lock.
 */
#ifndef LNFQ_CONFIRM_H
#define LNFQ_CONFIRM_H

#include <stdbool.h>

#include "forward.h"

/* Messages were received for a dispatch, which is about to count as one that has them in hand;
 * whether a report is among them. */
void lnfq_confirm_note(lnfq_handle *handle, bool report);

/* Between calls that receive: whether to find the buffer empty would confirm the verdicts. */
bool lnfq_confirm_can(lnfq_handle *handle);

/* The buffer was found empty. */
void lnfq_confirm_empty(lnfq_handle *handle);

#endif
