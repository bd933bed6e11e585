/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Opening handles: on a socket of their own, or on a descriptor that somebody else has opened.
 */
#include "open.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "descriptors.h"
#include "error.h"
#include "fork.h"
#include "handle.h"
#include "netns.h"
#include "peer.h"
#include "remedy.h"
#include "state.h"
#include "transport.h"

/* The descriptor is there: the rest. Returns the handle, or NULL with an exception. */
static PyObject *
start_handle(lnfq_handle *handle)
{
    int ends[2];
    int error = 0;

    lnfq_fork_hold_off();
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0) {
        lnfq_descriptors_take_wake(handle, ends);
    }
    else {
        error = errno;
    }
    lnfq_fork_allow();
    if (error != 0) {
        lnfq_error_raise(error, "", "open(): pipe2");
        Py_DECREF(handle);
        return NULL;
    }
    handle->closed = false;
    return (PyObject *)handle;
}

/* Opens a socket in the thread's network namespace. nfq_open is not used: a program that another
 * thread starts at this moment would inherit its descriptor, and with it the queues. Returns 0 or
 * an errno. */
static int
open_here(void *argument)
{
    const struct sockaddr_nl anywhere = {.nl_family = AF_NETLINK}; /* the kernel picks the port */
    lnfq_handle *handle = argument;
    int error = 0;

    lnfq_fork_hold_off();
    lnfq_descriptors_take(handle, socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER));
    if (handle->fd < 0
        || bind(handle->fd, (const struct sockaddr *)&anywhere, sizeof(anywhere)) < 0) {
        error = errno;
    }
    lnfq_fork_allow();
    return error;
}

PyObject *
lnfq_open_socket(lnfq_state *state, int netns)
{
    lnfq_handle *handle = lnfq_handle_new(state);
    int error;

    if (handle == NULL) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    error = netns < 0 ? open_here(handle) : lnfq_netns_run(netns, open_here, handle);
    Py_END_ALLOW_THREADS
    if (error != 0) {
        lnfq_error_raise(error, lnfq_remedy_open(error, netns >= 0), "open()");
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
    int error = lnfq_transport_get_option(fd, SOL_SOCKET, option, &value);

    if (error != 0) {
        lnfq_error_raise(error, "", "open(): fd %d", fd);
        return -1;
    }
    return value;
}

/* Whether we can use the descriptor. `kernel` says whether it is a netlink socket, and `patient`
 * whether a program is behind it that reads everything. */
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
        PyErr_Format(PyExc_ValueError, "open(): fd %d is not a datagram socket", fd);
        return -1;
    }
    return 0;
}

/* A number that other processes hardly have in their requests on the same socket. */
static uint32_t
rare_number(void)
{
    uint32_t number = 0;

    (void)getrandom(&number, sizeof(number), GRND_NONBLOCK);
    return number;
}

PyObject *
lnfq_open_adopted(lnfq_state *state, int fd)
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
    handle->seq = rare_number(); /* answers to others' requests come here too */
    handle->port = rare_number();
    atomic_store(&handle->datagram_size, LNFQ_DATAGRAM_MAX);
    lnfq_fork_hold_off();
    lnfq_descriptors_take(handle, fcntl(fd, F_DUPFD_CLOEXEC, 0));
    error = errno;
    lnfq_fork_allow();
    if (handle->fd < 0) {
        lnfq_error_raise(error, "", "open(): fd %d", fd);
        Py_DECREF(handle);
        return NULL;
    }
    return start_handle(handle);
}
