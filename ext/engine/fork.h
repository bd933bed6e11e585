/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Children of fork, in which the handles of their parent are closed.
 */
#ifndef LNFQ_FORK_H
#define LNFQ_FORK_H

#include "forward.h"

/* Has children of fork close the handles, from now on. 0 or an errno. */
int lnfq_fork_watch(void);

/* Other threads that fork wait in between: descriptors are opened and closed. */
void lnfq_fork_hold_off(void);
void lnfq_fork_allow(void);

/* A handle is there, and is no more. */
void lnfq_fork_add(lnfq_handle *handle);
void lnfq_fork_remove(lnfq_handle *handle);

/* Calls a function with each handle of this process, while forks are held off. It may not wait. */
void lnfq_fork_each(void (*function)(lnfq_handle *handle, void *argument), void *argument);

/* Closes a handle's descriptors. */
void lnfq_fork_close(lnfq_handle *handle);

#endif
