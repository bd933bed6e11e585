/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether the kernel has taken the verdicts that were sent; see confirm.h.
 */
#include "confirm.h"

#include "backlog.h"
#include "handle.h"
#include "hands.h"
#include "outbox.h"
#include "transport.h"

/* Nothing is unheard once all that was received is dispatched. */
static void
note_heard(lnfq_handle *handle)
{
    if (handle->unheard && lnfq_hands_count(&handle->hands) == 0
        && lnfq_backlog_count(&handle->backlog) == 0) {
        handle->unheard = false;
    }
}

/* A report may have found no room. Then it counts that this thread has sent all that was sent, and
 * has the capability now: programs seldom get it back. */
static bool
none_lost(const lnfq_handle *handle)
{
    return (!handle->overran && !handle->quiet)
           || (lnfq_outbox_doubted_here(&handle->outbox) && lnfq_transport_permitted());
}

static bool
confirms(const lnfq_handle *handle)
{
    return handle->outbox.unconfirmed && !handle->exposed && !handle->unheard && none_lost(handle);
}

void
lnfq_confirm_note(lnfq_handle *handle, bool report)
{
    note_heard(handle);
    handle->unheard |= report;
}

bool
lnfq_confirm_can(lnfq_handle *handle)
{
    note_heard(handle);
    return confirms(handle);
}

void
lnfq_confirm_empty(lnfq_handle *handle)
{
    if (confirms(handle)) {
        lnfq_outbox_confirm(&handle->outbox);
    }
    handle->overran &= handle->outbox.unconfirmed;
}
