/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A handle: one netlink socket, and everything that belongs to it.
 *
 * Its lock (lock.h) protects the handle, its queues and the verdicts of their packets. While a
 * thread holds it, no Python code runs, no object is made or destroyed, and nobody waits. A thread
 * that finds it taken releases the GIL before it waits. A destructor never waits for it (packet.c).
 * In free-threaded Python, "holding the GIL" means here that the thread is attached to the
 * interpreter. The garbage collector looks at objects without a lock, and runs only while no other
 * thread is attached.
 */
#ifndef LNFQ_HANDLE_H
#define LNFQ_HANDLE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backlog.h"
#include "counters.h"
#include "descriptors.h"
#include "forward.h"
#include "hands.h"
#include "keeper.h"
#include "kept_pool.h"
#include "mutex.h"
#include "name.h"
#include "outbox.h"
#include "slot.h"
#include "state.h"

/* What is counted since `open`; tuples.py says what each counter means. */
struct lnfq_stats {
#define LNFQ_COUNTER(name) uint64_t name;
    LNFQ_COUNTERS(LNFQ_COUNTER)
#undef LNFQ_COUNTER
};

/* What the last binding of a queue number has left behind. */
struct lnfq_history {
    uint32_t received; /* all ids from 1 up to this one were received; 0: that is not known */
    bool left;         /* messages may be in a reader's hands */
    bool bound;        /* it was bound here */
};

struct lnfq_handle {
    PyObject_HEAD
    lnfq_state *state;
    int fd;
    int wake_fd;  /* a pipe's end: readable while `unsent`, and once the handle is closed */
    int waker_fd; /* the other end */
    struct lnfq_file file; /* what they were on when they were opened */
    struct lnfq_file wake_file;
    bool forked;       /* this is a child of the process that opened it, whose queues they are */
    bool kernel;       /* a netlink socket: an answer is there when the request's send returns */
    bool patient;      /* behind the descriptor is a program that reads all: see peer.c */
    int rcvbuf;        /* then: the receive buffer's size, which that program counts */
    bool more;         /* then: it has more for us than the pair has room for */
    uint32_t port;     /* in its markers: others' on the same socket have another one */
    lnfq_handle *next; /* on the list of fork.c, which protects these two */
    lnfq_handle **link;
    struct lnfq_mutex lock;
    struct lnfq_mutex receiving; /* see reader.c */

    /* The rest is protected by the lock, except for what is atomic. */
    unsigned int waiters; /* threads that wait on the descriptors; the last one closes them */
    lnfq_queue **queues;  /* bound, sorted by number; each a strong reference */
    size_t queue_count;
    size_t queue_capacity;
    struct lnfq_history *history; /* of each queue number, since `open` */
    lnfq_queue *leaving;          /* those that are being unbound, borrowed */
    struct lnfq_outbox outbox;
    bool autoflush;     /* verdicts given outside of callbacks are sent at once */
    bool held;          /* such a verdict waits */
    bool replaced;      /* a verdict was too large to be sent, and nobody was told yet */
    int64_t hold_limit; /* nanoseconds after `hold_start` in which it may; -1: for ever */
    int64_t hold_start; /* when verdicts were last sent, or the limit was set */
    PyObject *on_held;  /* strong, NULL for None */
    PyObject *on_unsent;
    PyObject *on_close;
    PyObject *on_verdict_error;
    struct lnfq_keeper keeper;
    struct lnfq_name names[LNFQ_NAMES]; /* a device's place is its index modulo their number */
    struct lnfq_backlog backlog;        /* messages that were set aside */
    struct lnfq_backlog unclaimed;      /* those of numbers that nobody has created yet */
    struct lnfq_kept_pool kept_pool;
    struct lnfq_awaited *awaited;
    unsigned char *scratch;     /* one datagram, while an answer is awaited */
    struct lnfq_inlets *inlets; /* for that one */
    bool adopted;               /* other processes may read the descriptor */
    bool shared;                /* another one goes on doing so */
    bool exposed;               /* others know the descriptor, and may read it */
    bool limited;               /* receiving on it ends after a while: reader.c */
    bool foreign;               /* somebody has handed in messages that were read elsewhere */
    bool unheard;               /* that verdicts were refused may stand in undispatched messages */
    bool overran;               /* messages were lost, and a report may be among them: confirm.c */
    bool quiet;                 /* the kernel does not say when they are */
    bool watching;              /* ids may be missing: see missing.h */
    bool blind;                 /* the kernel's table can't be read */
    unsigned int look_in;       /* it is looked at in so many calls that receive */
    unsigned int look_step;     /* and then in so many */
    uint64_t unsure; /* verdicts that may find nothing, and no answer has said that they did */
    bool drained;    /* the last receiving left nothing */
    bool rcvbuf_set; /* somebody has set the receive buffer */
    bool marker_wanted;
    uint32_t seq;
    struct lnfq_hands hands;
    uint64_t epoch; /* grows when a queue is destroyed: a message belongs to no younger one */
    struct lnfq_stats stats;

    _Atomic bool closed;
    _Atomic bool unsent;            /* what should have been sent could not be */
    _Atomic bool unsettled;         /* a queue may be: see takeover.h */
    _Atomic size_t datagram_size;   /* how long a message may become; grows under the lock */
    _Atomic unsigned int expelling; /* calls that keep readers out of a system call */
    _Atomic unsigned int readers;   /* calls of `process` and `handle_packet` that run */
    /* To be used again: */
    _Atomic(lnfq_batch *) spare;     /* the buffers of `process` */
    _Atomic(lnfq_slot *) spare_slot; /* one that borrows; strong */
    _Atomic(lnfq_packet *) blank;    /* strong */
    _Atomic(struct lnfq_kept *) debts;
    _Atomic(struct lnfq_refusal *) refusals; /* that nobody has been told of; newest first */
};

/* A handle that is closed as yet; NULL with an exception. */
lnfq_handle *lnfq_handle_new(lnfq_state *state);

/* In a child of fork: there it is closed, and the thread that may hold its lock does not exist. */
static inline bool
lnfq_handle_forked(const lnfq_handle *handle)
{
    return handle->forked;
}

/* 0, or -1 with RuntimeError naming the call, in a child of fork. */
int lnfq_handle_check_forked(const lnfq_handle *handle, const char *call);

/* The same, and ClosedError where the handle is closed. */
int lnfq_handle_check(lnfq_handle *handle, const char *call);

/* Raises that ClosedError; returns -1. */
int lnfq_handle_raise_closed(const lnfq_handle *handle, const char *call);

#endif
