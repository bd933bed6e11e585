/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libnetfilter_queue's own loop, as in its example: recv, nfq_handle_packet, and nfq_set_verdict in
 * the callback.
 */
#define _GNU_SOURCE
#include "common.h"

static int
answer(struct nfq_q_handle *queue, struct nfgenmsg *header, struct nfq_data *packet, void *data)
{
    struct task *task = data;
    uint32_t id = ntohl(nfq_get_msg_packet_hdr(packet)->packet_id);

    (void)header;
    if (!task_due(task, id)) {
        return 0;
    }
    return nfq_set_verdict(queue, task_target(task, id), task->verdict, 0, NULL);
}

int
main(int argc, char **argv)
{
    static _Alignas(struct nlmsghdr) char buffer[MESSAGE_MAX];
    struct task task = task_read(argc, argv);
    struct nfq_handle *handle = nfq_open();
    struct nfq_q_handle *queue;
    int fd;

    fail_if(handle == NULL, "nfq_open");
    fd = nfq_fd(handle);
    receive_buffer_enlarge(fd);
    queue = nfq_create_queue(handle, QUEUE, answer, &task);
    fail_if(queue == NULL, "nfq_create_queue");
    fail_if(nfq_set_mode(queue, NFQNL_COPY_PACKET, 0xffff) < 0, "nfq_set_mode");
    fail_if(nfq_set_queue_maxlen(queue, MAXLEN) < 0, "nfq_set_queue_maxlen");
    fail_if(nfq_set_queue_flags(queue, task.flags, task.flags) < 0, "nfq_set_queue_flags");
    say_ready();
    for (;;) {
        ssize_t received = recv(fd, buffer, sizeof(buffer), 0);

        fail_if(received < 0, "recv");
        fail_if(nfq_handle_packet(handle, buffer, (int)received) < 0, "nfq_handle_packet");
    }
}
