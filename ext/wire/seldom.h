/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is kept out of the way of what every packet pays for.
 */
#ifndef LNFQ_SELDOM_H
#define LNFQ_SELDOM_H

/* Of a function that few packets need: it is never compiled into its callers, and those expect not
 * to call it. */
#define LNFQ_SELDOM __attribute__((cold, noinline))

/* Of a function that all packets need: it is compiled into its callers, though one of them is
 * seldom. */
#define LNFQ_ALWAYS __attribute__((always_inline)) inline

#endif
