/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What one system call received; see batch.h.
 */
#include "batch.h"

#include <stdlib.h>

#include "handle.h"
#include "inlets.h"
#include "reader.h"
#include "reference.h"
#include "slot.h"

/* Lets its slots go. */
static void
batch_clear(lnfq_batch *batch)
{
    for (int i = 0; i < LNFQ_BATCH_MAX; i++) {
        Py_CLEAR(batch->slots[i]);
    }
}

void
lnfq_batch_free(lnfq_batch *batch)
{
    if (batch != NULL) {
        batch_clear(batch);
        lnfq_inlets_free(batch->inlets);
        free(batch);
    }
}

int
lnfq_batch_visit(const lnfq_batch *batch, visitproc visit, void *arg)
{
    int stop = 0;

    for (int i = 0; batch != NULL && i < LNFQ_BATCH_MAX && stop == 0; i++) {
        stop = lnfq_slot_visit(batch->slots[i], visit, arg);
    }
    return stop;
}

static lnfq_batch *
batch_new(void)
{
    lnfq_batch *batch = calloc(1, sizeof(*batch));

    if (batch == NULL) {
        return NULL;
    }
    batch->inlets = lnfq_inlets_new(LNFQ_BATCH_MAX);
    if (batch->inlets == NULL) {
        free(batch);
        return NULL;
    }
    return batch;
}

void
lnfq_batch_give_back(lnfq_handle *handle, lnfq_batch *batch)
{
    lnfq_batch_free(atomic_exchange(&handle->spare, batch));
    lnfq_reader_end(handle);
}

lnfq_batch *
lnfq_batch_take(lnfq_handle *handle)
{
    lnfq_batch *batch = atomic_exchange(&handle->spare, NULL);

    lnfq_reader_begin(handle);
    if (batch == NULL) {
        batch = batch_new();
    }
    if (batch == NULL) {
        lnfq_batch_give_back(handle, NULL);
        PyErr_NoMemory();
    }
    return batch;
}

/* A slot that nobody looks into. Returns 0 or -1. */
static int
renew(lnfq_handle *handle, lnfq_batch *batch, unsigned int at)
{
    lnfq_slot *slot = batch->slots[at];

    if (slot != NULL && lnfq_reference_sole((PyObject *)slot)) {
        return 0;
    }
    slot = lnfq_slot_new(handle->state, batch->slot_size);
    if (slot == NULL) {
        return -1;
    }
    Py_XSETREF(batch->slots[at], slot);
    lnfq_inlets_set(batch->inlets, at, slot->bytes, batch->slot_size);
    return 0;
}

int
lnfq_batch_prepare(lnfq_handle *handle, lnfq_batch *batch, unsigned int count)
{
    size_t size = atomic_load(&handle->datagram_size);

    if (batch->slot_size < size) {
        batch_clear(batch);
        batch->slot_size = size;
        batch->touched = LNFQ_BATCH_MAX;
    }
    /* Each slot is in a page of its own, and looking at all of them would cost a lone packet more
     * than its callback. */
    for (unsigned int i = 0; i < count && i < batch->touched; i++) {
        if (renew(handle, batch, i) < 0) {
            return -1;
        }
    }
    if (count >= batch->touched) {
        batch->touched = 0;
    }
    return 0;
}
