/* Stands in for v4l2loopback's /dev/video42, preloaded into a process: what is written to the
 * device is appended to the file FAKE_V4L2_FRAMES; the format asked for goes to FAKE_V4L2_FORMAT
 * as "width height fourcc". While FAKE_V4L2_BUSY is a file, no format can be set. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *DEVICE = "/dev/video42";

static int open_as(const char *name, const char *path, int flags, mode_t mode) {
    int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, name);
    if (strcmp(path, DEVICE) != 0)
        return real(path, flags, mode);
    return real(getenv("FAKE_V4L2_FRAMES"), (flags & O_ACCMODE) | O_CREAT | O_APPEND, 0600);
}

#define OPEN(NAME)                                     \
    int NAME(const char *path, int flags, ...) {       \
        va_list rest;                                  \
        va_start(rest, flags);                         \
        mode_t mode = va_arg(rest, mode_t);            \
        va_end(rest);                                  \
        return open_as(#NAME, path, flags, mode);      \
    }
OPEN(open)
OPEN(open64)

static int set_format(const struct v4l2_format *format) {
    const char *busy = getenv("FAKE_V4L2_BUSY");
    if (busy && access(busy, F_OK) == 0) {
        errno = EBUSY;
        return -1;
    }
    FILE *file = fopen(getenv("FAKE_V4L2_FORMAT"), "w");
    fprintf(file, "%u %u %.4s", format->fmt.pix.width, format->fmt.pix.height,
            (const char *)&format->fmt.pix.pixelformat);
    return fclose(file);
}

int ioctl(int fd, unsigned long request, ...) {
    va_list rest;
    va_start(rest, request);
    void *data = va_arg(rest, void *);
    va_end(rest);
    if (request == VIDIOC_S_FMT)
        return set_format(data);
    if (request == VIDIOC_QUERYCAP) {
        struct v4l2_capability *about = data;
        memset(about, 0, sizeof *about);
        strcpy((char *)about->driver, "v4l2 loopback");
        about->capabilities = V4L2_CAP_VIDEO_OUTPUT | V4L2_CAP_READWRITE;
        return 0;
    }
    int (*real)(int, unsigned long, ...) = dlsym(RTLD_NEXT, "ioctl");
    return real(fd, request, data);
}
