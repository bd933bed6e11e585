/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The other end of a pair of SOCK_SEQPACKET sockets: a program that acts as the kernel. The caller
 * holds the lock. Nobody waits with the GIL.
 */
#ifndef LNFQ_PEER_H
#define LNFQ_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "forward.h"
#include "inlets.h"

/* The receive buffer's size until another one is set: Linux's, whatever this system's is. */
#define LNFQ_PEER_RCVBUF 212992

/* After EAGAIN: waits for room in a pair whose other end is read. Whether there is some now. */
bool lnfq_peer_await_room(lnfq_handle *handle);

/* Sends a message of its own, and waits for room. Returns 0 or an errno: ETIMEDOUT where there was
 * none for too long. */
int lnfq_peer_send(lnfq_handle *handle, const void *bytes, size_t size);

/* Whether the datagrams that were just received, so many, mean that the other end is closed. An
 * empty datagram looks like that too. */
bool lnfq_peer_ended(const lnfq_handle *handle, const struct lnfq_inlets *inlets, int received);

/* Until when to wait instead, where nothing is there and the other end has more. */
int64_t lnfq_peer_deadline(const lnfq_handle *handle, int64_t deadline);

/* Notes what a datagram that was received says of there being more. */
void lnfq_peer_note(lnfq_handle *handle, const unsigned char *bytes, size_t length);

#endif
