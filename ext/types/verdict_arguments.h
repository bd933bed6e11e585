/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a verdict may change of its packet, read from arguments.
 */
#ifndef LNFQ_VERDICT_ARGUMENTS_H
#define LNFQ_VERDICT_ARGUMENTS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "forward.h"
#include "verdict.h"

/* Reads a new payload for the packet into `verdict`. 0 or -1. */
int lnfq_verdict_arguments_payload(lnfq_packet *packet, PyObject *object, const char *what,
                                   struct lnfq_verdict *verdict);

#define LNFQ_OPTION_ARGUMENTS 5

/* Reads set_verdict's vlan, ct_mark, ct_labels, l2_header and expectation, each of which may be
 * left out, into `verdict`. 0 or -1. */
int lnfq_verdict_arguments_options(const lnfq_packet *packet,
                                   PyObject *const values[LNFQ_OPTION_ARGUMENTS],
                                   struct lnfq_verdict *verdict);

#endif
