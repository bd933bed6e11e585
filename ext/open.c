/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Opening handles: on a socket of their own, or on a descriptor that somebody else has opened.
 */
#include "nfq.h"

#include <errno.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

/* The descriptor is there: the rest. Returns the handle, or NULL with an exception. */
static PyObject *
start_handle(lnfq_handle *handle)
{
    handle->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (handle->wake_fd < 0) {
        lnfq_error_raise(errno, "", "open(): eventfd");
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
    handle->socket = lnfq_netns_open(netns, &error);
    if (handle->socket == NULL) {
        lnfq_error_raise(error, open_remedy(error, netns >= 0), "open()");
        Py_DECREF(handle);
        return NULL;
    }
    handle->fd = mnl_socket_get_fd(handle->socket);
    handle->kernel = true;
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

/* Whether the descriptor is one that we can use, and `kernel` whether netlink is behind it. */
static int
check_adopted(int fd, bool *kernel)
{
    int domain = socket_option(fd, SO_DOMAIN);
    int type = domain < 0 ? -1 : socket_option(fd, SO_TYPE);
    int protocol = type < 0 ? -1 : socket_option(fd, SO_PROTOCOL);

    if (protocol < 0) {
        return -1;
    }
    *kernel = domain == AF_NETLINK;
    if (*kernel && protocol != NETLINK_NETFILTER) {
        PyErr_Format(PyExc_ValueError,
                     "open(): fd %d is a netlink socket of protocol %d, not NETLINK_NETFILTER", fd,
                     protocol);
        return -1;
    }
    if (type != SOCK_DGRAM && type != SOCK_RAW) {
        PyErr_Format(PyExc_ValueError, "open(): fd %d is no datagram socket", fd);
        return -1;
    }
    return 0;
}

PyObject *
lnfq_handle_adopt(lnfq_state *state, int fd)
{
    lnfq_handle *handle;
    bool kernel;

    if (check_adopted(fd, &kernel) < 0) {
        return NULL;
    }
    handle = lnfq_handle_new(state);
    if (handle == NULL) {
        return NULL;
    }
    handle->kernel = kernel;
    handle->exposed = true;
    atomic_store(&handle->datagram_size, LNFQ_DATAGRAM_MAX);
    handle->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (handle->fd < 0) {
        lnfq_error_raise(errno, "", "open(): fd %d", fd);
        Py_DECREF(handle);
        return NULL;
    }
    return start_handle(handle);
}
