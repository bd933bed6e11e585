/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Verdicts that wait to be sent, as messages one behind the other. Without Python; whoever holds it
 * locks it.
 */
#ifndef LNFQ_OUTBOX_H
#define LNFQ_OUTBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "verdict.h"

struct lnfq_outbox {
    unsigned char *bytes;
    size_t used;
    size_t capacity;
    /* The last message, if a batch verdict may grow out of it. */
    bool growing;
    size_t last;
    uint16_t queue;
    struct lnfq_verdict verdict;
};

/* Makes room for one verdict at least. Returns 0 or ENOMEM. */
int lnfq_outbox_reserve(struct lnfq_outbox *outbox);

/*
 * Adds a verdict. `batch` says that a batch verdict up to the id says the same (see pending.h):
 * equal ones in a row become one. Returns 0 or ENOMEM.
 */
int lnfq_outbox_add(struct lnfq_outbox *outbox, uint16_t queue, uint32_t id,
                    const struct lnfq_verdict *verdict, bool batch);

/*
 * Sends everything, in as many datagrams as the send buffer asks for, and adds their number to
 * `sends`. Returns 0 or an errno; after one that may pass (lnfq_transport_transient) what was not
 * sent stays, after another it is thrown away.
 */
int lnfq_outbox_send(struct lnfq_outbox *outbox, int fd, uint64_t *sends);

/* Throws away the verdicts for one queue. */
void lnfq_outbox_forget(struct lnfq_outbox *outbox, uint16_t queue);

void lnfq_outbox_free(struct lnfq_outbox *outbox);

#endif
