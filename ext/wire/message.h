/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading netlink messages of nfnetlink_queue, without Python.
 *
 * The bytes may come from anyone and may change while they are looked at (a caller's bytearray):
 * every length is read once, checked, and kept in the result. Nothing here allocates, locks or
 * keeps a pointer.
 */
#ifndef LNFQ_MESSAGE_H
#define LNFQ_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "index.h"

/* The netlink type of an NFQNL_MSG_*. */
#define LNFQ_MESSAGE_TYPE(message) (NFNL_SUBSYS_QUEUE << 8 | (message))

/* What a message is to us. */
enum lnfq_message_kind {
    LNFQ_MESSAGE_OTHER,  /* nothing of ours: skipped */
    LNFQ_MESSAGE_PACKET, /* NFQNL_MSG_PACKET */
    LNFQ_MESSAGE_ANSWER, /* NLMSG_ERROR: an acknowledgement or a refusal */
};

/* An acknowledgement (error 0) or a refusal of something that was sent. */
struct lnfq_answer {
    int error;     /* an errno, positive */
    uint32_t seq;  /* of the message that it answers */
    uint32_t port; /* that its sender has written in that */
    uint16_t type; /* of the message that it answers */
    bool named;    /* queue and id were echoed */
    uint16_t queue;
    uint32_t id;
};

struct lnfq_message {
    enum lnfq_message_kind kind;
    size_t size; /* bytes that it takes in its buffer, with the padding up to the next one */
    struct lnfq_answer answer;
};

/*
 * Reads the message at the start of `bytes`, of which `available` are there; a packet's attributes
 * go to `index`. Returns NULL, or what is wrong with it (a static string); then neither result
 * means anything.
 */
const char *lnfq_message_read(const unsigned char *bytes, size_t available,
                              struct lnfq_message *message, struct lnfq_index *index);

#endif
