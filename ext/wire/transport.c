/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sending on the descriptor, and asking for its state. It has no state of its own: the handle's
 * lock protects what is passed in. Nothing here waits, whatever the descriptor's mode is.
 */
#define _GNU_SOURCE /* POLLRDHUP */
#include "transport.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

bool
lnfq_transport_ended(int fd)
{
    struct pollfd poller = {.fd = fd, .events = POLLRDHUP};
    int left;

    return poll(&poller, 1, 0) > 0 && (poller.revents & (POLLRDHUP | POLLHUP)) != 0
           && (ioctl(fd, FIONREAD, &left) < 0 || left == 0);
}

int
lnfq_transport_send(int fd, const void *bytes, size_t size)
{
    ssize_t sent;

    do {
        sent = send(fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? errno : 0;
}

int
lnfq_transport_send_pieces(int fd, struct iovec *pieces, size_t count)
{
    const struct msghdr message = {.msg_iov = pieces, .msg_iovlen = count};
    ssize_t sent;

    if (count == 1) {
        return lnfq_transport_send(fd, pieces->iov_base, pieces->iov_len); /* costs less */
    }
    do {
        sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? errno : 0;
}

bool
lnfq_transport_drops(int fd, uint32_t *drops)
{
    uint32_t memory[SK_MEMINFO_VARS];
    socklen_t size = sizeof(memory);

    if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, memory, &size) < 0 || size < sizeof(memory)) {
        return false;
    }
    *drops = memory[SK_MEMINFO_DROPS];
    return true;
}

bool
lnfq_transport_permitted(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];

    return syscall(SYS_capget, &header, sets) == 0
           && (sets[CAP_TO_INDEX(CAP_NET_ADMIN)].effective & CAP_TO_MASK(CAP_NET_ADMIN)) != 0;
}

pid_t
lnfq_transport_thread(void)
{
    static _Thread_local pid_t thread; /* a child of fork goes on with its parent's */

    if (thread == 0) {
        thread = (pid_t)syscall(SYS_gettid); /* older C libraries have no gettid() */
    }
    return thread;
}

int
lnfq_transport_port(int fd, uint32_t *port)
{
    struct sockaddr_nl address = {0};
    socklen_t size = sizeof(address);

    if (getsockname(fd, (struct sockaddr *)&address, &size) < 0) {
        return errno;
    }
    *port = address.nl_pid;
    return address.nl_family == AF_NETLINK ? 0 : ENOTSOCK;
}

int
lnfq_transport_peek(int fd)
{
    char byte;

    return recv(fd, &byte, sizeof(byte), MSG_PEEK | MSG_DONTWAIT) < 0 ? errno : 0;
}

int
lnfq_transport_set_limit(int fd, suseconds_t microseconds)
{
    const struct timeval limit = {.tv_usec = microseconds};

    return setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0 ? errno : 0;
}

int
lnfq_transport_get_option(int fd, int level, int option, int *value)
{
    socklen_t size = sizeof(*value);

    return getsockopt(fd, level, option, value, &size) < 0 ? errno : 0;
}

int
lnfq_transport_set_option(int fd, int level, int option, int value)
{
    return setsockopt(fd, level, option, &value, sizeof(value)) < 0 ? errno : 0;
}
