/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Packets for numbers that are bound on an adopted socket, and that nobody has created here yet:
 * their messages are set aside until create_queue names their number. The caller holds the lock.
 */
#ifndef LNFQ_UNCLAIMED_H
#define LNFQ_UNCLAIMED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "forward.h"

/* A message of a packet, and how it came. */
struct lnfq_unclaimed {
    uint16_t number;
    uint32_t id;
    const unsigned char *bytes;
    size_t size;
    uint64_t epoch;
    bool foreign;
};

/* Sets a message aside that no queue takes, unless the number's queue is gone. It counts as
 * orphaned until it is claimed. Without memory the packet is dropped. */
void lnfq_unclaimed_add(lnfq_handle *handle, const struct lnfq_unclaimed *message);

/* Puts a number's messages in front of what the next dispatch finds. */
void lnfq_unclaimed_claim(lnfq_handle *handle, uint16_t number);

/* Throws a number's messages away: they are of an earlier binding. */
void lnfq_unclaimed_forget(lnfq_handle *handle, uint16_t number);

#endif
