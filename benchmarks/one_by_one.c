/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The plain way to use libmnl and libnetfilter_queue: receive one packet, send its verdict.
 */
#define _GNU_SOURCE
#include "common.h"

int
main(int argc, char **argv)
{
    static _Alignas(struct nlmsghdr) char buffer[MESSAGE_MAX];
    struct task task = task_read(argc, argv);
    struct mnl_socket *netlink = queue_open(&task);

    say_ready();
    for (;;) {
        char verdict[256];
        uint32_t id;
        size_t size;

        fail_if(mnl_socket_recvfrom(netlink, buffer, sizeof(buffer)) < 0, "recv");
        id = packet_id((const struct nlmsghdr *)buffer);
        if (task_due(&task, id)) {
            size = verdict_put(verdict, NFQNL_MSG_VERDICT, task_target(&task, id), task.verdict);
            fail_if(mnl_socket_sendto(netlink, verdict, size) < 0, "send");
        }
    }
}
