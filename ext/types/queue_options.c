/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The optional arguments of create_queue; see queue_options.h.
 */
#include "queue_options.h"

#include <netinet/in.h> /* before the kernel's, which then leaves it its names */

#include <limits.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <stdint.h>

#include "arguments.h"
#include "binding.h"
#include "config.h"

/* The arguments of create_queue for a queue that is taken over. 0, or -1 with an exception. */
static int
parse_takeover_options(PyObject *const values[2], struct lnfq_queue_options *options)
{
    int shared = values[1] != NULL ? PyObject_IsTrue(values[1]) : 0;

    options->unanswered.there = lnfq_arguments_given(values[0]);
    options->shared = shared > 0;
    if (options->unanswered.there
        && lnfq_arguments_verdict(values[0], "create_queue(): unanswered",
                                  &options->unanswered.value)
               < 0) {
        return -1;
    }
    return shared < 0 ? -1 : 0;
}

int
lnfq_queue_options_parse(PyObject *const values[LNFQ_QUEUE_OPTIONS],
                         struct lnfq_queue_options *options)
{
    struct lnfq_config *config = &options->config;
    int64_t mode = NFQNL_COPY_PACKET, range = LNFQ_BINDING_RANGE, maxlen = 0, flags = 0;
    int64_t rcvbuf = LNFQ_BINDING_RCVBUF_GROWS;

    config->has_mode = values[0] != Py_None;
    config->has_maxlen = lnfq_arguments_given(values[2]);
    if ((lnfq_arguments_given(values[0])
         && lnfq_arguments_int(values[0], "create_queue(): mode", 0, NFQNL_COPY_PACKET, &mode) < 0)
        || (values[1] != NULL
            && lnfq_arguments_int(values[1], "create_queue(): range", 0, UINT32_MAX, &range) < 0)
        || (config->has_maxlen
            && lnfq_arguments_int(values[2], "create_queue(): maxlen", 0, UINT32_MAX, &maxlen) < 0)
        || (values[3] != NULL
            && lnfq_arguments_int(values[3], "create_queue(): flags", 0, UINT32_MAX, &flags) < 0)
        || (lnfq_arguments_given(values[4])
            && lnfq_arguments_int(values[4], "create_queue(): rcvbuf", 0, INT_MAX, &rcvbuf) < 0)
        || (values[5] != NULL
            && lnfq_arguments_verdict(values[5], "create_queue(): default_verdict",
                                      &options->default_verdict)
                   < 0)
        || parse_takeover_options(&values[6], options) < 0) {
        return -1;
    }
    options->rcvbuf = (int)rcvbuf;
    config->mode = (uint8_t)mode;
    config->range = (uint32_t)range;
    config->maxlen = (uint32_t)maxlen;
    config->mask = (uint32_t)flags;
    config->flags = (uint32_t)flags;
    return 0;
}
