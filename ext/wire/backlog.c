/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Messages that were received and set aside; see backlog.h.
 */
#include "backlog.h"

#include <stdlib.h>
#include <string.h>

/* Its owner's lock excludes other writers. */
static void
set_count(struct lnfq_backlog *backlog, size_t number)
{
    atomic_store_explicit(&backlog->count, number, memory_order_release);
}

void
lnfq_backlog_init(struct lnfq_backlog *backlog)
{
    backlog->first = NULL;
    backlog->end = &backlog->first;
    set_count(backlog, 0);
}

struct lnfq_aside *
lnfq_backlog_aside(const unsigned char *bytes, size_t length, uint64_t epoch, bool foreign)
{
    struct lnfq_aside *aside = malloc(sizeof(*aside) + length);

    if (aside != NULL) {
        aside->next = NULL;
        aside->epoch = epoch;
        aside->foreign = foreign;
        aside->length = length;
        memcpy(aside->bytes, bytes, length);
    }
    return aside;
}

void
lnfq_backlog_append(struct lnfq_backlog *backlog, struct lnfq_aside *aside)
{
    aside->next = NULL;
    *backlog->end = aside;
    backlog->end = &aside->next;
    set_count(backlog, lnfq_backlog_count(backlog) + 1);
}

struct lnfq_aside *
lnfq_backlog_pop(struct lnfq_backlog *backlog)
{
    struct lnfq_aside *aside = backlog->first;

    if (aside != NULL) {
        backlog->first = aside->next;
        set_count(backlog, lnfq_backlog_count(backlog) - 1);
        if (aside->next == NULL) {
            backlog->end = &backlog->first;
        }
    }
    return aside;
}

void
lnfq_backlog_prepend(struct lnfq_backlog *backlog, struct lnfq_backlog *older)
{
    if (older->first == NULL) {
        return;
    }
    *older->end = backlog->first;
    if (backlog->first == NULL) {
        backlog->end = older->end;
    }
    backlog->first = older->first;
    set_count(backlog, lnfq_backlog_count(backlog) + lnfq_backlog_count(older));
    lnfq_backlog_init(older);
}

void
lnfq_backlog_clear(struct lnfq_backlog *backlog)
{
    struct lnfq_aside *aside;

    while ((aside = lnfq_backlog_pop(backlog)) != NULL) {
        free(aside);
    }
}
