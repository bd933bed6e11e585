/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a user may do about a failed request; see explain.h.
 */
#include "explain.h"

#include <errno.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <stdio.h>
#include <sys/socket.h>

#include "config.h"
#include "exchange.h"
#include "handle.h"
#include "netns.h"
#include "remedy.h"
#include "status.h"

/* Whether the kernel lets us configure at all: a request that changes nothing tells. */
static bool
permitted(lnfq_handle *handle)
{
    const struct lnfq_config probe = {.command = NFQNL_CFG_CMD_PF_BIND, .family = AF_INET};

    return lnfq_exchange_request(handle, 0, &probe, NULL, 0) != EPERM;
}

/* Both a missing capability and a number that is taken are EPERM. */
static void
explain_permission(lnfq_handle *handle, uint16_t queue, char remedy[LNFQ_REMEDY_SIZE])
{
    struct lnfq_status status;

    if (!permitted(handle)) {
        snprintf(remedy, LNFQ_REMEDY_SIZE, "%s", LNFQ_REMEDY_PERMISSION);
    }
    else if (handle->kernel && lnfq_netns_is_ours(handle->fd)
             && lnfq_status_find(queue, &status) == 0) {
        lnfq_remedy_taken(remedy, queue, &status.port, lnfq_status_is_own(status.port));
    }
    else {
        lnfq_remedy_taken(remedy, queue, NULL, false);
    }
}

void
lnfq_explain_config(lnfq_handle *handle, int error, uint16_t queue,
                    const struct lnfq_config *config, char remedy[LNFQ_REMEDY_SIZE])
{
    if (error == EPERM) {
        explain_permission(handle, queue, remedy);
    }
    else {
        snprintf(remedy, LNFQ_REMEDY_SIZE, "%s", lnfq_remedy_config(error, config->mask != 0));
    }
}
