/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Receiving and sending on the descriptor, without Python. Nothing here waits.
 */
#ifndef LNFQ_TRANSPORT_H
#define LNFQ_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

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

/* The same from several pieces. */
int lnfq_transport_send_pieces(int fd, struct iovec *pieces, size_t count);

/* Whether the same call may succeed later: memory or a full peer, not a refusal. */
bool lnfq_transport_transient(int error);

#endif
