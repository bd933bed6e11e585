/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two system calls for many packets: receive up to 64, send their verdicts together.
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
        static _Alignas(struct nlmsghdr) char verdicts[BATCH * 64];
        int received = batch_receive(batch, mnl_socket_get_fd(netlink));
        size_t size = 0;

        for (int i = 0; i < received; i++) {
            uint32_t id = batch_packet_id(batch, i);

            if (task_due(&task, id)) {
                size += verdict_put(verdicts + size, NFQNL_MSG_VERDICT, task_target(&task, id),
                                    task.verdict);
            }
        }
        fail_if(size > 0 && mnl_socket_sendto(netlink, verdicts, size) < 0, "send");
    }
}
