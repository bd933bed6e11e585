/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Buffers that many datagrams are received into by one system call, without Python. One thread at a
 * time may use them.
 */
#ifndef LNFQ_INLETS_H
#define LNFQ_INLETS_H

#include <stddef.h>

#include "index.h"

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

/* The same, and waits where nothing does. -EINTR after a signal; -EAGAIN if the descriptor does not
 * block. */
int lnfq_inlets_await(struct lnfq_inlets *inlets, int fd, unsigned int count);

/* How long the datagram at `index` is; 0 if it did not come from the kernel. */
size_t lnfq_inlets_length(const struct lnfq_inlets *inlets, unsigned int index);

#endif
