/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libFuzzer target: the kernel's answers to what is sent here, built as its netlink_ack does, with
 * and without the echo and an extended acknowledgement, and cut short, tell the error, what they
 * answer and, as far as the echo is there, the refused verdict's queue and packet.
 */
#include "message.h"

#include <netinet/in.h> /* before the kernel's, which then leaves it its names */

#include <linux/netfilter.h>

#include "fuzz.h"
#include "config.h"
#include "verdict.h"

#define ANSWER_MAX 1024
#define WHY_MAX 40

/* What was sent, and what the kernel says to it. */
struct dialogue {
    _Alignas(struct nlmsghdr) unsigned char request[LNFQ_VERDICT_SIZE_MAX];
    uint16_t queue;
    uint32_t id;
    bool verdict; /* and so the answer may name queue and id */
    int error;
    bool capped;
    bool extended;
    char why[WHY_MAX]; /* a string, as far as the kernel is right */
};

static void
put_verdict(struct dialogue *dialogue, bool batch, bool mark)
{
    const struct lnfq_verdict verdict = {.verdict = NF_ACCEPT, .mark = {mark, 5}};

    dialogue->verdict = true;
    if (batch) {
        lnfq_verdict_put_batch(dialogue->request, dialogue->queue, dialogue->id, dialogue->id,
                               &verdict);
    }
    else {
        lnfq_verdict_put(dialogue->request, dialogue->queue, dialogue->id, &verdict);
    }
}

static void
put_config(struct dialogue *dialogue, bool mode)
{
    const struct lnfq_config config = {.has_mode = mode, .has_maxlen = true};

    lnfq_config_put(dialogue->request, dialogue->queue, dialogue->id, true, &config);
}

static void
take_dialogue(struct input *input, struct dialogue *dialogue)
{
    uint8_t kind = take_u8(input);

    dialogue->queue = take_u16(input);
    dialogue->id = take_u32(input);
    dialogue->error = take_u16(input) % 4096;
    dialogue->capped = kind & 64;
    dialogue->extended = kind & 128;
    take(input, dialogue->why, dialogue->extended ? WHY_MAX : 0);
    switch (kind % 4) {
    case 0:
        lnfq_config_put_marker(dialogue->request, dialogue->id, ~dialogue->id);
        break;
    case 1:
        put_config(dialogue, kind & 4);
        break;
    default:
        put_verdict(dialogue, kind % 4 == 2, kind & 4);
        break;
    }
}

/* Where nothing was refused, or the sender wants it so, only the header is echoed. */
static void
build_answer(struct nlmsghdr *message, const struct dialogue *dialogue)
{
    const struct nlmsghdr *request = (const void *)dialogue->request;
    bool echo = dialogue->error != 0 && !dialogue->capped;
    struct nlmsgerr *error;

    mnl_nlmsg_put_header(message);
    message->nlmsg_type = NLMSG_ERROR;
    message->nlmsg_flags = (echo ? 0 : NLM_F_CAPPED) | (dialogue->extended ? NLM_F_ACK_TLVS : 0);
    message->nlmsg_seq = request->nlmsg_seq;
    error = mnl_nlmsg_put_extra_header(message, sizeof(*error));
    error->error = -dialogue->error;
    error->msg = *request;
    if (echo) {
        size_t size = request->nlmsg_len - sizeof(*request);

        memcpy(mnl_nlmsg_put_extra_header(message, size), request + 1, size);
    }
    if (dialogue->extended) {
        mnl_attr_put(message, NLMSGERR_ATTR_MSG, WHY_MAX, dialogue->why);
        mnl_attr_put_u32(message, NLMSGERR_ATTR_OFFS, 20);
    }
}

/* Of the answer `available` bytes are there. */
static void
check_answer(const struct dialogue *dialogue, const unsigned char *bytes, size_t available)
{
    const size_t least = MNL_NLMSG_HDRLEN + sizeof(struct nlmsgerr);
    const struct nlmsghdr *request = (const void *)dialogue->request;
    bool echoed = dialogue->verdict && dialogue->error != 0 && !dialogue->capped
                  && available >= least + sizeof(struct nfgenmsg) + MNL_ATTR_HDRLEN
                                      + sizeof(struct nfqnl_msg_verdict_hdr);
    struct lnfq_message message;
    struct lnfq_index index;
    const char *wrong = lnfq_message_read(bytes, available, &message, &index);

    require((wrong == NULL) == (available >= least));
    if (wrong != NULL) {
        return;
    }
    require(message.kind == LNFQ_MESSAGE_ANSWER);
    require(message.answer.error == dialogue->error);
    require(message.answer.seq == request->nlmsg_seq);
    require(message.answer.port == request->nlmsg_pid);
    require(message.answer.type == request->nlmsg_type);
    if (dialogue->verdict) {
        require(message.answer.named == echoed);
    }
    if (echoed) {
        require(message.answer.queue == dialogue->queue && message.answer.id == dialogue->id);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    struct dialogue dialogue = {0};
    _Alignas(struct nlmsghdr) unsigned char answer[ANSWER_MAX];
    struct nlmsghdr *message = (void *)answer;
    unsigned char *bytes;
    size_t cut;

    take_dialogue(&input, &dialogue);
    build_answer(message, &dialogue);
    cut = take_u8(&input);
    cut = cut < message->nlmsg_len ? message->nlmsg_len - cut : message->nlmsg_len;
    bytes = malloc(cut);
    require(bytes != NULL);
    memcpy(bytes, answer, cut);
    check_answer(&dialogue, bytes, cut);
    free(bytes);
    return 0;
}
