/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A packet: the message that it came in, and its verdict.
 */
#ifndef LNFQ_PACKET_H
#define LNFQ_PACKET_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "forward.h"
#include "index.h"
#include "kept.h"
#include "slot.h"
#include "state.h"
#include "verdict.h"

enum lnfq_packet_state {
    LNFQ_PACKET_ACTIVE,   /* its callback runs: a verdict is recorded */
    LNFQ_PACKET_KEPT,     /* its callback is over: a verdict is executed */
    LNFQ_PACKET_EXECUTED, /* it has had its verdict */
};

struct lnfq_packet {
    PyObject_HEAD
    lnfq_queue *queue; /* strong; NULL while it is blank */

    /* Protected by the packet's critical section once others may see it. */
    lnfq_slot *slot; /* strong: holds the message; NULL while it is blank */
    const unsigned char *bytes;

    /* Protected by the handle's lock. */
    struct lnfq_kept *kept; /* there while it is kept */
    enum lnfq_packet_state state;
    bool in_callback; /* and so on its queue's list */
    bool recorded;    /* `verdict` is set */
    struct lnfq_verdict verdict;

    /* Does not change. Its id stands first: what a verdict looks at stands together, because of
     * many packets that are kept none is in the processor's caches. */
    struct lnfq_index index;

    /* Protected by the handle's lock, while it is on the list. */
    lnfq_packet *active_next;
    lnfq_packet **active_link; /* what points at it */
};

/* A blank packet: nothing in it means anything until a message is read into it. */
lnfq_packet *lnfq_packet_new(lnfq_state *state);

/* Makes a packet that nobody else references, and that has its verdict, blank again. */
void lnfq_packet_blank(lnfq_packet *packet);

/* Makes a packet that outlives its callback independent of the buffer that it came in. 0 or -1. */
int lnfq_packet_copy(lnfq_packet *packet);

/* Exports the payload, read-only, in the name of the slot: whoever holds the export holds the
 * bytes, and not the packet. 0 or -1; see PyObject_GetBuffer. */
int lnfq_packet_export(lnfq_packet *packet, Py_buffer *buffer, int flags);

/* For the packet's destructor: releases what belongs to the verdict, and gives a kept packet its
 * default. Never waits. */
void lnfq_packet_end(lnfq_packet *packet);

/* Lets go of what few verdicts have: the owner of a payload, and options. */
static inline void
lnfq_packet_let_go(PyObject *payload, struct lnfq_attributes *options)
{
    if (options != NULL) {
        free(options);
    }
    Py_XDECREF(payload);
}

/* An attribute of 32 bits, 0 where it is absent. */
uint32_t lnfq_packet_number(lnfq_packet *packet, unsigned int attribute);

uint32_t lnfq_packet_original_length(lnfq_packet *packet);

/* Whether the payload is shorter than the packet. */
bool lnfq_packet_truncated(lnfq_packet *packet);

#endif
