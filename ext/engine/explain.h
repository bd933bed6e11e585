/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a user may do about a failed request; the texts are remedy.c's. The caller holds the lock
 * and not the GIL, because the kernel is asked.
 */
#ifndef LNFQ_EXPLAIN_H
#define LNFQ_EXPLAIN_H

#include <stdint.h>

#include "config.h"
#include "forward.h"
#include "remedy.h"

/* Writes it, or nothing, to `remedy`. */
void lnfq_explain_config(lnfq_handle *handle, int error, uint16_t queue,
                         const struct lnfq_config *config, char remedy[LNFQ_REMEDY_SIZE]);

#endif
