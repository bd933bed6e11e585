/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * To be preloaded: lets allocations fail that the extension makes, by itself or by the functions of
 * Python and of libraries that it calls, and counts those that nobody has freed. Not those of
 * Python code that it calls back. For glibc, whose functions have a second name.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <link.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH 24 /* frames that are looked at */

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *bytes, size_t size);
void __libc_free(void *bytes);

void failing_malloc_begin(long first, long last);
long failing_malloc_end(void);
long failing_malloc_live(void);

/* Code: that of the extension, and that of Python's interpreter loop. */
struct code {
    uintptr_t low;
    uintptr_t high;
};

/* What is alive: a table with open addressing. */
#define PLACES 8192

static void *places[PLACES];
static long live;
static atomic_flag busy = ATOMIC_FLAG_INIT;

static struct code extension, interpreter;
static long first_failure, last_failure, count;
static __thread bool armed;

static int
find_extension(struct dl_phdr_info *object, size_t size, void *data)
{
    (void)size;
    (void)data;
    if (strstr(object->dlpi_name, "libnetfilterqueue/_ext.") == NULL) {
        return 0;
    }
    for (int i = 0; i < object->dlpi_phnum; i++) {
        if (object->dlpi_phdr[i].p_flags & PF_X) {
            extension.low = object->dlpi_addr + object->dlpi_phdr[i].p_vaddr;
            extension.high = extension.low + object->dlpi_phdr[i].p_memsz;
        }
    }
    return 1;
}

static void
find_interpreter(void)
{
    void *loop = dlsym(RTLD_DEFAULT, "_PyEval_EvalFrameDefault");
    const ElfW(Sym) * symbol;
    Dl_info info;

    if (loop != NULL && dladdr1(loop, &info, (void **)&symbol, RTLD_DL_SYMENT) != 0) {
        interpreter.low = (uintptr_t)loop;
        interpreter.high = interpreter.low + symbol->st_size;
    }
}

static bool
within(const struct code *code, const void *address)
{
    return (uintptr_t)address >= code->low && (uintptr_t)address < code->high;
}

/* From now on, in this thread, the allocations with these numbers fail; they count from 1. */
void
failing_malloc_begin(long first, long last)
{
    void *frame;

    (void)dl_iterate_phdr(find_extension, NULL);
    find_interpreter();
    (void)backtrace(&frame, 1); /* it allocates when it is first used */
    first_failure = first;
    last_failure = last;
    count = 0;
    armed = true;
}

/* No more; returns how many allocations there were. */
long
failing_malloc_end(void)
{
    armed = false;
    return count;
}

/* Whether the extension is closer in the stack than a function of Python code. */
static bool
is_ours(void)
{
    void *frames[DEPTH];
    int depth = backtrace(frames, DEPTH);

    for (int i = 0; i < depth && !within(&interpreter, frames[i]); i++) {
        if (within(&extension, frames[i])) {
            return true;
        }
    }
    return false;
}

/* What becomes of an allocation. */
enum fate { OTHERS, OURS, FAILS };

static enum fate
decide(void)
{
    bool ours;

    if (!armed) {
        return OTHERS;
    }
    armed = false; /* what looks at the stack may allocate */
    ours = is_ours();
    armed = true;
    if (!ours) {
        return OTHERS;
    }
    count += 1;
    if (count < first_failure || count > last_failure) {
        return OURS;
    }
    errno = ENOMEM;
    return FAILS;
}

/* ---- what is alive ---- */

long
failing_malloc_live(void)
{
    return live;
}

static size_t
home(const void *bytes)
{
    return ((uintptr_t)bytes >> 4) * 0x9e3779b1u % PLACES;
}

static void
lock(void)
{
    while (atomic_flag_test_and_set(&busy)) {
    }
}

static void
unlock(void)
{
    atomic_flag_clear(&busy);
}

static void
insert(void *bytes)
{
    size_t at = home(bytes);

    while (places[at] != NULL) {
        at = (at + 1) % PLACES;
    }
    places[at] = bytes;
}

static void *
note(void *bytes)
{
    lock();
    live += 1;
    if (live >= PLACES) {
        abort();
    }
    insert(bytes);
    unlock();
    return bytes;
}

/* Whether it was there; those that come behind it in the table move up. */
static bool
forget(const void *bytes)
{
    size_t at = home(bytes);
    bool found;

    if (bytes == NULL || live == 0) {
        return false;
    }
    lock();
    while (places[at] != NULL && places[at] != bytes) {
        at = (at + 1) % PLACES;
    }
    found = places[at] != NULL;
    live -= found;
    while (places[at] != NULL) {
        void *moved = places[at];

        places[at] = NULL;
        if (moved != bytes) {
            insert(moved);
        }
        at = (at + 1) % PLACES;
    }
    unlock();
    return found;
}

/* ---- the functions that are replaced ---- */

void *
malloc(size_t size)
{
    enum fate fate = decide();

    if (fate == FAILS) {
        return NULL;
    }
    return fate == OURS ? note(__libc_malloc(size)) : __libc_malloc(size);
}

void *
calloc(size_t number, size_t size)
{
    enum fate fate = decide();

    if (fate == FAILS) {
        return NULL;
    }
    return fate == OURS ? note(__libc_calloc(number, size)) : __libc_calloc(number, size);
}

void *
realloc(void *bytes, size_t size)
{
    enum fate fate = decide();

    if (fate == FAILS) {
        return NULL;
    }
    if (forget(bytes) || fate == OURS) {
        return note(__libc_realloc(bytes, size));
    }
    return __libc_realloc(bytes, size);
}

void
free(void *bytes)
{
    (void)forget(bytes);
    __libc_free(bytes);
}
