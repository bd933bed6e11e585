/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Configuration messages, built by libnetfilter_queue, and the marker. Any thread may call it.
 * There is no state.
 */
#include "config.h"

#include <arpa/inet.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <linux/netlink.h>
#include <libmnl/libmnl.h>
#include <libnetfilter_queue/libnetfilter_queue.h>
#include <string.h>

size_t
lnfq_config_put(unsigned char *buffer, uint16_t queue, uint32_t seq, bool acknowledge,
                const struct lnfq_config *config)
{
    struct nlmsghdr *message = nfq_nlmsg_put((char *)buffer, NFQNL_MSG_CONFIG, queue);

    message->nlmsg_seq = seq;
    if (acknowledge) {
        message->nlmsg_flags |= NLM_F_ACK;
    }
    if (config->command != NFQNL_CFG_CMD_NONE) {
        nfq_nlmsg_cfg_put_cmd(message, config->family, config->command);
    }
    if (config->has_mode) {
        nfq_nlmsg_cfg_put_params(message, config->mode, (int)config->range);
    }
    if (config->has_maxlen) {
        nfq_nlmsg_cfg_put_qmaxlen(message, config->maxlen);
    }
    if (config->mask != 0) {
        mnl_attr_put_u32(message, NFQA_CFG_MASK, htonl(config->mask));
        mnl_attr_put_u32(message, NFQA_CFG_FLAGS, htonl(config->flags));
    }
    return message->nlmsg_len;
}

size_t
lnfq_config_put_marker(unsigned char *buffer, uint32_t seq, uint32_t port)
{
    struct nlmsghdr *message = mnl_nlmsg_put_header(buffer);

    message->nlmsg_type = NLMSG_NOOP;
    message->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
    message->nlmsg_seq = seq;
    message->nlmsg_pid = port;
    return message->nlmsg_len;
}

size_t
lnfq_config_put_rcvbuf(unsigned char *buffer, uint32_t seq, int32_t size)
{
    struct nlmsghdr *message = mnl_nlmsg_put_header(buffer);

    message->nlmsg_type = NLMSG_NOOP;
    message->nlmsg_flags = NLM_F_REQUEST;
    message->nlmsg_seq = seq;
    memcpy(mnl_nlmsg_put_extra_header(message, sizeof(size)), &size, sizeof(size));
    return message->nlmsg_len;
}
