/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where the records of a handle's kept packets stand; see kept_pool.h.
 */
#include "kept_pool.h"

#include <stdlib.h>

#define CHUNK 64 /* records; one chunk stays */

struct lnfq_kept_chunk {
    struct lnfq_kept_chunk *next;
    struct lnfq_kept records[CHUNK];
};

static void
add_unused(struct lnfq_kept_pool *pool, struct lnfq_kept *kept)
{
    kept->next = pool->unused;
    pool->unused = kept;
}

/* Makes all records of a chunk unused: the first one comes first. */
static void
add_chunk(struct lnfq_kept_pool *pool, struct lnfq_kept_chunk *chunk)
{
    chunk->next = pool->chunks;
    pool->chunks = chunk;
    for (size_t i = CHUNK; i > 0; i--) {
        add_unused(pool, &chunk->records[i - 1]);
    }
}

struct lnfq_kept *
lnfq_kept_pool_take(struct lnfq_kept_pool *pool)
{
    struct lnfq_kept *kept;

    if (pool->unused == NULL) {
        struct lnfq_kept_chunk *chunk = malloc(sizeof(*chunk));

        if (chunk == NULL) {
            return NULL;
        }
        add_chunk(pool, chunk);
    }
    kept = pool->unused;
    pool->unused = kept->next;
    pool->used += 1;
    return kept;
}

/* Nothing is used: one chunk is enough. */
static void
shrink(struct lnfq_kept_pool *pool)
{
    struct lnfq_kept_chunk *chunk = pool->chunks;

    pool->chunks = chunk->next;
    lnfq_kept_pool_clear(pool);
    add_chunk(pool, chunk);
}

void
lnfq_kept_pool_give(struct lnfq_kept_pool *pool, struct lnfq_kept *kept)
{
    add_unused(pool, kept);
    pool->used -= 1;
    if (pool->used == 0 && pool->chunks->next != NULL) {
        shrink(pool);
    }
}

void
lnfq_kept_pool_clear(struct lnfq_kept_pool *pool)
{
    while (pool->chunks != NULL) {
        struct lnfq_kept_chunk *chunk = pool->chunks;

        pool->chunks = chunk->next;
        free(chunk);
    }
    pool->unused = NULL;
}
