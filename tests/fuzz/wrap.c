/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The functions that fuzz targets may have fail, as they are: for those targets that do not.
 */
#include "fuzz.h"

#define UNLESS_DEFINED __attribute__((weak))

UNLESS_DEFINED void *
__wrap_malloc(size_t size)
{
    return __real_malloc(size);
}

UNLESS_DEFINED void *
__wrap_realloc(void *bytes, size_t size)
{
    return __real_realloc(bytes, size);
}

UNLESS_DEFINED ssize_t
__wrap_send(int fd, const void *bytes, size_t size, int flags)
{
    return __real_send(fd, bytes, size, flags);
}

UNLESS_DEFINED ssize_t
__wrap_sendmsg(int fd, const struct msghdr *message, int flags)
{
    return __real_sendmsg(fd, message, flags);
}

UNLESS_DEFINED bool
__wrap_lnfq_transport_permitted(void)
{
    return __real_lnfq_transport_permitted();
}
