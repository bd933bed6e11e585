/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel's own table of queues, /proc/net/netfilter/nfnetlink_queue, of the calling thread's
 * network namespace. The root of that namespace's user namespace may read it, if there was one when
 * the network namespace was made. There is no state.
 */
#include "status.h"

#include <dirent.h>
#include <errno.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "enums.h"
#include "error.h"
#include "netns.h"
#include "remedy.h"
#include "state.h"
#include "transport.h"
#include "tuples.h"

#define TABLE "/proc/thread-self/net/netfilter/nfnetlink_queue"

/* The numbers of a line, in its order. */
enum column {
    COLUMN_QUEUE,
    COLUMN_PORTID,
    COLUMN_WAITING,
    COLUMN_COPY_MODE,
    COLUMN_COPY_RANGE,
    COLUMN_QUEUE_DROPPED,
    COLUMN_USER_DROPPED,
    COLUMN_ID_SEQUENCE,
    COLUMNS,
};

/* Reads the next line; false at the end. */
static bool
read_line(FILE *table, uint32_t numbers[COLUMNS])
{
    char line[256];
    char *at = line;

    if (fgets(line, sizeof(line), table) == NULL) {
        return false;
    }
    for (int i = 0; i < COLUMNS; i++) {
        numbers[i] = (uint32_t)strtoul(at, &at, 10);
    }
    return true;
}

int
lnfq_status_each(void (*function)(const struct lnfq_status *status, void *argument), void *argument)
{
    FILE *table = fopen(TABLE, "re");
    uint32_t numbers[COLUMNS];

    if (table == NULL) {
        return errno;
    }
    while (read_line(table, numbers)) {
        const struct lnfq_status status = {
            .number = (uint16_t)numbers[COLUMN_QUEUE],
            .port = numbers[COLUMN_PORTID],
            .waiting = numbers[COLUMN_WAITING],
            .user_dropped = numbers[COLUMN_USER_DROPPED],
            .last_id = numbers[COLUMN_ID_SEQUENCE],
        };

        function(&status, argument);
    }
    (void)fclose(table);
    return 0;
}

/* The number that is looked for, and its line. */
struct search {
    uint16_t queue;
    struct lnfq_status *status;
    bool found;
};

static void
compare(const struct lnfq_status *status, void *argument)
{
    struct search *search = argument;

    if (status->number == search->queue) {
        *search->status = *status;
        search->found = true;
    }
}

int
lnfq_status_find(uint16_t queue, struct lnfq_status *status)
{
    struct search search = {.queue = queue, .status = status};
    int error = lnfq_status_each(compare, &search);

    return error == 0 && !search.found ? ESRCH : error;
}

/* Whether the descriptor is a netfilter socket of that port id, in the thread's namespace. */
static bool
has_port(int fd, uint32_t port)
{
    uint32_t its_port;
    int protocol;

    return lnfq_transport_port(fd, &its_port) == 0 && its_port == port
           && lnfq_transport_get_option(fd, SOL_SOCKET, SO_PROTOCOL, &protocol) == 0
           && protocol == NETLINK_NETFILTER && lnfq_netns_is_ours(fd);
}

bool
lnfq_status_is_own(uint32_t port)
{
    DIR *descriptors = opendir("/proc/thread-self/fd");
    struct dirent *entry;
    bool found = false;

    if (descriptors == NULL) {
        return false;
    }
    while (!found && (entry = readdir(descriptors)) != NULL) {
        char *end;
        long fd = strtol(entry->d_name, &end, 10);

        found = *end == '\0' && has_port((int)fd, port);
    }
    (void)closedir(descriptors);
    return found;
}

static PyObject *
make_status(lnfq_state *state, const uint32_t numbers[COLUMNS])
{
    PyObject *values[COLUMNS];

    for (int i = 0; i < COLUMNS; i++) {
        values[i] = i == COLUMN_COPY_MODE
                        ? lnfq_enums_member(state, LNFQ_ENUM_COPY_MODE, numbers[i])
                        : PyLong_FromUnsignedLong(numbers[i]);
    }
    return lnfq_tuples_make(state, LNFQ_TUPLE_QUEUE_STATUS, values, COLUMNS);
}

/* Appends a line to the list; 0, or -1. */
static int
append_status(lnfq_state *state, PyObject *list, const uint32_t numbers[COLUMNS])
{
    PyObject *status = make_status(state, numbers);
    int result = status != NULL ? PyList_Append(list, status) : -1;

    Py_XDECREF(status);
    return result;
}

PyObject *
lnfq_status_list(lnfq_state *state)
{
    FILE *table = fopen(TABLE, "re");
    uint32_t numbers[COLUMNS];
    PyObject *list;

    if (table == NULL) {
        lnfq_error_raise(errno, lnfq_remedy_status(errno), "queue_status()");
        return NULL;
    }
    list = PyList_New(0);
    while (list != NULL && read_line(table, numbers)) {
        if (append_status(state, list, numbers) < 0) {
            Py_CLEAR(list);
        }
    }
    (void)fclose(table);
    return list;
}
