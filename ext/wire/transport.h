/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sending on the descriptor, and asking for its state, without Python. Nothing here waits.
 */
#ifndef LNFQ_TRANSPORT_H
#define LNFQ_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

/* Whether nothing will ever come, since the socket or its other end is shut down. */
bool lnfq_transport_ended(int fd);

/* Sends one datagram; returns 0 or an errno. */
int lnfq_transport_send(int fd, const void *bytes, size_t size);

/* The same from several pieces. */
int lnfq_transport_send_pieces(int fd, struct iovec *pieces, size_t count);

/* How many messages the kernel could not put in the receive buffer; false if it does not report
 * that. */
bool lnfq_transport_drops(int fd, uint32_t *drops);

/* Whether the calling thread has CAP_NET_ADMIN, without which the kernel refuses what it sends. */
bool lnfq_transport_permitted(void);

/* The kernel's id of this thread. */
pid_t lnfq_transport_thread(void);

/* The port id of a netlink socket. Returns 0 or an errno; ENOTSOCK for other sockets. */
int lnfq_transport_port(int fd, uint32_t *port);

/* Tries to receive, and leaves what is there. Returns 0 or an errno. */
int lnfq_transport_peek(int fd);

/* Blocking receives on it end with EAGAIN after so many microseconds, less than a second; 0: never.
 * Returns 0 or an errno. */
int lnfq_transport_set_limit(int fd, suseconds_t microseconds);

/* The socket's int options; both return 0 or an errno. */
int lnfq_transport_get_option(int fd, int level, int option, int *value);
int lnfq_transport_set_option(int fd, int level, int option, int value);

#endif
