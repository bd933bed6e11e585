/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel's own table of queues, /proc/net/netfilter/nfnetlink_queue, of the calling thread's
 * network namespace. Root in the initial user namespace may read it. No state.
 */
#include "nfq.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define TABLE "/proc/thread-self/net/netfilter/nfnetlink_queue"

/* The number that a line goes on with; false if there is none. */
static bool
next_number(char **line, unsigned long *number)
{
    char *end;

    errno = 0;
    *number = strtoul(*line, &end, 10);
    if (end == *line || errno != 0) {
        return false;
    }
    *line = end;
    return true;
}

bool
lnfq_status_owner(uint16_t queue, uint32_t *port)
{
    FILE *table = fopen(TABLE, "re");
    char buffer[128];
    bool found = false;

    if (table == NULL) {
        return false;
    }
    while (!found && fgets(buffer, sizeof(buffer), table) != NULL) {
        char *line = buffer;
        unsigned long number, owner;

        found = next_number(&line, &number) && number == queue && next_number(&line, &owner);
        if (found) {
            *port = (uint32_t)owner;
        }
    }
    (void)fclose(table);
    return found;
}
