/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A handle's descriptors. Other code may close them, and their numbers then become other files'. So
 * the file of each is noted when it is opened, and compared when it is closed. There is no lock
 * here: the caller holds the handle's, or nobody else knows the handle yet.
 */
#ifndef LNFQ_DESCRIPTORS_H
#define LNFQ_DESCRIPTORS_H

#include <stdbool.h>
#include <sys/types.h>

#include "forward.h"

/* Which file a descriptor is on. */
struct lnfq_file {
    dev_t device;
    ino_t inode;
};

/* While forks are held off: takes a descriptor that has been opened, or -1. */
void lnfq_descriptors_take(lnfq_handle *handle, int fd);

/* The same, for the ends of a non-blocking pipe. No other file is on its inode, while all eventfds
 * share one. */
void lnfq_descriptors_take_wake(lnfq_handle *handle, const int ends[2]);

/* While forks are held off: closes them. A signal handler may do that. */
void lnfq_descriptors_close(lnfq_handle *handle);

/* Whether the netlink socket's number is not a stranger's by now. */
bool lnfq_descriptors_are_ours(const lnfq_handle *handle);

/* While forks are held off: gives the netlink socket's descriptor away. Returns it; -1 if it is a
 * stranger's by now. */
int lnfq_descriptors_give(lnfq_handle *handle);

/* If the netlink socket's number is a stranger's by now, it is that stranger's. */
void lnfq_descriptors_leave_stranger(lnfq_handle *handle);

/* Has whoever waits, and will, come back at once; and the reverse. */
void lnfq_descriptors_wake(lnfq_handle *handle);
void lnfq_descriptors_calm(lnfq_handle *handle);

#endif
