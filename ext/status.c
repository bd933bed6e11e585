/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel's own table of queues, /proc/net/netfilter/nfnetlink_queue, of the calling thread's
 * network namespace. Its root may read it, if it had one when it was made. No state.
 */
#include "nfq.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

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

bool
lnfq_status_owner(uint16_t queue, uint32_t *port)
{
    FILE *table = fopen(TABLE, "re");
    uint32_t numbers[COLUMNS];
    bool found = false;

    if (table == NULL) {
        return false;
    }
    while (!found && read_line(table, numbers)) {
        found = numbers[COLUMN_QUEUE] == queue;
        *port = numbers[COLUMN_PORTID];
    }
    (void)fclose(table);
    return found;
}

static PyObject *
make_status(lnfq_state *state, const uint32_t numbers[COLUMNS])
{
    PyObject *values[COLUMNS];

    for (int i = 0; i < COLUMNS; i++) {
        values[i] = i == COLUMN_COPY_MODE ? lnfq_enum_member(state, LNFQ_ENUM_COPY_MODE, numbers[i])
                                          : PyLong_FromUnsignedLong(numbers[i]);
    }
    return lnfq_tuple_make(state, LNFQ_TUPLE_QUEUE_STATUS, values, COLUMNS);
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

static const char *
explain(int error)
{
    switch (error) {
    case EACCES:
    case EPERM:
        return "only root may read the kernel's table, and under 'unshare -rn' only the real root";
    case ENOENT:
        return "the kernel may lack nfnetlink_queue, which 'modprobe nfnetlink_queue' loads";
    default:
        return "";
    }
}

PyObject *
lnfq_status_list(lnfq_state *state)
{
    FILE *table = fopen(TABLE, "re");
    uint32_t numbers[COLUMNS];
    PyObject *list;

    if (table == NULL) {
        lnfq_error_raise(errno, explain(errno), "queue_status()");
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
