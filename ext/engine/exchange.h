/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A configuration request, its answer, and what arrives in between. The caller holds the lock and
 * not the GIL, unless a comment says otherwise.
 */
#ifndef LNFQ_EXCHANGE_H
#define LNFQ_EXCHANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config.h"
#include "forward.h"
#include "message.h"

/* A configuration request that awaits its answer. */
struct lnfq_awaited {
    struct lnfq_awaited *next;
    uint32_t seq;
    uint32_t first_seq; /* of the message that its datagram starts with */
    bool answered;
    int error;
};

/* A queue is going to copy that much of its packets. */
void lnfq_exchange_expect(lnfq_handle *handle, const struct lnfq_config *config);

/*
 * Sends a request and reads until its answer, setting packets aside. `before` and its size are
 * messages to be sent in front of it, NULL and 0 where there are none. Returns 0 or an errno. If no
 * answer comes that is ENOBUFS where they find no room, ETIMEDOUT where somebody else reads them or
 * a peer gives none.
 */
int lnfq_exchange_request(lnfq_handle *handle, uint16_t queue, const struct lnfq_config *config,
                          const unsigned char *before, size_t before_size);

/* Sends a request whose answer nobody waits for, and reads what waits; packets are set aside. */
void lnfq_exchange_tell(lnfq_handle *handle, uint16_t queue, const struct lnfq_config *config);

/* Takes an answer from whichever reader. `read` says that this is the stream's reader, for whom
 * markers are. */
void lnfq_exchange_answer(lnfq_handle *handle, const struct lnfq_answer *answer, bool read);

/* With readers expelled: reads what waits, if that can confirm the verdicts that were sent; packets
 * are set aside. */
void lnfq_exchange_catch_up(lnfq_handle *handle);

/* Sends a marker; returns its sequence number. */
uint32_t lnfq_exchange_mark(lnfq_handle *handle);

#endif
