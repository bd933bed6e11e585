/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Other network namespaces. A separate thread enters one, so that the caller stays in its own.
 * There is no state and no lock.
 */
#define _GNU_SOURCE /* setns */
#include "netns.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/sockios.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arguments.h"
#include "error.h"

struct visit {
    int netns;
    int (*function)(void *argument);
    void *argument;
    int result;
};

static void *
visit_start(void *argument)
{
    struct visit *visit = argument;

    visit->result =
        setns(visit->netns, CLONE_NEWNET) < 0 ? errno : visit->function(visit->argument);
    return NULL;
}

int
lnfq_netns_run(int netns, int (*function)(void *argument), void *argument)
{
    struct visit visit = {.netns = netns, .function = function, .argument = argument};
    sigset_t all, before;
    pthread_t thread;
    int error;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for the program's own threads */
    error = pthread_create(&thread, NULL, visit_start, &visit);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0) {
        return error;
    }
    pthread_join(thread, NULL);
    return visit.result;
}

/* Opens a path; -1 with OSError. */
static int
open_path(PyObject *object)
{
    PyObject *path;
    int fd;

    if (!PyUnicode_FSConverter(object, &path)) {
        if (PyErr_ExceptionMatches(PyExc_ValueError)) {
            lnfq_arguments_refuse(PyExc_ValueError, object, "open(): netns must be a path");
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
    int fd = lnfq_arguments_descriptor(object, "open(): netns", "a path, ");
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

int
lnfq_netns_run_beside(int socket, int (*function)(void *argument), void *argument)
{
    int netns, error;

    if (lnfq_netns_is_ours(socket)) {
        return function(argument);
    }
    netns = ioctl(socket, SIOCGSKNS);
    if (netns < 0) {
        return errno;
    }
    error = lnfq_netns_run(netns, function, argument);
    (void)close(netns);
    return error;
}
