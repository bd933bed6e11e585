/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel's table of queues, for those that are bound on a handle's socket, also in another
 * namespace than the thread's. The caller holds the lock and not the GIL.
 */
#ifndef LNFQ_TABLE_H
#define LNFQ_TABLE_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "forward.h"

struct lnfq_status;

/* A bit for each queue number. */
#define LNFQ_TABLE_NUMBERS ((UINT16_MAX + 1) / CHAR_BIT)

/* What the table says of a queue; false where that can't be read. */
bool lnfq_table_status(const lnfq_queue *queue, struct lnfq_status *status);

/* Whether the table says that nobody has bound a number; false where that can't be read. */
bool lnfq_table_is_free(const lnfq_queue *queue);

/* Sets the bits of the numbers that are bound on the socket and that no queue here has. Returns 0
 * or an errno. */
int lnfq_table_list(lnfq_handle *handle, unsigned char numbers[LNFQ_TABLE_NUMBERS]);

#endif
