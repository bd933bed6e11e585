/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What users may do about errors; see remedy.h.
 */
#include "remedy.h"

#include <errno.h>
#include <stdio.h>

const char *
lnfq_remedy_descriptor(int error)
{
    switch (error) {
    case EBADF:
        return "other code has closed the handle's descriptor";
    case ENOTSOCK:
    case ENOTTY:
        return "other code has closed the handle's descriptor, and its number is another file's";
    case ECONNREFUSED:
    case ECONNRESET:
    case EPIPE:
        return "the other end of the descriptor is closed or shut down";
    default:
        return "";
    }
}

/* What the kernel refuses a socket with, and what sandboxes do in its place. */
static const char *
socket_remedy(int error)
{
    switch (error) {
    case EPROTONOSUPPORT:
        return "the kernel lacks nfnetlink, which 'modprobe nfnetlink_queue' loads";
    case EAFNOSUPPORT:
        return "a sandbox allows no AF_NETLINK sockets, as RestrictAddressFamilies= of systemd "
               "does without AF_NETLINK";
    case EPERM:
    case EACCES:
        return "a sandbox (seccomp, SELinux, AppArmor) allows no netlink sockets";
    default:
        return "";
    }
}

const char *
lnfq_remedy_open(int error, bool elsewhere)
{
    if (elsewhere && error == EINVAL) {
        return "netns is not a network namespace";
    }
    if (elsewhere && error == EPERM) {
        return "entering a network namespace needs CAP_SYS_ADMIN in it and in the program's own";
    }
    return socket_remedy(error);
}

const char *
lnfq_remedy_status(int error)
{
    switch (error) {
    case EACCES:
    case EPERM:
        return "only root may read the kernel's table, and under 'unshare -rn' only the real root";
    case ENOENT:
        return "the kernel may lack nfnetlink_queue, which 'modprobe nfnetlink_queue' loads, or "
               "/proc is not mounted";
    default:
        return "";
    }
}

const char *
lnfq_remedy_config(int error, bool flags)
{
    switch (error) {
    case EBUSY:
        return "the queue number is bound on this descriptor already";
    case EINVAL:
        return flags
                   ? "the kernel does not know one of the flags, or lacks nfnetlink_queue"
                   : "the kernel may lack nfnetlink_queue, which 'modprobe nfnetlink_queue' loads";
    case EOPNOTSUPP:
        return flags ? "the kernel does not offer one of the flags" : "";
    case ENODEV:
        return "the kernel has no such queue any more";
    case ENOBUFS:
        return "the receive buffer overflows faster than it can be read";
    case ETIMEDOUT:
        return "another process or thread reads the kernel's answers, or the other end of the "
               "descriptor gives none";
    default:
        return lnfq_remedy_descriptor(error);
    }
}

void
lnfq_remedy_taken(char remedy[LNFQ_REMEDY_SIZE], uint16_t queue, const uint32_t *port, bool own)
{
    if (port != NULL) {
        snprintf(remedy, LNFQ_REMEDY_SIZE, "queue number %u is bound by another %s (port id %u)",
                 queue, own ? "handle of this program" : "program", *port);
    }
    else {
        snprintf(remedy, LNFQ_REMEDY_SIZE,
                 "queue number %u is bound by another handle, of this program or of another one",
                 queue);
    }
}

const char *
lnfq_remedy_destroy(int error)
{
    return error == EPERM ? "CAP_NET_ADMIN is needed in the network namespace; closing the handle "
                            "frees the number"
                          : lnfq_remedy_config(error, false);
}

const char *
lnfq_remedy_refusal(int error)
{
    switch (error) {
    case ENOENT:
        return "the kernel has no such packet any more";
    case EPERM:
        return "CAP_NET_ADMIN is needed in the network namespace; the packet waits, and so do all "
               "whose verdicts were sent with it";
    case ENODEV:
        return "the kernel has no such queue any more";
    case EMSGSIZE:
        return "its payload does not fit in the socket's send buffer (SO_SNDBUF); the packet has "
               "had its queue's default verdict";
    default:
        return "";
    }
}
