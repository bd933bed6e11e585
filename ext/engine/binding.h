/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Binding a queue number, and configuring it.
 */
#ifndef LNFQ_BINDING_H
#define LNFQ_BINDING_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>

#include "config.h"
#include "forward.h"
#include "nested.h"

/* The bytes of each packet that are copied unless another range is named: all. */
#define LNFQ_BINDING_RANGE 0xffff

/* The packets that a queue holds unless it is told another number. */
#define LNFQ_BINDING_MAXLEN 1024

/* Stands for a receive buffer that grows with the queues. */
#define LNFQ_BINDING_RCVBUF_GROWS (-1)

/* What create_queue is told of a queue. */
struct lnfq_queue_options {
    struct lnfq_config config;
    uint32_t default_verdict;
    struct lnfq_optional unanswered; /* see takeover.h */
    bool shared;
    int rcvbuf; /* bytes to set, 0 to leave what is there, or LNFQ_BINDING_RCVBUF_GROWS */
};

/* Binds a number. The queue, or NULL with an exception. */
PyObject *lnfq_binding_create(lnfq_handle *handle, uint16_t number, PyObject *callback,
                              const struct lnfq_queue_options *options);

/* With the lock and without the GIL: configures a queue that is bound. Returns 0 or an errno. */
int lnfq_binding_configure(lnfq_queue *queue, const struct lnfq_config *config);

#endif
