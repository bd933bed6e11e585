/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where the records of a handle's kept packets stand (kept.h): close together. Of many packets that
 * are kept none is in the processor's caches; the records of their neighbours on the list may be.
 * The caller holds the handle's lock.
 */
#ifndef LNFQ_KEPT_POOL_H
#define LNFQ_KEPT_POOL_H

#include <stddef.h>

#include "kept.h"

struct lnfq_kept_pool {
    struct lnfq_kept_chunk *chunks; /* all there are */
    struct lnfq_kept *unused;       /* linked by `next` */
    size_t used;
};

/* A record, which is not set; NULL without memory. */
struct lnfq_kept *lnfq_kept_pool_take(struct lnfq_kept_pool *pool);

/* Takes one back that is on no list. With the last one their memory goes. */
void lnfq_kept_pool_give(struct lnfq_kept_pool *pool, struct lnfq_kept *kept);

/* Lets the memory of all records go. */
void lnfq_kept_pool_clear(struct lnfq_kept_pool *pool);

#endif
