/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What users may do about errors: the texts behind "operation: strerror". The returned texts are
 * static, and empty if there is no remedy. There is no state and no lock.
 */
#ifndef LNFQ_REMEDY_H
#define LNFQ_REMEDY_H

#include <stdbool.h>
#include <stdint.h>

/* Room for a remedy. */
#define LNFQ_REMEDY_SIZE 160

/* A request without CAP_NET_ADMIN. */
#define LNFQ_REMEDY_PERMISSION \
    "CAP_NET_ADMIN is needed in the network namespace, now and when the handle was opened"

/* create_queue, for a number that its handle has bound. */
#define LNFQ_REMEDY_LISTED "it is bound on this handle already"

/* create_queue without an answer, if the number may be another process's. */
#define LNFQ_REMEDY_LEFT "the number may stay bound"

/* An option of netlink sockets, on another one. */
#define LNFQ_REMEDY_NO_NETLINK "the descriptor is not a netlink socket"

/* A system call on a handle's descriptor: what has happened to that, if the error tells. */
const char *lnfq_remedy_descriptor(int error);

/* open(); `elsewhere` says that a network namespace was named. */
const char *lnfq_remedy_open(int error, bool elsewhere);

/* The kernel's table. */
const char *lnfq_remedy_status(int error);

/* A configuration request; `flags` says that it sets flags. */
const char *lnfq_remedy_config(int error, bool flags);

/* A number that is bound elsewhere; by that netlink port, which may be one of this program's own,
 * or NULL where that is not known. */
void lnfq_remedy_taken(char remedy[LNFQ_REMEDY_SIZE], uint16_t queue, const uint32_t *port,
                       bool own);

/* destroy(). */
const char *lnfq_remedy_destroy(int error);

/* A verdict that the kernel refused. */
const char *lnfq_remedy_refusal(int error);

#endif
