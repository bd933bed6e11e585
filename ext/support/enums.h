/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Numbers as members of the enums of libnetfilterqueue.constants. The caller holds the GIL.
 */
#ifndef LNFQ_ENUMS_H
#define LNFQ_ENUMS_H

#include <stdint.h>

#include "state.h"

/* The enum's member of that value, or an int where it has none. */
PyObject *lnfq_enums_member(lnfq_state *state, enum lnfq_enum which, uint32_t value);

#endif
