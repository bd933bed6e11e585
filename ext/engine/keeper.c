/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A handle whose socket outlives the process; see keeper.h.
 */
#include "keeper.h"

#include "handle.h"

void
lnfq_keeper_note(lnfq_handle *handle, enum lnfq_kept_state state, bool tired, Py_buffer *record,
                 PyObject *on_unbind)
{
    handle->keeper = (struct lnfq_keeper){
        .state = state,
        .tired = tired,
        .view = *record,
        .record = record->buf,
        .on_unbind = Py_NewRef(on_unbind),
    };
}

int
lnfq_keeper_visit(const lnfq_handle *handle, visitproc visit, void *arg)
{
    Py_VISIT(handle->keeper.view.obj);
    Py_VISIT(handle->keeper.on_unbind);
    return 0;
}

void
lnfq_keeper_release(lnfq_handle *handle)
{
    handle->keeper.record = NULL;
    PyBuffer_Release(&handle->keeper.view);
    Py_CLEAR(handle->keeper.on_unbind);
}
