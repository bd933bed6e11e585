/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The names of devices. The handle's socket is asked, and so the network namespace that its packets
 * are from. Devices may be renamed and removed at any time, and asking is a system call. So an
 * answer is used only for a moment. That saves most of the calls when packets come in quick
 * succession.
 *
 * The handle owns the names; its lock protects them.
 */
#include "name.h"

#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <sys/ioctl.h>

#include "clock.h"
#include "error.h"
#include "handle.h"
#include "lock.h"
#include "remedy.h"

/* How old an answer may be. */
#define NAME_AGE_NS 1000000

static struct lnfq_name *
place(lnfq_handle *handle, uint32_t index)
{
    return &handle->names[index % LNFQ_NAMES];
}

/* The answer of a moment ago, a new reference; NULL if there is none. */
static PyObject *
recall(lnfq_handle *handle, uint32_t index, int64_t now)
{
    PyObject *name = NULL;
    struct lnfq_name *known;

    lnfq_lock_acquire(handle);
    known = place(handle, index);
    if (known->index == index && now - known->time <= NAME_AGE_NS) {
        name = Py_NewRef(known->name);
    }
    lnfq_lock_release(handle);
    return name;
}

static void
remember(lnfq_handle *handle, uint32_t index, int64_t now, PyObject *name)
{
    struct lnfq_name *known;
    PyObject *former;

    lnfq_lock_acquire(handle);
    known = place(handle, index);
    former = known->name;
    *known = (struct lnfq_name){index, now, Py_NewRef(name)};
    lnfq_lock_release(handle);
    Py_XDECREF(former);
}

/* Asks the kernel. Returns 0 or an errno. */
static int
ask(lnfq_handle *handle, struct ifreq *request)
{
    int error = EBADF;

    lnfq_lock_acquire(handle); /* the descriptor stays open */
    if (!handle->closed) {
        error = ioctl(handle->fd, SIOCGIFNAME, request) < 0 ? errno : 0;
    }
    lnfq_lock_release(handle);
    return error;
}

PyObject *
lnfq_name_find(lnfq_handle *handle, uint32_t index, const char *call)
{
    struct ifreq request = {.ifr_ifindex = (int)index};
    int64_t now = lnfq_clock_now();
    PyObject *name;
    int error;

    if (lnfq_handle_check(handle, call) < 0) {
        return NULL;
    }
    if (index == 0) {
        Py_RETURN_NONE;
    }
    name = recall(handle, index, now);
    if (name != NULL) {
        return name;
    }
    error = ask(handle, &request);
    if (error == EBADF && lnfq_handle_check(handle, call) < 0) {
        return NULL;
    }
    if (error != 0 && error != ENODEV) {
        lnfq_error_raise(error, lnfq_remedy_descriptor(error), "%s: device %u", call, index);
        return NULL;
    }
    name = error == 0 ? PyUnicode_DecodeFSDefault(request.ifr_name) : Py_NewRef(Py_None);
    if (name != NULL) {
        remember(handle, index, now, name);
    }
    return name;
}

void
lnfq_name_forget(lnfq_handle *handle)
{
    for (int i = 0; i < LNFQ_NAMES; i++) {
        Py_CLEAR(handle->names[i].name);
    }
}
