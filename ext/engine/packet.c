/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A packet: its object; see packet.h.
 *
 * While its callback runs, its slot may be the buffer that the message came in. A packet that
 * outlives its callback gets a slot with a copy, and the garbage collector tracks it from then on.
 * The handle's lock protects the fields of the verdict. The packet's own critical section protects
 * `slot` and `bytes`, because another thread may read an attribute while the message is copied. The
 * rest doesn't change.
 */
#include "packet.h"

#include <string.h>

#include "error.h"
#include "handle.h"
#include "index.h"
#include "kept.h"
#include "listener.h"
#include "lock.h"
#include "queue.h"
#include "reference.h"
#include "seldom.h"
#include "slot.h"
#include "state.h"

lnfq_packet *
lnfq_packet_new(lnfq_state *state)
{
    lnfq_packet *packet = PyObject_GC_New(lnfq_packet, state->packet_type);

    if (packet != NULL) {
        packet->queue = NULL;
        packet->slot = NULL;
        packet->kept = NULL;
        packet->state = LNFQ_PACKET_EXECUTED;
        packet->verdict.owner = NULL;
        packet->verdict.options = NULL;
        lnfq_reference_share((PyObject *)packet);
    }
    return packet;
}

/* Options, and a payload whose verdict was never executed. */
static void
let_verdict_go(lnfq_packet *packet)
{
    PyObject *payload = packet->verdict.owner;
    struct lnfq_attributes *options = packet->verdict.options;

    packet->verdict.owner = NULL;
    packet->verdict.options = NULL;
    lnfq_packet_let_go(payload, options);
}

inline void
lnfq_packet_blank(lnfq_packet *packet)
{
    packet->state = LNFQ_PACKET_EXECUTED;
    let_verdict_go(packet);
    Py_CLEAR(packet->queue);
    Py_CLEAR(packet->slot);
}

int
lnfq_packet_copy(lnfq_packet *packet)
{
    size_t size = packet->index.size;
    lnfq_slot *slot, *former;

    PyObject_GC_Track(packet);
    slot = lnfq_slot_new(packet->queue->handle->state, size);
    if (slot == NULL) {
        lnfq_slot_track(packet->slot); /* whose other owner lives on */
        return -1;
    }
    memcpy(slot->bytes, packet->bytes, size);
    Py_BEGIN_CRITICAL_SECTION(packet);
    former = packet->slot;
    packet->slot = slot;
    packet->bytes = slot->bytes;
    Py_END_CRITICAL_SECTION();
    Py_DECREF(former);
    return 0;
}

int
lnfq_packet_export(lnfq_packet *packet, Py_buffer *buffer, int flags)
{
    const unsigned char *payload;
    lnfq_slot *slot;
    int exported;

    Py_BEGIN_CRITICAL_SECTION(packet);
    slot = (lnfq_slot *)Py_NewRef((PyObject *)packet->slot);
    payload = lnfq_index_value(&packet->index, packet->bytes, NFQA_PAYLOAD);
    Py_END_CRITICAL_SECTION();
    lnfq_slot_track(slot);
    /* The buffer protocol has no pointer to const; that it is read-only is said by the flag. */
    exported = PyBuffer_FillInfo(buffer, (PyObject *)slot, (void *)(uintptr_t)payload,
                                 lnfq_index_length(&packet->index, NFQA_PAYLOAD), 1, flags);
    Py_DECREF(slot);
    return exported;
}

/* Whoever has to try again is told, in a destructor. */
LNFQ_SELDOM static void
packet_tell_unsent(lnfq_handle *handle)
{
    PyObject *raised = lnfq_error_take();

    if (lnfq_listener_call_unsent(handle) < 0) {
        PyErr_WriteUnraisable((PyObject *)handle);
    }
    if (raised != NULL) {
        lnfq_error_restore(raised);
    }
}

/*
 * The destructor: nobody can give the packet a verdict any more. It never waits for the lock: if
 * the lock is taken, the thread that releases it gives the default, and nobody hears here whether
 * it could send it. Behind a pair the verdict may wait for room, and not with the GIL: see peer.c.
 */
static void
packet_forget(lnfq_packet *packet)
{
    lnfq_handle *handle = packet->queue->handle;
    struct lnfq_kept *debt = packet->kept;
    PyThreadState *thread;
    bool paid;

    packet->kept = NULL;
    debt->next_debt = atomic_load(&handle->debts);
    while (!atomic_compare_exchange_weak(&handle->debts, &debt->next_debt, debt)) {
    }
    thread = handle->patient ? PyEval_SaveThread() : NULL;
    paid = lnfq_mutex_try(&handle->lock);
    if (paid) {
        lnfq_lock_release(handle);
    }
    if (thread != NULL) {
        PyEval_RestoreThread(thread);
    }
    if (!paid || atomic_load(&handle->unsent)) {
        packet_tell_unsent(handle);
    }
}

void
lnfq_packet_end(lnfq_packet *packet)
{
    if (packet->state == LNFQ_PACKET_KEPT && packet->kept != NULL
        && !lnfq_handle_forked(packet->queue->handle)) {
        packet_forget(packet);
    }
    let_verdict_go(packet);
}

uint32_t
lnfq_packet_number(lnfq_packet *packet, unsigned int attribute)
{
    uint32_t number;

    Py_BEGIN_CRITICAL_SECTION(packet);
    number = lnfq_index_u32(&packet->index, packet->bytes, attribute);
    Py_END_CRITICAL_SECTION();
    return number;
}

uint32_t
lnfq_packet_original_length(lnfq_packet *packet)
{
    uint32_t length;

    Py_BEGIN_CRITICAL_SECTION(packet);
    length = lnfq_index_original_length(&packet->index, packet->bytes);
    Py_END_CRITICAL_SECTION();
    return length;
}

bool
lnfq_packet_truncated(lnfq_packet *packet)
{
    bool truncated;

    Py_BEGIN_CRITICAL_SECTION(packet);
    truncated = lnfq_index_truncated(&packet->index, packet->bytes);
    Py_END_CRITICAL_SECTION();
    return truncated;
}
