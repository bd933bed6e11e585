/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A queue: one bound number. The handle's lock protects the fields that are named below.
 */
#ifndef LNFQ_QUEUE_H
#define LNFQ_QUEUE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "forward.h"
#include "kept.h"
#include "losses.h"
#include "nested.h"
#include "pending.h"

struct lnfq_queue {
    PyObject_HEAD
    lnfq_handle *handle; /* strong */
    uint16_t number;
    _Atomic uint32_t default_verdict;

    /* Protected by the handle's lock. */
    PyObject *callback; /* strong; NULL once destroyed */
    bool bound;
    uint32_t maxlen;   /* how many packets may wait in the kernel */
    bool grows_rcvbuf; /* the receive buffer follows maxlen */
    struct lnfq_pending pending;
    struct lnfq_losses losses;
    lnfq_packet *active;                  /* packets whose callback runs */
    struct lnfq_kept *kept, *kept_newest; /* packets that wait for their verdict after it */
    struct lnfq_batches *batches;         /* that other readers may hold packets of; see there */
    lnfq_queue *next_leaving;             /* on its handle's list while it is being unbound */
    bool all_received;                    /* nobody else can hold a message of it then */
    bool nothing_left;                    /* meanwhile the kernel said so of it */

    /* For a queue that was taken over: see takeover.h. Protected by the handle's lock. */
    bool shared;      /* another process goes on reading */
    bool unsettled;   /* what others have read and not answered waits for its verdict */
    bool counted;     /* `last_id` is known */
    uint32_t last_id; /* all ids up to it were read by others, but for those received here */
    struct lnfq_optional unanswered; /* that verdict, if it is not the default */
    bool detached;                   /* it was left to another process */
    uint64_t turn; /* of hands.h, since which it can be told what is unsettled; 0: it can't yet */

    /* For a number that is bound again: see claim.h. Protected by the handle's lock. */
    uint64_t born;       /* the handle's epoch from which on messages are this queue's */
    bool successor;      /* a reader may hold messages of the number's earlier binding */
    uint32_t received;   /* and none of those with ids up to this one */
    bool silent;         /* it has had no mode, or no room: nothing can have been queued */
    bool fenced;         /* a reader may hold older messages until it has read the marker */
    uint32_t fence;      /* the marker's sequence number */
    struct lnfq_doubts { /* ids of messages that may have been this binding's, ascending */
        uint32_t *ids;
        size_t count, capacity;
        uint64_t turn;  /* of hands.h, in which some had older packets than `known`; 0: not noted */
        uint32_t known; /* an id up to which all are this binding's too */
    } doubts;

    _Atomic int slow; /* how many callbacks more count as slow: see dispatch.c */
};

/* Whether it is bound, read under the lock. */
bool lnfq_queue_bound(lnfq_queue *queue);

/* Raises ClosedError; returns NULL. */
PyObject *lnfq_queue_raise_destroyed(const lnfq_queue *queue, const char *call);

#endif
