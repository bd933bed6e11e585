/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Letting packets into a queue that may be mistaken for its predecessor; see fence.h.
 */
#include "fence.h"

#include <netinet/in.h> /* before the kernel's, which then leaves it its names */

#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <linux/netlink.h>
#include <stdbool.h>
#include <stddef.h>

#include "exchange.h"
#include "handle.h"
#include "queue.h"
#include "transport.h"

/* How often a marker is sent again while its acknowledgement gets lost in a flood. */
#define MARKER_ATTEMPTS 100

/* Sends a marker and says whether its acknowledgement found room. */
static bool
mark_reliably(lnfq_queue *queue)
{
    uint32_t before, after;
    bool counted = lnfq_transport_drops(queue->handle->fd, &before);

    queue->fence = lnfq_exchange_mark(queue->handle);
    return counted && lnfq_transport_drops(queue->handle->fd, &after) && after == before;
}

/*
 * Lets packets into a silent queue behind a marker; see claim.h. The request in front of the marker
 * leaves the queue silent. It makes room by reading what waits, and shows whether we have the
 * capability.
 */
static int
open_fenced(lnfq_queue *queue, const struct lnfq_config *silence, const struct lnfq_config *open)
{
    _Alignas(struct nlmsghdr) unsigned char bytes[LNFQ_CONFIG_SIZE_MAX];
    lnfq_handle *handle = queue->handle;
    bool marked = false;
    int error = 0;

    lnfq_exchange_expect(handle, open);
    for (int i = 0; i < MARKER_ATTEMPTS && !marked && error == 0; i++) {
        error = lnfq_exchange_request(handle, queue->number, silence, NULL, 0);
        marked = error == 0 && mark_reliably(queue);
    }
    if (error == 0) {
        size_t size = lnfq_config_put(bytes, queue->number, ++handle->seq, false, open);

        error = lnfq_transport_send(handle->fd, bytes, size);
    }
    if (error == 0) {
        queue->silent = false;
        queue->fenced = marked;
    }
    return error;
}

struct lnfq_config
lnfq_fence_no_room(const lnfq_queue *queue)
{
    return (struct lnfq_config){
        .has_maxlen = true,
        .maxlen = 0,
        .mask = NFQA_CFG_F_FAIL_OPEN,
        .flags = atomic_load(&queue->default_verdict) == NF_ACCEPT ? NFQA_CFG_F_FAIL_OPEN : 0,
    };
}

/* A mode, but no room. */
static struct lnfq_config
mode_without_room(const lnfq_queue *queue, const struct lnfq_config *config)
{
    struct lnfq_config full = lnfq_fence_no_room(queue);

    full.has_mode = true;
    full.mode = config->mode;
    full.range = config->range;
    return full;
}

/*
 * The mode must not precede having no room. Without a mode the kernel drops all packets, whatever
 * the default, so the mode follows in the same datagram: only what comes while the kernel reads on
 * is lost. On an adopted socket it might reach a queue that another process has bound.
 */
int
lnfq_fence_bind(lnfq_queue *queue, const struct lnfq_config *config)
{
    const struct lnfq_config full = mode_without_room(queue, config);
    struct lnfq_config first = *config;

    first.has_mode = false;
    first.has_maxlen = true;
    first.maxlen = 0;
    first.mask |= full.mask;
    first.flags = (first.flags & ~full.mask) | full.flags;
    first.next = queue->handle->adopted ? NULL : &full;
    return lnfq_exchange_request(queue->handle, queue->number, &first, NULL, 0);
}

int
lnfq_fence_open(lnfq_queue *queue, const struct lnfq_config *config)
{
    const struct lnfq_config full = mode_without_room(queue, config);
    const struct lnfq_config open = {
        .has_maxlen = true,
        .maxlen = queue->maxlen,
        .mask = NFQA_CFG_F_FAIL_OPEN,
        .flags = config->flags & NFQA_CFG_F_FAIL_OPEN,
    };

    return open_fenced(queue, &full, &open);
}

int
lnfq_fence_configure(lnfq_queue *queue, const struct lnfq_config *config)
{
    const struct lnfq_config none = {.has_mode = true, .mode = NFQNL_COPY_NONE};

    return open_fenced(queue, &none, config);
}
