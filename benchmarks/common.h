/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the C consumers of the benchmark share. Each is run as
 *
 *     PROGRAM ACTION COUNT FLAGS
 *
 * binds queue 1, says so on its standard output, and gives verdicts until it is killed. ACTION is
 *
 *     accept, drop    every packet
 *     park            accept, and leave the first COUNT packets without a verdict for good
 *     defer           accept each packet when COUNT more have come
 *     shuffle         accept, for each packet that comes, any of the last COUNT
 *
 * and FLAGS are the queue's (NFQA_CFG_F_*). Whatever goes wrong ends the program: a consumer that
 * lost a packet must not be measured.
 */
#ifndef BENCHMARK_COMMON_H
#define BENCHMARK_COMMON_H

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <libnetfilter_queue/libnetfilter_queue.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define QUEUE 1
#define MAXLEN (1 << 20)
#define RECEIVE_BUFFER (1 << 29)
#define MESSAGE_MAX (65536 + 4096)
#define BATCH 64

struct task {
    uint32_t verdict;
    uint32_t held; /* the first so many packets get no verdict when they come */
    bool deferred; /* they get it later, one for each that comes */
    uint32_t flags;
    uint32_t *shuffled; /* the ids of those that wait, if they get it in any order */
    uint64_t place;     /* of the last one that got it */
};

static inline void
fail_if(bool failed, const char *operation)
{
    if (failed) {
        perror(operation);
        exit(EXIT_FAILURE);
    }
}

static inline struct task
task_read(int argc, char **argv)
{
    struct task task = {.verdict = NF_ACCEPT};

    if (argc != 4) {
        fprintf(stderr, "usage: %s ACTION COUNT FLAGS\n", argv[0]);
        exit(EXIT_FAILURE);
    }
    if (strcmp(argv[1], "drop") == 0) {
        task.verdict = NF_DROP;
    }
    task.held = (uint32_t)strtoul(argv[2], NULL, 0);
    task.deferred = strcmp(argv[1], "defer") == 0;
    task.flags = (uint32_t)strtoul(argv[3], NULL, 0);
    if (strcmp(argv[1], "shuffle") == 0) {
        task.shuffled = calloc(task.held, sizeof(*task.shuffled));
        fail_if(task.shuffled == NULL, "calloc");
        for (uint32_t i = 0; i < task.held; i++) {
            task.shuffled[i] = i + 1;
        }
    }
    return task;
}

/* Whether a verdict is due when the packet with this id comes. A new queue's ids start at 1. */
static inline bool
task_due(const struct task *task, uint32_t id)
{
    return id > task->held;
}

/* For which packet. */
static inline uint32_t
task_target(struct task *task, uint32_t id)
{
    uint32_t *waiting, target;

    if (task->shuffled == NULL) {
        return task->deferred ? id - task->held : id;
    }
    task->place = (task->place * 1103515245 + 12345) % (1U << 31);
    waiting = &task->shuffled[task->place * task->held >> 31];
    target = *waiting;
    *waiting = id;
    return target;
}

static inline void
receive_buffer_enlarge(int fd)
{
    int size = RECEIVE_BUFFER;

    fail_if(setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0, "SO_RCVBUFFORCE");
}

static inline void
say_ready(void)
{
    puts("ready");
    fflush(stdout);
}

/* A socket that queue 1 is bound to, with libmnl. */
static inline struct mnl_socket *
queue_open(const struct task *task)
{
    char buffer[MNL_NLMSG_HDRLEN + 256];
    struct mnl_socket *netlink = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
    struct nlmsghdr *request;
    ssize_t received;

    fail_if(netlink == NULL, "socket");
    fail_if(mnl_socket_bind(netlink, 0, MNL_SOCKET_AUTOPID) < 0, "bind");
    receive_buffer_enlarge(mnl_socket_get_fd(netlink));
    request = nfq_nlmsg_put(buffer, NFQNL_MSG_CONFIG, QUEUE);
    request->nlmsg_flags |= NLM_F_ACK;
    nfq_nlmsg_cfg_put_cmd(request, AF_INET, NFQNL_CFG_CMD_BIND);
    nfq_nlmsg_cfg_put_params(request, NFQNL_COPY_PACKET, 0xffff);
    nfq_nlmsg_cfg_put_qmaxlen(request, MAXLEN);
    mnl_attr_put_u32(request, NFQA_CFG_FLAGS, htonl(task->flags));
    mnl_attr_put_u32(request, NFQA_CFG_MASK, htonl(task->flags));
    fail_if(mnl_socket_sendto(netlink, request, request->nlmsg_len) < 0, "configuration");
    received = mnl_socket_recvfrom(netlink, buffer, sizeof(buffer));
    fail_if(received < 0, "acknowledgement");
    fail_if(mnl_cb_run(buffer, (size_t)received, 0, mnl_socket_get_portid(netlink), NULL, NULL) < 0,
            "configuration");
    return netlink;
}

/* The id of the packet in a message; anything else ends the program. */
static inline uint32_t
packet_id(const struct nlmsghdr *message)
{
    struct nlattr *attributes[NFQA_MAX + 1] = {0};
    const struct nfqnl_msg_packet_hdr *header;

    fail_if(message->nlmsg_type != (NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_PACKET), "no packet");
    fail_if(nfq_nlmsg_parse(message, attributes) < 0, "malformed packet");
    fail_if(attributes[NFQA_PACKET_HDR] == NULL, "packet without header");
    header = mnl_attr_get_payload(attributes[NFQA_PACKET_HDR]);
    return ntohl(header->packet_id);
}

/* Appends a verdict, for one packet or for all up to it; returns its size. */
static inline size_t
verdict_put(char *buffer, int type, uint32_t id, uint32_t verdict)
{
    struct nlmsghdr *message = nfq_nlmsg_put(buffer, type, QUEUE);

    nfq_nlmsg_verdict_put(message, (int)id, (int)verdict);
    return message->nlmsg_len;
}

/* Room for many messages, received by one system call. */
struct batch {
    struct mmsghdr messages[BATCH];
    struct iovec vectors[BATCH];
    _Alignas(struct nlmsghdr) char bytes[BATCH][MESSAGE_MAX];
};

static inline struct batch *
batch_new(void)
{
    struct batch *batch = calloc(1, sizeof(*batch));

    fail_if(batch == NULL, "calloc");
    for (int i = 0; i < BATCH; i++) {
        batch->vectors[i] = (struct iovec){batch->bytes[i], MESSAGE_MAX};
        batch->messages[i].msg_hdr.msg_iov = &batch->vectors[i];
        batch->messages[i].msg_hdr.msg_iovlen = 1;
    }
    return batch;
}

/* Waits for the first message, and takes what else is there. */
static inline int
batch_receive(struct batch *batch, int fd)
{
    int received = recvmmsg(fd, batch->messages, BATCH, MSG_WAITFORONE, NULL);

    fail_if(received < 0, "recvmmsg");
    return received;
}

static inline uint32_t
batch_packet_id(const struct batch *batch, int index)
{
    return packet_id((const struct nlmsghdr *)batch->bytes[index]);
}

#endif
