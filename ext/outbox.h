/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Verdicts that wait to be sent, as messages one behind the other. Payloads are not copied: they
 * are held by their owners until they are sent. Without Python; whoever holds it locks it.
 */
#ifndef LNFQ_OUTBOX_H
#define LNFQ_OUTBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "verdict.h"

/* A payload that belongs behind a message. */
struct lnfq_enclosure {
    struct lnfq_enclosure *next;
    size_t end; /* of its message, without the payload, in the outbox's bytes */
    const void *payload;
    size_t size;
    void *owner;
};

struct lnfq_outbox {
    unsigned char *bytes;
    size_t used;
    size_t capacity;
    /* In the order of their messages. */
    struct lnfq_enclosure *enclosures;
    struct lnfq_enclosure **enclosures_end;
    /* Those whose owners can be let go. */
    struct lnfq_enclosure *done;
    /* The last message, if a batch verdict may grow out of it. */
    bool growing;
    size_t last;
    uint16_t queue;
    struct lnfq_verdict verdict;
};

/* Makes an empty one, with room for a verdict. Returns 0 or ENOMEM. */
int lnfq_outbox_init(struct lnfq_outbox *outbox);

/*
 * Adds a verdict, and takes over the owner of its payload. `batch` says that a batch verdict up to
 * the id says the same (see pending.h): equal ones in a row become one. Returns 0 or ENOMEM; the
 * first verdict in an empty outbox always finds room, unless it has a payload.
 */
int lnfq_outbox_add(struct lnfq_outbox *outbox, uint16_t queue, uint32_t id,
                    const struct lnfq_verdict *verdict, bool batch);

/* Adds a batch verdict over all waiting packets up to an id. Returns 0 or ENOMEM; an empty outbox
 * always has room. */
int lnfq_outbox_add_batch(struct lnfq_outbox *outbox, uint16_t queue, uint32_t up_to,
                          const struct lnfq_verdict *verdict);

/*
 * Sends everything, in as many datagrams as the send buffer asks for, and adds their number to
 * `sends`. Returns 0 or an errno; after one that may pass (lnfq_transport_transient) what was not
 * sent stays, after another it is thrown away.
 */
int lnfq_outbox_send(struct lnfq_outbox *outbox, int fd, uint64_t *sends);

/* Throws away the verdicts for one queue. */
void lnfq_outbox_forget(struct lnfq_outbox *outbox, uint16_t queue);

/* The enclosures whose owners can be let go; the caller frees them. */
struct lnfq_enclosure *lnfq_outbox_take_done(struct lnfq_outbox *outbox);

/* Throws everything away; what had payloads is done. */
void lnfq_outbox_clear(struct lnfq_outbox *outbox);

#endif
