/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Receiving and sending on the descriptor, without Python. Nothing here waits.
 */
#ifndef LNFQ_TRANSPORT_H
#define LNFQ_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How many datagrams one system call receives at most. */
#define LNFQ_BATCH_MAX 64

/* Holds any message of the kernel: 65535 bytes of payload attribute, and what stands before it. */
#define LNFQ_DATAGRAM_MAX (65536 + 4096)

/* A buffer for one datagram, and what came in. */
struct lnfq_inlet {
    unsigned char *bytes;
    size_t capacity;
    size_t length; /* 0 where the datagram did not come from the kernel */
};

/*
 * Receives up to `count` datagrams that are waiting. Returns how many there were, or a negative
 * errno: -EAGAIN where nothing waits, -ENOBUFS where the kernel lost messages (what is queued can
 * still be read).
 */
int lnfq_transport_receive(int fd, struct lnfq_inlet *inlets, unsigned int count);

/* Sends one datagram; returns 0 or an errno. */
int lnfq_transport_send(int fd, const void *bytes, size_t size);

/* Messages that wait to be sent, one behind the other. Whoever holds it locks it. */
struct lnfq_outbox {
    unsigned char *bytes;
    size_t used;
    size_t capacity;
};

/* Room for `size` more bytes at the end, or NULL without memory. `outbox_add` makes them part of
 * it. */
unsigned char *lnfq_outbox_reserve(struct lnfq_outbox *outbox, size_t size);

static inline void
lnfq_outbox_add(struct lnfq_outbox *outbox, size_t size)
{
    outbox->used += size;
}

/*
 * Sends everything, in as many datagrams as the send buffer asks for, and adds their number to
 * `sends`. Returns 0 or an errno; after one that may pass (lnfq_transport_transient) what was not
 * sent stays, after another it is thrown away.
 */
int lnfq_outbox_send(struct lnfq_outbox *outbox, int fd, uint64_t *sends);

/* Throws away the verdicts for one queue. */
void lnfq_outbox_forget(struct lnfq_outbox *outbox, uint16_t queue);

void lnfq_outbox_free(struct lnfq_outbox *outbox);

/* Whether the same call may succeed later: memory or a full peer, not a refusal. */
bool lnfq_transport_transient(int error);

#endif
