/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Other network namespaces. There is no state and no lock.
 */
#ifndef LNFQ_NETNS_H
#define LNFQ_NETNS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>

/* Calls a function in the network namespace that `netns` is a descriptor on, in a thread of its
 * own, and waits for that. Without the GIL. Returns what the function does, or an errno. */
int lnfq_netns_run(int netns, int (*function)(void *argument), void *argument);

/* A descriptor on the namespace that a path or a descriptor stands for; -1 with an exception. */
int lnfq_netns_descriptor(PyObject *object);

/* Whether the socket is of the calling thread's namespace. */
bool lnfq_netns_is_ours(int socket);

/* The same in the socket's namespace, without a thread where that is the caller's. */
int lnfq_netns_run_beside(int socket, int (*function)(void *argument), void *argument);

#endif
