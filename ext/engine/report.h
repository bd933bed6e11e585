/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reporting refused verdicts to on_verdict_error: when a dispatch ends or the handle is closed.
 */
#ifndef LNFQ_REPORT_H
#define LNFQ_REPORT_H

#include "forward.h"

/* Calls on_verdict_error for each refusal since the last time; without a listener the refusals are
 * forgotten. Returns 0, or -1 with an exception that is not an Exception: then the rest is reported
 * the next time. */
int lnfq_report_refusals(lnfq_handle *handle);

#endif
