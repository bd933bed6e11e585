/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * About the least that a consumer can do, and the limit that the others are compared with: receive
 * up to 64 packets, look at each, and let one batch verdict stand for them all. It can hold none.
 */
#define _GNU_SOURCE
#include "common.h"

int
main(int argc, char **argv)
{
    struct task task = task_read(argc, argv);
    struct mnl_socket *netlink = queue_open(&task);
    struct batch *batch = batch_new();

    say_ready();
    for (;;) {
        char verdict[256];
        int received = batch_receive(batch, mnl_socket_get_fd(netlink));
        uint32_t last = 0;
        size_t size;

        for (int i = 0; i < received; i++) {
            last = batch_packet_id(batch, i);
        }
        size = verdict_put(verdict, NFQNL_MSG_VERDICT_BATCH, last, task.verdict);
        fail_if(mnl_socket_sendto(netlink, verdict, size) < 0, "send");
    }
}
