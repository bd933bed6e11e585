/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Views: the exporters of payloads' memoryviews. The caller holds the GIL.
 */
#ifndef LNFQ_VIEW_H
#define LNFQ_VIEW_H

#include <stddef.h>

#include "slot.h"
#include "state.h"

extern PyType_Spec lnfq_view_spec;

/* A read-only memoryview of a part of the slot, which it holds. */
PyObject *lnfq_view_new(lnfq_state *state, lnfq_slot *slot, const unsigned char *start,
                        size_t length);

#endif
