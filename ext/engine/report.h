/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reporting refused verdicts to on_verdict_error: when a dispatch ends or the handle is closed.
 */
#ifndef LNFQ_REPORT_H
#define LNFQ_REPORT_H

#include "forward.h"

/* Tells on_verdict_error what has been refused since the last time; without one it is forgotten. 0,
 * or -1 with an exception that leaves: then the rest is told the next time. */
int lnfq_report_refusals(lnfq_handle *handle);

#endif
