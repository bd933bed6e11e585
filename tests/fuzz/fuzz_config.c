/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libFuzzer target: a configuration request, whatever it asks for, fits its buffer, and read back
 * asks for exactly that; so does the marker.
 */
#include "config.h"

#include <linux/netfilter/nfnetlink_queue.h>

#include "fuzz.h"

struct request {
    uint16_t queue;
    uint32_t seq;
    bool acknowledge;
    struct lnfq_config config;
};

static void
take_request(struct input *input, struct request *request)
{
    struct lnfq_config *config = &request->config;
    uint8_t parts = take_u8(input);

    request->queue = take_u16(input);
    request->seq = take_u32(input);
    request->acknowledge = parts & 1;
    config->has_mode = parts & 2;
    config->has_maxlen = parts & 4;
    config->command = take_u8(input);
    config->family = take_u8(input);
    config->mode = take_u8(input);
    config->range = take_u32(input);
    config->maxlen = take_u32(input);
    config->flags = take_u32(input);
    config->mask = parts & 8 ? take_u32(input) : 0;
}

static void
check_command(const struct nlattr *attribute, const struct lnfq_config *config)
{
    const struct nfqnl_msg_config_cmd command = {
        .command = config->command,
        .pf = htons(config->family),
    };

    require(config->command != NFQNL_CFG_CMD_NONE ? is_bytes(attribute, &command, sizeof(command))
                                                  : attribute == NULL);
}

static void
check_mode(const struct nlattr *attribute, const struct lnfq_config *config)
{
    struct nfqnl_msg_config_params params;
    uint32_t range = htonl(config->range);

    memcpy(&params, &range, sizeof(range)); /* it is packed */
    params.copy_mode = config->mode;
    require(config->has_mode ? is_bytes(attribute, &params, sizeof(params)) : attribute == NULL);
}

static void
check_request(const struct nlmsghdr *message, const struct request *request)
{
    const struct lnfq_config *config = &request->config;
    const struct nlattr *attributes[ATTRIBUTES];
    int expected = config->has_maxlen + 2 * (config->mask != 0)
                   + (config->command != NFQNL_CFG_CMD_NONE) + config->has_mode;

    read_message(message, NFQNL_MSG_CONFIG, request->queue, attributes);
    require(message->nlmsg_seq == request->seq);
    require(message->nlmsg_flags == (NLM_F_REQUEST | (request->acknowledge ? NLM_F_ACK : 0)));
    check_command(attributes[NFQA_CFG_CMD], config);
    check_mode(attributes[NFQA_CFG_PARAMS], config);
    require(!config->has_maxlen || is_u32(attributes[NFQA_CFG_QUEUE_MAXLEN], config->maxlen));
    require(config->mask == 0
            || (is_u32(attributes[NFQA_CFG_MASK], config->mask)
                && is_u32(attributes[NFQA_CFG_FLAGS], config->flags)));
    for (int type = 0; type < ATTRIBUTES; type++) {
        expected -= attributes[type] != NULL;
    }
    require(expected == 0);
}

static void
check_marker(const struct nlmsghdr *message, uint32_t seq, uint32_t port)
{
    require(message->nlmsg_len == MNL_NLMSG_HDRLEN && message->nlmsg_type == NLMSG_NOOP);
    require(message->nlmsg_flags == (NLM_F_REQUEST | NLM_F_ACK) && message->nlmsg_seq == seq);
    require(message->nlmsg_pid == port);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    unsigned char *buffer = malloc(LNFQ_CONFIG_SIZE_MAX);
    const struct nlmsghdr *message = (void *)buffer;
    struct request request;

    require(buffer != NULL);
    take_request(&input, &request);
    memset(buffer, 0xff, LNFQ_CONFIG_SIZE_MAX);
    require(
        lnfq_config_put(buffer, request.queue, request.seq, request.acknowledge, &request.config)
        == message->nlmsg_len);
    check_request(message, &request);
    require(lnfq_config_put_marker(buffer, request.seq, ~request.seq) == message->nlmsg_len);
    check_marker(message, request.seq, ~request.seq);
    free(buffer);
    return 0;
}
