/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel's table of queues, for a handle's own; see table.h.
 */
#include "table.h"

#include <errno.h>
#include <string.h>

#include "bound.h"
#include "handle.h"
#include "netns.h"
#include "queue.h"
#include "status.h"
#include "transport.h"

/* A queue's line, looked for in another thread's namespace. */
struct line {
    uint16_t number;
    struct lnfq_status *status;
};

static int
find_line(void *argument)
{
    const struct line *line = argument;

    return lnfq_status_find(line->number, line->status);
}

/* Returns 0 or an errno: ESRCH where nobody has bound the number. */
static int
find(const lnfq_queue *queue, struct lnfq_status *status)
{
    struct line line = {queue->number, status};

    return lnfq_netns_run_beside(queue->handle->fd, find_line, &line);
}

bool
lnfq_table_status(const lnfq_queue *queue, struct lnfq_status *status)
{
    uint32_t port;

    return lnfq_transport_port(queue->handle->fd, &port) == 0 && find(queue, status) == 0
           && status->port == port;
}

bool
lnfq_table_is_free(const lnfq_queue *queue)
{
    struct lnfq_status status;
    uint32_t port;

    return lnfq_transport_port(queue->handle->fd, &port) == 0 && find(queue, &status) == ESRCH;
}

/* The numbers that are bound on a handle's socket. */
struct list {
    lnfq_handle *handle;
    uint32_t port;
    unsigned char *numbers;
};

static void
mark_number(const struct lnfq_status *status, void *argument)
{
    struct list *list = argument;

    if (status->port == list->port && lnfq_bound_find(list->handle, status->number) == NULL) {
        list->numbers[status->number / CHAR_BIT] |=
            (unsigned char)(1u << status->number % CHAR_BIT);
    }
}

static int
mark_numbers(void *argument)
{
    return lnfq_status_each(mark_number, argument);
}

int
lnfq_table_list(lnfq_handle *handle, unsigned char numbers[LNFQ_TABLE_NUMBERS])
{
    struct list list = {.handle = handle, .numbers = numbers};
    int error = lnfq_transport_port(handle->fd, &list.port);

    memset(numbers, 0, LNFQ_TABLE_NUMBERS);
    return error != 0 ? error : lnfq_netns_run_beside(handle->fd, mark_numbers, &list);
}
