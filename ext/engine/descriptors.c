/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A handle's descriptors; see descriptors.h.
 */
#include "descriptors.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "handle.h"

/* Notes which file a descriptor is on, if there is one; errno stays as it is. */
static struct lnfq_file
file_of(int fd)
{
    struct stat status = {0};
    int error = errno;

    (void)fstat(fd, &status);
    errno = error;
    return (struct lnfq_file){status.st_dev, status.st_ino};
}

static bool
is_on(int fd, const struct lnfq_file *file)
{
    struct lnfq_file now = file_of(fd);

    return fd >= 0 && now.device == file->device && now.inode == file->inode;
}

void
lnfq_descriptors_take(lnfq_handle *handle, int fd)
{
    handle->fd = fd;
    handle->file = file_of(fd);
}

void
lnfq_descriptors_take_wake(lnfq_handle *handle, const int ends[2])
{
    handle->wake_fd = ends[0];
    handle->waker_fd = ends[1];
    handle->wake_file = file_of(ends[0]);
}

/* A number that other code has closed, and that is a stranger's by now, is left to that. */
static void
close_own(int *fd, const struct lnfq_file *file)
{
    if (is_on(*fd, file)) {
        (void)close(*fd);
    }
    *fd = -1;
}

void
lnfq_descriptors_close(lnfq_handle *handle)
{
    close_own(&handle->fd, &handle->file);
    close_own(&handle->wake_fd, &handle->wake_file);
    close_own(&handle->waker_fd, &handle->wake_file);
}

bool
lnfq_descriptors_are_ours(const lnfq_handle *handle)
{
    return is_on(handle->fd, &handle->file);
}

int
lnfq_descriptors_give(lnfq_handle *handle)
{
    int fd = is_on(handle->fd, &handle->file) ? handle->fd : -1;

    handle->fd = -1;
    return fd;
}

void
lnfq_descriptors_leave_stranger(lnfq_handle *handle)
{
    if (!is_on(handle->fd, &handle->file)) {
        handle->fd = -1;
    }
}

void
lnfq_descriptors_wake(lnfq_handle *handle)
{
    if (is_on(handle->waker_fd, &handle->wake_file)) {
        (void)!write(handle->waker_fd, "", 1); /* if it is full, it is readable all the same */
    }
}

void
lnfq_descriptors_calm(lnfq_handle *handle)
{
    char bytes[16];

    while (is_on(handle->wake_fd, &handle->wake_file)
           && read(handle->wake_fd, bytes, sizeof(bytes)) == (ssize_t)sizeof(bytes)) {
    }
}
