/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Verdicts that wait to be sent, as messages one behind the other. Payloads are not copied: they
 * are held by their owners until they are sent. It needs no Python. Its owner locks it.
 *
 * Verdicts are sent in their order, and stay until they are sent: a batch verdict relies on those
 * in front of it. Only a verdict that is too large for the socket is replaced, by its packet's
 * default.
 */
#ifndef LNFQ_OUTBOX_H
#define LNFQ_OUTBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

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
    bool several; /* it holds more than one verdict, or a batch verdict */
    /* Without CAP_NET_ADMIN the kernel refuses a datagram, and reports that on the descriptor,
     * where it is read later. Until then nobody knows whether the verdicts in it were executed. */
    bool refusable;     /* the other end is the kernel, which may refuse */
    bool ask;           /* somebody else may read what it says */
    bool unconfirmed;   /* what was sent may have been refused */
    pid_t doubted;      /* then: the thread that has sent it; 0: there are several */
    uint64_t withdrawn; /* batch verdicts that were: their packets wait in the kernel */
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

/* Whether its last message is about that packet, or a batch verdict up to it: for assertions. */
bool lnfq_outbox_ends_with(const struct lnfq_outbox *outbox, uint16_t queue, uint32_t id);

/*
 * Sends everything, in as many datagrams as the send buffer asks for, and adds their number to
 * `sends`. Returns 0 or an errno, and then what was not sent stays. EMSGSIZE says that the first
 * message is too large for the socket: see lnfq_outbox_replace. If some were sent that may be
 * refused, batch verdicts among the rest count as refused too, and are withdrawn.
 */
int lnfq_outbox_send(struct lnfq_outbox *outbox, int fd, uint64_t *sends);

/* Whether it holds one packet's verdict, and nothing else. */
bool lnfq_outbox_is_lone(const struct lnfq_outbox *outbox);

/* Whether one verdict, or several, that this thread sends may be refused without anybody knowing
 * it. Finding that out costs a system call, which is saved for a single verdict if possible. */
bool lnfq_outbox_doubts(const struct lnfq_outbox *outbox, bool several);

/* What was sent by this thread may have been refused. */
void lnfq_outbox_doubt(struct lnfq_outbox *outbox);

/* Whether nothing that another thread has sent may have been refused. */
bool lnfq_outbox_doubted_here(const struct lnfq_outbox *outbox);

/* Everything that the kernel had said by now was read: nothing that was sent has been refused. */
static inline void
lnfq_outbox_confirm(struct lnfq_outbox *outbox)
{
    outbox->unconfirmed = false;
}

/* Which packet the first message is about. The outbox is not empty. */
void lnfq_outbox_first(const struct lnfq_outbox *outbox, uint16_t *queue, uint32_t *id);

/* Puts a plain verdict on the same packet in the place of the first message, if that has a payload.
 * Otherwise returns false. */
bool lnfq_outbox_replace(struct lnfq_outbox *outbox, uint32_t verdict);

/* Whether there is a verdict for a queue from that place on; which packet the first one is about,
 * and the place behind it. */
bool lnfq_outbox_find(const struct lnfq_outbox *outbox, uint16_t queue, size_t *from, uint32_t *id);

/* Throws away the verdicts for one queue. */
void lnfq_outbox_forget(struct lnfq_outbox *outbox, uint16_t queue);

/* The enclosures whose owners can be let go; the caller frees them. */
struct lnfq_enclosure *lnfq_outbox_take_done(struct lnfq_outbox *outbox);

/* Throws everything away; what had payloads is done. */
void lnfq_outbox_clear(struct lnfq_outbox *outbox);

#endif
