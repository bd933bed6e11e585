/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sockets in other network namespaces. A thread of its own enters the namespace and opens the
 * socket there, so that the caller never leaves its own. No state, no lock.
 */
#define _GNU_SOURCE /* setns */
#include "nfq.h"

#include <errno.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <linux/netlink.h>
#include <linux/sockios.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

struct opening {
    int netns;
    struct mnl_socket *socket;
    int error;
};

/* In the namespace that the thread is in. Not by nfq_open, whose descriptor a program that another
 * thread starts at this moment would inherit, and with it the queues. */
static struct mnl_socket *
open_here(int *error)
{
    struct mnl_socket *socket = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);

    if (socket == NULL) {
        *error = errno;
        return NULL;
    }
    if (mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID) < 0) {
        *error = errno;
        (void)mnl_socket_close(socket);
        return NULL;
    }
    return socket;
}

static void *
open_there(void *argument)
{
    struct opening *opening = argument;

    if (setns(opening->netns, CLONE_NEWNET) < 0) {
        opening->error = errno;
        return NULL;
    }
    opening->socket = open_here(&opening->error);
    return NULL;
}

static struct mnl_socket *
open_elsewhere(int netns, int *error)
{
    struct opening opening = {.netns = netns};
    sigset_t all, before;
    pthread_t thread;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for the program's own threads */
    *error = pthread_create(&thread, NULL, open_there, &opening);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (*error != 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    pthread_join(thread, NULL);
    Py_END_ALLOW_THREADS
    *error = opening.error;
    return opening.socket;
}

struct mnl_socket *
lnfq_netns_open(int netns, int *error)
{
    return netns < 0 ? open_here(error) : open_elsewhere(netns, error);
}

/* Opens a path; -1 with OSError. */
static int
open_path(PyObject *object)
{
    PyObject *path;
    int fd;

    if (!PyUnicode_FSConverter(object, &path)) {
        if (PyErr_ExceptionMatches(PyExc_ValueError)) {
            lnfq_refuse(PyExc_ValueError, object, "open(): netns must be a path");
        }
        return -1;
    }
    Py_BEGIN_ALLOW_THREADS
    fd = open(PyBytes_AS_STRING(path), O_RDONLY | O_CLOEXEC);
    Py_END_ALLOW_THREADS
    if (fd < 0) {
        lnfq_error_raise(errno, "", "open(): netns '%.200s'", PyBytes_AS_STRING(path));
    }
    Py_DECREF(path);
    return fd;
}

/* Copies a descriptor, which the caller may close meanwhile; -1 with an exception. */
static int
copy_descriptor(PyObject *object)
{
    int fd = lnfq_parse_descriptor(object, "open(): netns", "a path, ");
    int copy;

    if (fd < 0) {
        return -1;
    }
    copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (copy < 0) {
        lnfq_error_raise(errno, "", "open(): netns %d", fd);
    }
    return copy;
}

int
lnfq_netns_descriptor(PyObject *object)
{
    PyObject *path = PyOS_FSPath(object);
    PyObject *error;
    int fd;

    if (path != NULL) {
        fd = open_path(path);
        Py_DECREF(path);
        return fd;
    }
    error = lnfq_error_take();
    if (PyObject_HasAttrString((PyObject *)Py_TYPE(object), "__fspath__")) {
        lnfq_error_restore(error); /* a path's own */
        return -1;
    }
    Py_DECREF(error);
    return copy_descriptor(object);
}

bool
lnfq_netns_is_ours(int socket)
{
    int netns = ioctl(socket, SIOCGSKNS);
    struct stat theirs, ours;
    bool same;

    if (netns < 0) {
        return false;
    }
    same = fstat(netns, &theirs) == 0 && stat("/proc/thread-self/ns/net", &ours) == 0
           && theirs.st_dev == ours.st_dev && theirs.st_ino == ours.st_ino;
    (void)close(netns);
    return same;
}
