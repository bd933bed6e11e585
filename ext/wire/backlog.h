/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Messages that were received and set aside, for the next dispatch. It needs no Python. Its owner
 * locks it.
 */
#ifndef LNFQ_BACKLOG_H
#define LNFQ_BACKLOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One message, or what is malformed. */
struct lnfq_aside {
    struct lnfq_aside *next;
    uint64_t epoch; /* in which it was received */
    bool foreign;   /* by a loop of the user's own */
    size_t length;
    unsigned char bytes[];
};

struct lnfq_backlog {
    struct lnfq_aside *first;
    struct lnfq_aside **end;
    _Atomic size_t count; /* readable without its owner's lock */
};

void lnfq_backlog_init(struct lnfq_backlog *backlog);

/* How many messages there are. */
static inline size_t
lnfq_backlog_count(const struct lnfq_backlog *backlog)
{
    return atomic_load(&backlog->count);
}

/* A copy of a message, on no list yet; NULL without memory. */
struct lnfq_aside *lnfq_backlog_aside(const unsigned char *bytes, size_t length, uint64_t epoch,
                                      bool foreign);

/* Puts a message behind all others. */
void lnfq_backlog_append(struct lnfq_backlog *backlog, struct lnfq_aside *aside);

/* Takes the first message, for the caller to free; NULL if there is none. */
struct lnfq_aside *lnfq_backlog_pop(struct lnfq_backlog *backlog);

/* Puts all messages of `older`, which is empty then, in front of all others. */
void lnfq_backlog_prepend(struct lnfq_backlog *backlog, struct lnfq_backlog *older);

/* Frees all messages. */
void lnfq_backlog_clear(struct lnfq_backlog *backlog);

#endif
