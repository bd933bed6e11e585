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

#include "message.h"

/* How many datagrams one system call receives at most. */
#define LNFQ_BATCH_MAX 64

/* What a message may have in front of its payload. */
#define LNFQ_DATAGRAM_HEAD 4096

/* Holds any message of the kernel. */
#define LNFQ_DATAGRAM_MAX (LNFQ_DATAGRAM_HEAD + LNFQ_PAYLOAD_MAX)

/* Buffers for datagrams, ready for the system call; used by one thread at a time. */
struct lnfq_inlets;

/* For up to `count` datagrams; NULL without memory. */
struct lnfq_inlets *lnfq_inlets_new(unsigned int count);

void lnfq_inlets_free(struct lnfq_inlets *inlets);

/* Where the datagram at `index` goes. */
void lnfq_inlets_set(struct lnfq_inlets *inlets, unsigned int index, unsigned char *bytes,
                     size_t capacity);

/*
 * Receives up to `count` datagrams that are waiting. Returns how many there were, or a negative
 * errno: -EAGAIN where nothing waits, -ENOBUFS where the kernel lost messages (what is queued can
 * still be read).
 */
int lnfq_inlets_receive(struct lnfq_inlets *inlets, int fd, unsigned int count);

/* How long the datagram at `index` is; 0 if it did not come from the kernel. */
size_t lnfq_inlets_length(const struct lnfq_inlets *inlets, unsigned int index);

/* Whether nothing will ever come, since the socket or its other end is shut down. */
bool lnfq_transport_ended(int fd);

/* Sends one datagram; returns 0 or an errno. */
int lnfq_transport_send(int fd, const void *bytes, size_t size);

/* The same from several pieces. */
int lnfq_transport_send_pieces(int fd, struct iovec *pieces, size_t count);

/* How many messages the kernel could not put in the receive buffer; false where it does not say. */
bool lnfq_transport_drops(int fd, uint32_t *drops);

/* Whether the calling thread has CAP_NET_ADMIN, without which the kernel refuses what it sends. */
bool lnfq_transport_permitted(void);

#endif
