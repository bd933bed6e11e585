/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sending what the outbox holds, for users. The caller holds the GIL and not the lock.
 */
#ifndef LNFQ_FLUSH_H
#define LNFQ_FLUSH_H

#include "forward.h"

/* Sends the outbox; 0, or -1 with OSError. */
int lnfq_flush_now(lnfq_handle *handle, const char *call);

/* A verdict was given outside of a callback: sends it, or tells that it is held. 0, or -1. */
int lnfq_flush_or_hold(lnfq_handle *handle, const char *call);

#endif
