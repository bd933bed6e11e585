/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whose a message is: this binding's, or an earlier one's of the same number. The caller holds the
 * lock.
 *
 * When a number is bound again, the kernel counts packet ids from 1 again. Nothing else in a
 * message distinguishes the old binding's packets from the new one's. For messages that this handle
 * received, the epoch in which they came does. A loop of the user's own may have received some of
 * the old binding's and not handed them in yet. It has not if nothing waited when that was
 * destroyed and the last id in the kernel's table was received here. Else, when such a loop hands
 * in a message,
 *
 * - one with an id that the old binding had received already is the new binding's, if the old
 *   binding had received all ids up to it;
 * - one with an id that the new binding has received already is the old one's;
 * - for the rest the order decides. The number is bound without a mode or without room, so that the
 *   kernel queues nothing. A marker follows, and then the mode or the room. So the marker's
 *   acknowledgement stands in the stream before the new binding's first packet. A message that is
 *   handed in before it is the old binding's, and one behind it is the new one's.
 *
 * If there are several loops and one overtakes another, that order is broken, and nothing
 * distinguishes the messages: destroy() warns of that. A packet of the new binding that was taken
 * for one of the old one has no callback, but doesn't wait for ever. Its id is noted, and it gets
 * the default verdict once newer packets of the new binding come.
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
