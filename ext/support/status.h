/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel's own table of queues, of the calling thread's network namespace. There is no state
 * and no lock.
 */
#ifndef LNFQ_STATUS_H
#define LNFQ_STATUS_H

#include <stdbool.h>
#include <stdint.h>

#include "state.h"

/* A list of what the kernel's table says; NULL with an exception. */
PyObject *lnfq_status_list(lnfq_state *state);

/* What the table says of a queue. */
struct lnfq_status {
    uint16_t number;
    uint32_t port;    /* of the socket that has bound it */
    uint32_t waiting; /* packets */
    uint32_t
        user_dropped; /* packets that found no room in the receive buffer, since it was bound */
    uint32_t last_id; /* of the last packet */
};

/* Calls a function with each line of the table of this thread's namespace. Needs no GIL. Returns 0
 * or an errno: EACCES where the kernel hides it. */
int lnfq_status_each(void (*function)(const struct lnfq_status *status, void *argument),
                     void *argument);

/* Finds a queue's line there. Returns 0; ESRCH where there is none, because nobody has bound the
 * number; another errno where the kernel hides it. Needs no GIL. */
int lnfq_status_find(uint16_t queue, struct lnfq_status *status);

/* Whether a socket of this process has that port id in this thread's namespace. */
bool lnfq_status_is_own(uint32_t port);

#endif
