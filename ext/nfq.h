/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the parts of the extension that know Python share. Each section is implemented by the file
 * that it names.
 *
 * The handle's lock protects the handle, its queues and the verdicts of their packets. While a
 * thread holds it, no Python code runs, no object is created or destroyed, and nobody waits: a
 * thread that finds it taken gives up the GIL first (lnfq_handle_lock), a destructor never waits
 * for it at all (packet.c: packet_forget). Without the GIL, in free-threaded Python, what is said
 * of it here is said of the thread's being attached to the interpreter: the garbage collector,
 * which looks at objects without a lock, runs only while nobody else is.
 */
#ifndef LNFQ_NFQ_H
#define LNFQ_NFQ_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <netinet/in.h> /* before the kernel's, which then leaves it its names */

#include <linux/netfilter.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "backlog.h"
#include "losses.h"
#include "message.h"
#include "outbox.h"
#include "pending.h"
#include "reference.h"
#include "request.h"
#include "transport.h"
#include "verdict.h"

typedef struct lnfq_handle lnfq_handle;
typedef struct lnfq_queue lnfq_queue;
typedef struct lnfq_packet lnfq_packet;
typedef struct lnfq_slot lnfq_slot;
typedef struct lnfq_batch lnfq_batch;

/* ---- module.c ---- */

/* The enums whose members are returned. */
enum lnfq_enum {
    LNFQ_ENUM_VERDICT,
    LNFQ_ENUM_HOOK,
    LNFQ_ENUM_SKB_INFO,
    LNFQ_ENUM_COPY_MODE,
    LNFQ_ENUMS,
};

/* The named tuples that are returned. */
enum lnfq_tuple {
    LNFQ_TUPLE_HANDLE_STATS,
    LNFQ_TUPLE_QUEUE_STATUS,
    LNFQ_TUPLE_VLAN,
    LNFQ_TUPLE_CONNTRACK,
    LNFQ_TUPLES,
};

typedef struct {
    PyTypeObject *handle_type;
    PyTypeObject *queue_type;
    PyTypeObject *packet_type;
    PyTypeObject *slot_type;
    PyTypeObject *view_type;
    PyObject *closed_error;
    PyObject *malformed_error;
    PyObject *verdict_error;
    _Atomic(PyObject *) enums[LNFQ_ENUMS];   /* tuples of members; NULL until one is asked for */
    _Atomic(PyObject *) tuples[LNFQ_TUPLES]; /* types; NULL until one is made */
} lnfq_state;

/* The table or type in `place`: what is there, or `made`, which it steals; NULL if that is NULL.
 * Threads may come at the same time, and all get the first one's. Borrowed. */
PyObject *lnfq_module_share(_Atomic(PyObject *) *place, PyObject *made);

/* ---- arguments.c ---- */

#define LNFQ_RANGE_DEFAULT 0xffff

/*
 * Sorts positional and keyword arguments into `values`, borrowed, in the order of `names`; those
 * that were not passed are left alone. The first `required` must be there; keywords only from
 * `positional` on. Returns 0, or -1 with TypeError.
 */
int lnfq_parse_arguments(const char *call, const char *const *names, Py_ssize_t required,
                         Py_ssize_t positional, PyObject *const *args, Py_ssize_t nargs,
                         PyObject *kwnames, PyObject **values);

/* Raises `error`, a TypeError or the like unless it is ValueError: the rule that the format says,
 * and which value breaks it. */
void lnfq_refuse(PyObject *error, PyObject *object, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Reads an int in lowest..highest. Returns 0, or -1 with TypeError or ValueError naming `what`. */
int lnfq_parse_int(PyObject *object, const char *what, int64_t lowest, int64_t highest,
                   int64_t *value);

/* Whether an optional argument was passed, and is not None. */
static inline bool
lnfq_given(PyObject *object)
{
    return object != NULL && object != Py_None;
}

/* Reads a number of 32 bits that may be left out: then it stays as it is. 0, or -1. */
int lnfq_parse_optional(PyObject *object, const char *what, struct lnfq_optional *number);

/* Reads a descriptor, or what has a fileno() method; `kinds` says what else `what` may be. Returns
 * it, or -1 with an exception. */
int lnfq_parse_descriptor(PyObject *object, const char *what, const char *kinds);

/* Reads a verdict as an int; ValueError for one that user space may not give. 0, or -1. */
int lnfq_parse_verdict(PyObject *object, const char *what, uint32_t *verdict);

/* Reads the arguments (number, bypass=False) of a call, as the verdict that passes a packet on. */
int lnfq_parse_queue_nr(const char *call, PyObject *const *args, Py_ssize_t nargs,
                        PyObject *kwnames, uint32_t *verdict);

/* ---- callback.c ---- */

/* Whether an object can be called, and then does something. 0, or -1 with TypeError. */
int lnfq_callback_check(PyObject *object, const char *what);

/* Takes what a callback has returned, and returns it; NULL with TypeError for an awaitable, which
 * is closed. */
PyObject *lnfq_callback_result(PyObject *callback, PyObject *result);

/* ---- enums.c ---- */

/* The enum's member of that value, or an int where it has none. */
PyObject *lnfq_enum_member(lnfq_state *state, enum lnfq_enum which, uint32_t value);

/* ---- tuples.c ---- */

/* A named tuple of the values, which it steals; NULL among them stands for an exception. */
PyObject *lnfq_tuple_make(lnfq_state *state, enum lnfq_tuple which, PyObject *const *values,
                          size_t count);

/* ---- error.c: the one funnel from errno to exceptions ---- */

/* The OSError of `error`: "operation: strerror: remedy"; `remedy` may be empty. NULL with another
 * exception. */
PyObject *lnfq_error_new(int error, const char *remedy, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Raises it. */
void lnfq_error_raise(int error, const char *remedy, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Takes the raised exception away; NULL where there is none. */
PyObject *lnfq_error_take(void);

/* What has happened to a handle's descriptor, if its errors tell; else nothing. */
const char *lnfq_error_descriptor(int error);

/* Raises an exception that lnfq_error_take took; steals the reference. */
void lnfq_error_restore(PyObject *exception);

/* Whether it is no Exception (KeyboardInterrupt, SystemExit, GreenletExit): it ends what it meets.
 */
bool lnfq_error_leaves(PyObject *exception);

/* Tells the unraisable hook of the raised exception, and returns 0; -1 if it leaves: then it stays
 * raised. */
int lnfq_error_tell(PyObject *where);

/*
 * Keeps the raised exception in `first`. If there is one already, the unraisable hook is told of
 * the raised one; of the earlier one where only the raised one leaves. Returns whether it leaves.
 */
bool lnfq_error_collect(PyObject **first, PyObject *where);

/* ---- slot.c and view.c: who owns the bytes that packets look into ---- */

struct lnfq_slot {
    PyObject_VAR_HEAD
    unsigned char *bytes;
    Py_buffer borrowed; /* a caller's buffer; obj is NULL where the bytes are the slot's own */
    unsigned char own[];
};

extern PyType_Spec lnfq_slot_spec;
extern PyType_Spec lnfq_view_spec;

/* A slot with `size` bytes of its own. */
lnfq_slot *lnfq_slot_new(lnfq_state *state, size_t size);

/* A slot that looks into a caller's buffer and holds it. */
lnfq_slot *lnfq_slot_borrow(lnfq_handle *handle, PyObject *buffer);

/* Takes a slot that was borrowed; if nobody else looks into it, the buffer is released. */
void lnfq_slot_give_back(lnfq_handle *handle, lnfq_slot *slot);

/* More than one object holds it from now on, or may: the garbage collector has to know it. */
void lnfq_slot_track(lnfq_slot *slot);

/* For the traversal of what holds a slot, which may be NULL, and holds it alone unless it is
 * tracked. */
int lnfq_slot_visit(lnfq_slot *slot, visitproc visit, void *arg);

/* A read-only memoryview of a part of the slot, which it holds. */
PyObject *lnfq_view_new(lnfq_state *state, lnfq_slot *slot, const unsigned char *start,
                        size_t length);

/* ---- handle.c ---- */

struct lnfq_stats {
    uint64_t packets;
    uint64_t verdicts;
    uint64_t sends;
    uint64_t receives;
    uint64_t overruns;
    uint64_t truncated;
    uint64_t orphaned;
    uint64_t verdict_errors;
    uint64_t defaulted;
};

/* What the last binding of a queue number has left behind. */
struct lnfq_history {
    uint32_t received; /* all ids from 1 up to this one were received; 0: that is not known */
    bool left;         /* messages may be in a reader's hands */
};

/*
 * A kept packet, as its queue knows it. It outlives a packet whose destructor finds the lock taken:
 * then it is the debt of a default verdict. Protected by the handle's lock, but for `next_debt`.
 */
struct lnfq_kept {
    struct lnfq_kept *previous, *next; /* on its queue's list, in the order of their ids */
    struct lnfq_kept *next_debt;
    uint32_t id;
    uint32_t verdict; /* the batch verdict that covered it */
    uint16_t number;  /* of its queue, while it is on the list */
    bool listed;      /* it waits for its verdict */
    bool covered;
};

/* A verdict that the kernel refused. */
struct lnfq_refusal {
    struct lnfq_refusal *next;
    struct lnfq_answer answer;
};

/* A device's name, as it was a moment ago. */
struct lnfq_name {
    uint32_t index; /* 0 where there is none */
    int64_t time;
    PyObject *name; /* strong; None where there is no such device */
};

#define LNFQ_NAMES 8

/* A configuration request that awaits its answer. */
struct lnfq_awaited {
    struct lnfq_awaited *next;
    uint32_t seq;
    uint32_t first_seq; /* of the message that its datagram starts with */
    bool answered;
    int error;
};

/* Which file a descriptor is on: other code may close it, and its number become another file's. */
struct lnfq_file {
    dev_t device;
    ino_t inode;
};

struct lnfq_handle {
    PyObject_HEAD
    lnfq_state *state;
    int fd;
    int wake_fd;           /* an eventfd: readable once the handle is closed */
    struct lnfq_file file; /* what they were on when they were opened */
    struct lnfq_file wake_file;
    bool forked;       /* this is a child of the process that opened it, whose the queues are */
    bool kernel;       /* a netlink socket: an answer is there when the request's send returns */
    bool patient;      /* behind the descriptor is a program that reads all: see peer.c */
    int rcvbuf;        /* then: the receive buffer's size, which that program counts */
    bool more;         /* then: it has more for us than the pair has room for */
    lnfq_handle *next; /* on the list of fork.c, which protects these two */
    lnfq_handle **link;
    pthread_mutex_t lock;

    /* The rest is protected by the lock, but for what is atomic. */
    bool closed;
    unsigned int waiters; /* threads that wait on the descriptors; the last one closes them */
    lnfq_queue **queues;  /* bound, sorted by number; each a strong reference */
    size_t queue_count;
    size_t queue_capacity;
    struct lnfq_history *history; /* of each queue number, since `open` */
    lnfq_queue *leaving;          /* the one that is being unbound, borrowed */
    struct lnfq_outbox outbox;
    bool autoflush;    /* verdicts given outside of callbacks are sent at once */
    bool held;         /* such a verdict waits */
    bool unsent;       /* what should have been sent could not be */
    bool replaced;     /* a verdict was too large to be sent, and nobody was told yet */
    PyObject *on_held; /* strong, NULL for None */
    PyObject *on_close;
    PyObject *on_verdict_error;
    struct lnfq_name names[LNFQ_NAMES]; /* a device's place is its index modulo their number */
    struct lnfq_backlog backlog;        /* messages that were set aside */
    struct lnfq_awaited *awaited;
    unsigned char *scratch;     /* one datagram, while an answer is awaited */
    struct lnfq_inlets *inlets; /* for that one */
    lnfq_batch *spare;          /* `process` keeps its buffers here */
    bool adopted;               /* other processes may read the descriptor */
    bool exposed;               /* others know the descriptor, and may read it */
    bool foreign;               /* somebody has handed in messages that were read elsewhere */
    bool overran;               /* messages were lost since the buffer was last found empty */
    bool quiet;                 /* the kernel does not say when they are */
    bool watching;              /* ids may be missing: `losses` is to tell which were lost */
    struct lnfq_losses losses;
    bool drained;    /* the last receiving left nothing */
    bool rcvbuf_set; /* somebody has set the receive buffer */
    uint32_t seq;
    uint64_t epoch; /* grows when a queue is destroyed: a message belongs to no younger one */
    bool marker_wanted;
    bool nothing_left; /* the kernel said so of the queue that is being destroyed */
    struct lnfq_stats stats;

    _Atomic size_t datagram_size;    /* how long a message may become; grows under the lock */
    _Atomic unsigned int readers;    /* calls of `process` and `handle_packet` that run */
    _Atomic(lnfq_slot *) spare_slot; /* a borrowing slot to be used again; strong */
    _Atomic(lnfq_packet *) blank;    /* a packet object to be used again; strong */
    _Atomic(struct lnfq_kept *) debts;
    _Atomic(struct lnfq_refusal *) refusals; /* that nobody has been told of; newest first */
};

extern PyType_Spec lnfq_handle_spec;

/* A handle that is closed as yet, for open.c. */
lnfq_handle *lnfq_handle_new(lnfq_state *state);

/* Whether this is a child of the process that opened the handle: there it is closed, and nobody
 * else's thread can let go of its lock. */
static inline bool
lnfq_handle_forked(const lnfq_handle *handle)
{
    return handle->forked;
}

/* Whether it is closed, read under the lock. */
bool lnfq_handle_closed(lnfq_handle *handle);

/* 0, or -1 with RuntimeError naming the call, in a child of fork. */
int lnfq_handle_check_forked(const lnfq_handle *handle, const char *call);

/* The same, and ClosedError where the handle is closed. */
int lnfq_handle_check(lnfq_handle *handle, const char *call);

/* Raises that ClosedError; returns -1. */
int lnfq_handle_raise_closed(const lnfq_handle *handle, const char *call);

/* With the lock: a queue is going to copy that much of its packets. */
void lnfq_handle_expect(lnfq_handle *handle, const struct lnfq_config *config);

/* While forks are held off: takes a descriptor that has been opened, or -1. */
void lnfq_handle_take_fd(lnfq_handle *handle, int fd);
void lnfq_handle_take_wake_fd(lnfq_handle *handle, int fd);

/* While forks are held off: closes the descriptors. */
void lnfq_handle_close_descriptors(lnfq_handle *handle);

/* With the lock: closes the descriptors if the handle is closed and nobody waits on them. */
void lnfq_handle_release(lnfq_handle *handle);

/* With the lock: the bound queue of that number, or NULL. */
lnfq_queue *lnfq_handle_find(lnfq_handle *handle, uint16_t number);

/* ---- fork.c ---- */

/* Has children of fork close the handles, from now on. 0 or an errno. */
int lnfq_fork_watch(void);

/* Other threads that fork wait in between: descriptors are opened and closed. */
void lnfq_fork_hold_off(void);
void lnfq_fork_allow(void);

/* A handle is there, and is no more. */
void lnfq_fork_add(lnfq_handle *handle);
void lnfq_fork_remove(lnfq_handle *handle);

/* ---- open.c ---- */

/* Opens a socket, in the namespace that `netns` is a descriptor on, or with -1 in the thread's. */
PyObject *lnfq_handle_open(lnfq_state *state, int netns);

/* On a duplicate of the descriptor. */
PyObject *lnfq_handle_adopt(lnfq_state *state, int fd);

/* ---- lock.c ---- */

/* Takes the lock; gives up the GIL while it has to wait, and never waits for the GIL with it. */
void lnfq_handle_lock(lnfq_handle *handle);

/* Pays the debts, then releases the lock. Callable with and without the GIL. */
void lnfq_handle_unlock(lnfq_handle *handle);

/* Gives up the GIL and takes the lock, for sections that make system calls; and the reverse. One
 * who has the lock and the GIL may give up the latter alone, by PyEval_SaveThread, and leave. */
PyThreadState *lnfq_handle_enter(lnfq_handle *handle);
void lnfq_handle_leave(lnfq_handle *handle, PyThreadState *thread);

/* With the GIL and without the lock: payloads that were sent. */
void lnfq_enclosures_free(struct lnfq_enclosure *enclosure);

/* ---- send.c ---- */

/* With the lock: puts the verdict of a packet that was received in the outbox. 0 or ENOMEM. */
int lnfq_handle_post(lnfq_handle *handle, lnfq_queue *queue, uint32_t id,
                     const struct lnfq_verdict *verdict);

/* With the lock: puts a batch verdict over so many packets that were received, and all others up to
 * an id, in the outbox. 0 or ENOMEM. */
int lnfq_handle_post_batch(lnfq_handle *handle, lnfq_queue *queue, uint64_t count, uint32_t up_to,
                           const struct lnfq_verdict *verdict);

/*
 * With the lock: gives a packet that was received its queue's default verdict, and counts it; sends
 * it by itself without memory, or where what is held has to stay. Returns 0 or an errno: then the
 * packet waits in the kernel until its queue is destroyed, and no batch verdict releases it.
 */
int lnfq_handle_post_default(lnfq_handle *handle, lnfq_queue *queue, uint32_t id);

/* With the lock: sends the default verdict for a packet that the kernel may have, though it was not
 * received. Returns 0 or an errno. */
int lnfq_handle_send_unsure(lnfq_handle *handle, const lnfq_queue *queue, uint32_t id);

/* With the lock: sends the outbox. Returns 0 or an errno. */
int lnfq_handle_send(lnfq_handle *handle);

/* With the lock: what was to be sent and could not be is tried again. */
static inline void
lnfq_handle_resend(lnfq_handle *handle)
{
    if (handle->unsent) {
        (void)lnfq_handle_send(handle);
    }
}

/* Sends the outbox; 0, or -1 with OSError. */
int lnfq_handle_flush(lnfq_handle *handle, const char *call);

/* A verdict was given outside of a callback: sends it, or tells that it is held. 0, or -1. */
int lnfq_handle_send_or_hold(lnfq_handle *handle, const char *call);

/* With the lock: the kernel said that messages were lost. */
static inline void
lnfq_handle_overrun(lnfq_handle *handle)
{
    handle->stats.overruns += 1;
    handle->overran = true;
    handle->watching = true;
}

/* ---- peer.c: with the lock; the GIL is given up while it waits ---- */

/* The receive buffer's size until another one is set: Linux's, whatever this system's is. */
#define LNFQ_PEER_RCVBUF 212992

/* After EAGAIN: waits for room in a pair whose other end is read. Whether there is some now. */
bool lnfq_peer_await_room(lnfq_handle *handle);

/* Sends a message of its own, and waits for room. Returns 0 or an errno. */
int lnfq_peer_send(lnfq_handle *handle, const void *bytes, size_t size);

/* Whether what was just received is the end: the other end is closed. */
bool lnfq_peer_ended(const lnfq_handle *handle, const struct lnfq_inlets *inlets);

/* Until when to wait instead, where nothing is there and the other end has more. */
int64_t lnfq_peer_deadline(const lnfq_handle *handle, int64_t deadline);

/* Notes what a datagram that was received says of there being more. */
void lnfq_peer_note(lnfq_handle *handle, const unsigned char *bytes, size_t length);

/* ---- hook.c: attributes of the handle, too ---- */

/* What a handle calls: the attribute's name, and where in the handle it is. */
struct lnfq_hook {
    const char *name;
    size_t offset;
};

/* Calls a hook without arguments, and lets it go; NULL is none. Nobody is there to take its
 * exception, unless that leaves: then -1, otherwise 0. */
int lnfq_hook_call(PyObject *hook);

/* Takes a hook out of its place, so that it is called once at most. NULL where there is none. */
PyObject *lnfq_hook_take(lnfq_handle *handle, PyObject **hook);

/* The `closure` is the hook. */
PyObject *lnfq_hook_get(PyObject *self, void *closure);
int lnfq_hook_set(PyObject *self, PyObject *value, void *closure);

/* ---- socket_options.c: attributes of the handle ---- */

PyObject *lnfq_handle_get_rcvbuf(PyObject *self, void *closure);
int lnfq_handle_set_rcvbuf(PyObject *self, PyObject *value, void *closure);
PyObject *lnfq_handle_get_no_enobufs(PyObject *self, void *closure);
int lnfq_handle_set_no_enobufs(PyObject *self, PyObject *value, void *closure);

/* With the lock: sets the receive buffer, in bytes. 0 or an errno. */
int lnfq_handle_set_rcvbuf_to(lnfq_handle *handle, int size);

/* With the lock: grows the receive buffer, unless it was set, so that what all queues may hold, and
 * so many packets more, has room in it. */
void lnfq_handle_grow_rcvbuf(lnfq_handle *handle, uint32_t more);

/* ---- queue.c ---- */

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
    lnfq_packet *active;                  /* packets whose callback runs */
    struct lnfq_kept *kept, *kept_newest; /* packets that wait for their verdict after it */
    struct lnfq_batches *batches;         /* that other readers may hold packets of; see there */
    bool fresh;                           /* it had a packet that was read after losses.sample */

    /* A number that is bound anew: see queue.c. Protected by the handle's lock. */
    uint64_t born;       /* the handle's epoch from which on messages are this queue's */
    bool successor;      /* a reader may hold messages of the number's earlier binding */
    uint32_t received;   /* and none of those with ids up to this one */
    bool silent;         /* it has had no mode yet: the kernel can't have queued anything */
    bool fenced;         /* a reader may hold older messages until it has read the marker */
    uint32_t fence;      /* the marker's sequence number */
    struct lnfq_doubts { /* ids of messages that may have been this binding's, ascending */
        uint32_t *ids;
        size_t count, capacity;
    } doubts;

    _Atomic int slow; /* how many callbacks more count as slow: see dispatch.c */
};

extern PyType_Spec lnfq_queue_spec;

/* The packets that a queue holds unless it is told another number. */
#define LNFQ_MAXLEN_DEFAULT 1024

/* Stands for a receive buffer that grows with the queues. */
#define LNFQ_RCVBUF_GROWS (-1)

/* What create_queue is told of a queue. */
struct lnfq_queue_options {
    struct lnfq_config config;
    uint32_t default_verdict;
    int rcvbuf; /* bytes to set, 0 to leave what is there, or LNFQ_RCVBUF_GROWS */
};

PyObject *lnfq_queue_create(lnfq_handle *handle, uint16_t number, PyObject *callback,
                            const struct lnfq_queue_options *options);

/*
 * Executes the verdicts that are recorded, gives what else waits the default and unbinds. Returns 0
 * or an errno; the queue is destroyed in any case. The caller holds a reference.
 */
int lnfq_queue_destroy(lnfq_queue *queue);

/* In a child of fork: the handle, and so its callback, let it go; the parent's stays as it is. */
void lnfq_queue_abandon(lnfq_queue *queue);

/* With the lock: the receive buffer was found empty; before that the kernel had counted so many
 * drops. See losses.h. */
void lnfq_queue_sample(lnfq_handle *handle, uint32_t drops);

/* With the lock: whether a message with that id, received in that epoch, is this binding's.
 * `foreign` says that it was not this handle that received it. If so, it counts as received. */
bool lnfq_queue_owns(lnfq_queue *queue, uint32_t id, uint64_t epoch, bool foreign);

/* ---- verdict_batch.c; with the lock ---- */

/*
 * Gives one verdict to what waits up to an id; `any` says whether there was something. An id that
 * has not been dispatched yet stands for the newest that has: what the kernel queues later must not
 * count as executed. Returns 0 or ENOMEM.
 */
int lnfq_queue_give_batch(lnfq_queue *queue, uint32_t up_to, const struct lnfq_verdict *verdict,
                          bool *any);

/* Whether a packet that is dispatched now has had a batch verdict before, which is returned. */
bool lnfq_queue_covers(lnfq_queue *queue, uint32_t id, uint32_t *verdict);

/* ---- kept.c: packets that wait for their verdict after their callback; with the lock ---- */

/* Puts a packet on its queue's list. */
void lnfq_kept_add(lnfq_queue *queue, struct lnfq_kept *kept);

/* Takes it off the list, where it is on it. */
void lnfq_kept_remove(lnfq_queue *queue, struct lnfq_kept *kept);

/* ---- packet.c ---- */

enum lnfq_packet_state {
    LNFQ_PACKET_ACTIVE,   /* its callback runs: a verdict is recorded */
    LNFQ_PACKET_KEPT,     /* its callback is over: a verdict is executed */
    LNFQ_PACKET_EXECUTED, /* it has had its verdict */
};

struct lnfq_packet {
    PyObject_HEAD
    lnfq_queue *queue; /* strong; NULL while it is blank */
    struct lnfq_index index;

    /* Protected by the packet's critical section once others may see it. */
    lnfq_slot *slot; /* strong: holds the message; NULL while it is blank */
    const unsigned char *bytes;

    /* Protected by the handle's lock. */
    struct lnfq_kept *kept; /* there from when it is kept on */
    enum lnfq_packet_state state;
    bool in_callback; /* and so on its queue's list */
    bool recorded;    /* `verdict` is set */
    struct lnfq_verdict verdict;
    lnfq_packet *active_next;
    lnfq_packet **active_link; /* what points at it */
};

extern PyType_Spec lnfq_packet_spec;

/* A blank packet: nothing in it means anything until a message is read into it. */
lnfq_packet *lnfq_packet_new(lnfq_state *state);

/* Makes a packet that nobody else references, and that has its verdict, blank again. */
void lnfq_packet_blank(lnfq_packet *packet);

/* Makes a packet that outlives its callback independent of the buffer that it came in. 0 or -1. */
int lnfq_packet_copy(lnfq_packet *packet);

/* With the lock: its queue lists it as kept; takes `kept`. */
void lnfq_packet_keep(lnfq_packet *packet, struct lnfq_kept *kept);

/* With the lock: a batch verdict has covered a packet whose callback runs, or is about to. */
void lnfq_packet_cover(lnfq_packet *packet, uint32_t verdict);

/* With the lock: its message is this queue's, and its callback begins. */
void lnfq_packet_activate(lnfq_packet *packet, lnfq_queue *queue);

/* With the lock: its callback is over. */
void lnfq_packet_deactivate(lnfq_packet *packet);

/* With the lock: puts the verdict that is recorded in the outbox, for good. Returns 0 or ENOMEM. */
int lnfq_packet_execute(lnfq_packet *packet);

/* With the lock: the same with its queue's default; nobody can give it another one any more. */
void lnfq_packet_default(lnfq_packet *packet);

/* ---- attributes.c: what a packet says ---- */

/* What a reader looks into: held for it while it runs. */
struct lnfq_content {
    lnfq_state *state;
    const struct lnfq_index *index;
    lnfq_slot *slot;
    const unsigned char *bytes; /* in the slot */
};

/* Makes a Python object of an attribute, whose number is the kernel's. */
typedef PyObject *(*lnfq_reader)(const struct lnfq_content *content, unsigned int attribute);

PyObject *lnfq_packet_read(lnfq_packet *packet, lnfq_reader read, unsigned int attribute);

/* An attribute of 32 bits, 0 where it is absent. */
uint32_t lnfq_packet_number(lnfq_packet *packet, unsigned int attribute);

uint32_t lnfq_packet_original_length(lnfq_packet *packet);

/* Whether the payload is shorter than the packet. */
bool lnfq_packet_truncated(lnfq_packet *packet);

PyObject *lnfq_read_u32(const struct lnfq_content *content, unsigned int attribute);
PyObject *lnfq_read_u32_or_none(const struct lnfq_content *content, unsigned int attribute);
PyObject *lnfq_read_bytes(const struct lnfq_content *content, unsigned int attribute);
PyObject *lnfq_read_bytes_or_none(const struct lnfq_content *content, unsigned int attribute);
PyObject *lnfq_read_hw_addr(const struct lnfq_content *content, unsigned int attribute);
PyObject *lnfq_read_time(const struct lnfq_content *content, unsigned int attribute);
PyObject *lnfq_read_time_pair(const struct lnfq_content *content, unsigned int attribute);
PyObject *lnfq_read_view(const struct lnfq_content *content, unsigned int attribute);
PyObject *lnfq_read_skb_info(const struct lnfq_content *content, unsigned int attribute);
PyObject *lnfq_read_original_length(const struct lnfq_content *content, unsigned int attribute);
PyObject *lnfq_read_truncated(const struct lnfq_content *content, unsigned int attribute);
PyObject *lnfq_read_secctx(const struct lnfq_content *content, unsigned int attribute);
PyObject *lnfq_read_vlan(const struct lnfq_content *content, unsigned int attribute);
PyObject *lnfq_read_conntrack(const struct lnfq_content *content, unsigned int attribute);

/* ---- verdict_arguments.c ---- */

/* Reads a new payload for the packet into `verdict`. 0 or -1. */
int lnfq_parse_payload(lnfq_packet *packet, PyObject *object, const char *what,
                       struct lnfq_verdict *verdict);

#define LNFQ_OPTION_ARGUMENTS 4

/* Reads set_verdict's vlan, ct_mark, ct_labels and l2_header, each of which may be left out, into
 * `verdict`. 0 or -1. */
int lnfq_parse_options(const lnfq_packet *packet, PyObject *const values[LNFQ_OPTION_ARGUMENTS],
                       struct lnfq_verdict *verdict);

/* ---- refusal.c: what the kernel refused ---- */

/* With the lock: counts a refusal, and keeps it until on_verdict_error can be told. */
void lnfq_refusal_add(lnfq_handle *handle, const struct lnfq_answer *answer);

/* Tells on_verdict_error what has been refused since the last time; without one it is forgotten. 0,
 * or -1 with an exception that leaves: then the rest is told the next time. */
int lnfq_refusal_tell(lnfq_handle *handle);

/* ---- name.c ---- */

/* The name of a device of the socket's namespace, or None; NULL with an exception. */
PyObject *lnfq_name_find(lnfq_handle *handle, uint32_t index, const char *call);

/* Lets the names go. */
void lnfq_name_forget(lnfq_handle *handle);

/* ---- netns.c ---- */

/* Gives the handle a netfilter socket of the namespace that `netns` is a descriptor on, or with -1
 * of the thread's own. 0 or an errno. */
int lnfq_netns_open(lnfq_handle *handle, int netns);

/* A descriptor on the namespace that a path or a descriptor stands for; -1 with an exception. */
int lnfq_netns_descriptor(PyObject *object);

/* Whether the socket is of the calling thread's namespace. */
bool lnfq_netns_is_ours(int socket);

/* ---- config.c ---- */

/*
 * With the lock: sends a request and reads until its answer, setting packets aside. `before` and
 * its size are messages to be sent in front of it, NULL and 0 where there are none. Returns 0 or an
 * errno.
 */
int lnfq_config_request(lnfq_handle *handle, uint16_t queue, const struct lnfq_config *config,
                        const unsigned char *before, size_t before_size);

/* With the lock: takes an answer from whichever reader. `read` says that this is the stream's
 * reader, for whom markers are. */
void lnfq_config_answer(lnfq_handle *handle, const struct lnfq_answer *answer, bool read);

/* With the lock, and while nobody else reads the descriptor: reads what waits, and so what the
 * kernel has said of the verdicts that were sent; packets are set aside. */
void lnfq_config_catch_up(lnfq_handle *handle);

/* With the lock: sends a marker; returns its sequence number. */
uint32_t lnfq_config_mark(lnfq_handle *handle);

/* Room for a remedy. */
#define LNFQ_REMEDY_SIZE 160

/* With the lock: writes what a user may do about a failed request, or nothing, to `remedy`. */
void lnfq_config_remedy(lnfq_handle *handle, int error, uint16_t queue,
                        const struct lnfq_config *config, char remedy[LNFQ_REMEDY_SIZE]);

/* ---- status.c ---- */

/* A list of what the kernel's table says; NULL with an exception. */
PyObject *lnfq_status_list(lnfq_state *state);

/* The port id that has bound a queue in this thread's namespace, as far as the kernel shows it. */
bool lnfq_status_owner(uint16_t queue, uint32_t *port);

/* Whether a socket of this process has that port id in this thread's namespace. */
bool lnfq_status_is_own(uint32_t port);

/* ---- dispatch.c ---- */

#define LNFQ_SECOND_NS 1000000000LL

/* CLOCK_MONOTONIC in nanoseconds. */
static inline int64_t
lnfq_now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * LNFQ_SECOND_NS + time.tv_nsec;
}

/* All return the number of packets that were dispatched, or -1 with the first exception. */

/* `handle_packet`: what was set aside, then the buffer. */
Py_ssize_t lnfq_dispatch_buffer(lnfq_handle *handle, PyObject *buffer);

/* Up to `most` packets that were set aside. */
Py_ssize_t lnfq_dispatch_backlog(lnfq_handle *handle, Py_ssize_t most);

/* How many messages are set aside. */
Py_ssize_t lnfq_dispatch_waiting(lnfq_handle *handle);

/* What `process` received. */
Py_ssize_t lnfq_dispatch_batch(lnfq_handle *handle, const lnfq_batch *batch);

/* ---- receive.c ---- */

/* What one system call received. Used by one thread at a time. */
struct lnfq_batch {
    unsigned int count;
    uint64_t epoch;
    size_t slot_size;
    struct lnfq_inlets *inlets;
    lnfq_slot *slots[LNFQ_BATCH_MAX]; /* strong; NULL where none was needed yet */
};

/* `process`. `timeout` in seconds, negative for ever. Returns the number of packets or -1. */
Py_ssize_t lnfq_receive_process(lnfq_handle *handle, Py_ssize_t max_packets, double timeout);

void lnfq_batch_free(lnfq_batch *batch);

/* For the traversal of what holds a batch, which may be NULL. */
int lnfq_batch_visit(const lnfq_batch *batch, visitproc visit, void *arg);

#endif
