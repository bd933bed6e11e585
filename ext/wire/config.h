/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Configuration messages and the marker, without Python. There is no state.
 */
#ifndef LNFQ_CONFIG_H
#define LNFQ_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Room for the longest message that is built here. */
#define LNFQ_CONFIG_SIZE_MAX 96

/* What one NFQNL_MSG_CONFIG asks for; what is not named is not sent. */
struct lnfq_config {
    uint8_t command; /* NFQNL_CFG_CMD_*, NONE (0) where there is none */
    uint8_t family;  /* of NFQNL_CFG_CMD_PF_* */
    bool has_mode;
    uint8_t mode;
    uint32_t range;
    bool has_maxlen;
    uint32_t maxlen;
    uint32_t mask;
    uint32_t flags;                 /* those of `mask` that are to be set */
    const struct lnfq_config *next; /* follows in the same datagram; its answer is not awaited */
};

/* Builds an NFQNL_MSG_CONFIG, returns its size. */
size_t lnfq_config_put(unsigned char *buffer, uint16_t queue, uint32_t seq, bool acknowledge,
                       const struct lnfq_config *config);

/*
 * Builds a marker: an NLMSG_NOOP whose acknowledgement makes the descriptor readable and shows, to
 * whoever reads it, that what was sent before has been read. The kernel does not look at its port
 * id, by which its sender knows the acknowledgement for its own. Returns its size.
 */
size_t lnfq_config_put_marker(unsigned char *buffer, uint32_t seq, uint32_t port);

/* Builds an NLMSG_NOOP that tells a program which plays the kernel how large the receive buffer is
 * that it has to count, as a host's int. Returns its size. */
size_t lnfq_config_put_rcvbuf(unsigned char *buffer, uint32_t seq, int32_t size);

#endif
