/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whose a message is: this binding's, or an earlier one's of the same number. With the lock.
 *
 * A number that is bound anew: the kernel counts packet ids from 1 again, and nothing else in a
 * message tells the old binding's packets from the new one's. Those that this handle received are
 * told by the epoch in which they came. If packets waited when the old binding was destroyed, a
 * loop of the user's own may have received some and not handed them in yet. Of what such a loop
 * hands in then,
 *
 * - what the old binding had received already is the new one's, as far as none is missing there;
 * - what the new one has received already is the old one's;
 * - the rest is told by its order: the number is bound without a mode, in which the kernel queues
 *   nothing; the mode follows behind a marker, whose acknowledgement so stands in the stream before
 *   the new binding's first packet. What is handed in before it is the old binding's, and what
 *   comes behind it the new one's.
 *
 * Several loops, of which one overtakes another, break that order, and then nothing tells: that is
 * what destroy() warns of. A packet of the new binding's that was taken for one of the old one's
 * has no callback, but doesn't wait for ever: its id is noted, and once newer ones of the new
 * binding come it gets the default verdict.
 */
#ifndef LNFQ_CLAIM_H
#define LNFQ_CLAIM_H

#include <stdbool.h>
#include <stdint.h>

#include "forward.h"

/* Whether a message with that id, received in that epoch, is this binding's.
 * `foreign` says that it was not this handle that received it. If so, it counts as received. */
bool lnfq_claim_message(lnfq_queue *queue, uint32_t id, uint64_t epoch, bool foreign);

#endif
