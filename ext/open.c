/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Opening handles: on a socket of their own, or on a descriptor that somebody else has opened.
 */
#include "nfq.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

/* The descriptor is there: the rest. Returns the handle, or NULL with an exception. */
static PyObject *
start_handle(lnfq_handle *handle)
{
    int error;

    lnfq_fork_hold_off();
    lnfq_handle_take_wake_fd(handle, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    error = errno;
    lnfq_fork_allow();
    if (handle->wake_fd < 0) {
        lnfq_error_raise(error, "", "open(): eventfd");
        Py_DECREF(handle);
        return NULL;
    }
    handle->closed = false;
    return (PyObject *)handle;
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

static const char *
open_remedy(int error, bool elsewhere)
{
    if (elsewhere && error == EINVAL) {
        return "netns is no network namespace";
    }
    if (elsewhere && error == EPERM) {
        return "entering a network namespace needs CAP_SYS_ADMIN in it and in the program's own";
    }
    return socket_remedy(error);
}

PyObject *
lnfq_handle_open(lnfq_state *state, int netns)
{
    lnfq_handle *handle = lnfq_handle_new(state);
    int error;

    if (handle == NULL) {
        return NULL;
    }
    error = lnfq_netns_open(handle, netns);
    if (error != 0) {
        lnfq_error_raise(error, open_remedy(error, netns >= 0), "open()");
        Py_DECREF(handle);
        return NULL;
    }
    handle->kernel = true;
    handle->outbox.refusable = true;
    return start_handle(handle);
}

/* An int option of a socket, or -1 with OSError. */
static int
socket_option(int fd, int option)
{
    int value;
    socklen_t size = sizeof(value);

    if (getsockopt(fd, SOL_SOCKET, option, &value, &size) < 0) {
        lnfq_error_raise(errno, "", "open(): fd %d", fd);
        return -1;
    }
    return value;
}

/* Whether the descriptor is one that we can use; `kernel` says whether netlink is behind it, and
 * `patient` whether a program is that reads all. */
static int
check_adopted(int fd, bool *kernel, bool *patient)
{
    int domain = socket_option(fd, SO_DOMAIN);
    int type = domain < 0 ? -1 : socket_option(fd, SO_TYPE);
    int protocol = type < 0 ? -1 : socket_option(fd, SO_PROTOCOL);

    if (protocol < 0) {
        return -1;
    }
    *kernel = domain == AF_NETLINK;
    *patient = type == SOCK_SEQPACKET;
    if (*kernel && protocol != NETLINK_NETFILTER) {
        PyErr_Format(PyExc_ValueError,
                     "open(): fd %d is a netlink socket of protocol %d, not NETLINK_NETFILTER", fd,
                     protocol);
        return -1;
    }
    if (type != SOCK_DGRAM && type != SOCK_RAW && type != SOCK_SEQPACKET) {
        PyErr_Format(PyExc_ValueError, "open(): fd %d is no datagram socket", fd);
        return -1;
    }
    return 0;
}

PyObject *
lnfq_handle_adopt(lnfq_state *state, int fd)
{
    lnfq_handle *handle;
    bool kernel, patient;
    int error;

    if (check_adopted(fd, &kernel, &patient) < 0) {
        return NULL;
    }
    handle = lnfq_handle_new(state);
    if (handle == NULL) {
        return NULL;
    }
    handle->kernel = kernel;
    handle->outbox.refusable = kernel;
    handle->adopted = true;
    handle->patient = patient;
    handle->rcvbuf = LNFQ_PEER_RCVBUF;
    handle->exposed = true;
    atomic_store(&handle->datagram_size, LNFQ_DATAGRAM_MAX);
    lnfq_fork_hold_off();
    lnfq_handle_take_fd(handle, fcntl(fd, F_DUPFD_CLOEXEC, 0));
    error = errno;
    lnfq_fork_allow();
    if (handle->fd < 0) {
        lnfq_error_raise(error, "", "open(): fd %d", fd);
        Py_DECREF(handle);
        return NULL;
    }
    return start_handle(handle);
}
