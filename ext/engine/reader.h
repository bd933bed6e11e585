/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Readers of a handle, the calls of `process` and `handle_packet`, and where one may wait.
 *
 * One that waits on the descriptor makes two system calls for a packet: one that waits, and one
 * that receives. A sole reader that waits for ever may wait inside the one that receives. It has
 * neither the GIL nor the lock there, and nobody knows what it has got until it has the lock again.
 * So whoever reads too, configures or closes gets it out first, and it waits on the descriptor as
 * long as they are there. A marker gets it out: its acknowledgement ends any receiving.
 */
#ifndef LNFQ_READER_H
#define LNFQ_READER_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>

#include "forward.h"
#include "inlets.h"

/* With the GIL and without the lock: a call begins to read, or ends. */
void lnfq_reader_begin(lnfq_handle *handle);
void lnfq_reader_end(lnfq_handle *handle);

/* With the lock, which it gives up meanwhile, and without the GIL: waits inside the system call
 * that receives, but not for long. Returns what lnfq_inlets_receive does, -EINTR after a signal,
 * -EAGAIN once that was too long, or -EBUSY where it may not wait there, and has not looked. */
int lnfq_reader_wait(lnfq_handle *handle, struct lnfq_inlets *inlets, unsigned int count);

/* With the GIL and without the lock: nobody waits there from now on, until the second one is
 * called. They may nest. */
void lnfq_reader_expel(lnfq_handle *handle);
void lnfq_reader_admit(lnfq_handle *handle);

/* The same, and takes the lock and gives up the GIL; and the reverse. */
PyThreadState *lnfq_reader_lock_out(lnfq_handle *handle);
void lnfq_reader_let_in(lnfq_handle *handle, PyThreadState *thread);

/* With the lock, once readers are expelled: the descriptor is another's, and waits without a limit.
 */
void lnfq_reader_lift_limit(lnfq_handle *handle);

/* With the GIL and without the lock: the handle's descriptor, -1 where it is closed. If it is
 * exposed by that, others may read and close it from now on. */
int lnfq_reader_descriptor(lnfq_handle *handle, bool expose);

#endif
