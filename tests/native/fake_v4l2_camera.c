/* Stands in for a webcam at /dev/video43, preloaded into a process: every picture is the same one.
 *
 * FAKE_CAMERA_MEMORY  a file for its buffers
 * FAKE_CAMERA_YUYV    a file with a raw picture of that size
 * FAKE_CAMERA_JPEG    a file with a JPEG picture; without it there is no MJPEG
 * FAKE_CAMERA_SIZE    "width height rate", the only ones it has
 * FAKE_CAMERA_STATE   a file: p it plays, s it hangs, u it is unplugged, b it is busy, f forbidden
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BUFFERS = 4, PAGE = 4096 };
static const char *DEVICE = "/dev/video43";
static unsigned width, height, rate, compressed, used, taken, queued;
static int memory = -1;
static struct timespec due;

static size_t room(void) { return ((size_t)width * height * 2 + PAGE - 1) / PAGE * PAGE; }

static int fail(int number) {
    errno = number;
    return -1;
}

static char state(void) {
    FILE *file = fopen(getenv("FAKE_CAMERA_STATE"), "r");
    int found = file ? fgetc(file) : 'u';
    if (file)
        fclose(file);
    return (char)found;
}

static int open_as(const char *name, const char *path, int flags, mode_t mode) {
    int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, name);
    if (strcmp(path, DEVICE) != 0)
        return real(path, flags, mode);
    switch (state()) {
    case 'u': return fail(ENOENT);
    case 'b': return fail(EBUSY);
    case 'f': return fail(EACCES);
    }
    sscanf(getenv("FAKE_CAMERA_SIZE"), "%u %u %u", &width, &height, &rate);
    return memory = real(getenv("FAKE_CAMERA_MEMORY"), O_RDWR | O_CREAT, 0600);
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

static int format(struct v4l2_format *asked, int set) {
    if (set)
        compressed = asked->fmt.pix.pixelformat == V4L2_PIX_FMT_MJPEG && getenv("FAKE_CAMERA_JPEG");
    asked->fmt.pix.width = width;
    asked->fmt.pix.height = height;
    asked->fmt.pix.pixelformat = compressed ? V4L2_PIX_FMT_MJPEG : V4L2_PIX_FMT_YUYV;
    asked->fmt.pix.field = V4L2_FIELD_NONE;
    asked->fmt.pix.bytesperline = compressed ? 0 : width * 2;
    asked->fmt.pix.sizeimage = width * height * 2;
    return 0;
}

static int request_buffers(struct v4l2_requestbuffers *asked) {
    char *picture = malloc(room());
    FILE *file = fopen(getenv(compressed ? "FAKE_CAMERA_JPEG" : "FAKE_CAMERA_YUYV"), "rb");
    used = fread(picture, 1, room(), file);
    fclose(file);
    for (int i = 0; i < BUFFERS; i++)
        if (pwrite(memory, picture, room(), i * room()) < 0)
            return -1;
    free(picture);
    asked->count = BUFFERS;
    return 0;
}

static int describe(struct v4l2_buffer *buffer) {
    buffer->length = room();
    buffer->m.offset = buffer->index * room();
    return 0;
}

/* Waits for the next picture; its time stamp is when it was due, however late it is fetched. */
static int take(struct v4l2_buffer *buffer) {
    while (state() == 's' || !queued)
        usleep(2000);
    if (state() == 'u')
        return fail(ENODEV);
    due.tv_nsec += 1000000000 / rate;
    if (due.tv_nsec >= 1000000000)
        due.tv_sec++, due.tv_nsec -= 1000000000;
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
    buffer->index = taken++ % BUFFERS;
    buffer->bytesused = used;
    buffer->flags = V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC;
    buffer->timestamp.tv_sec = due.tv_sec;
    buffer->timestamp.tv_usec = due.tv_nsec / 1000;
    queued--;
    return 0;
}

static int start(void) {
    taken = 0;
    return clock_gettime(CLOCK_MONOTONIC, &due);
}

static int about(struct v4l2_capability *asked) {
    memset(asked, 0, sizeof *asked);
    asked->capabilities = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING | V4L2_CAP_DEVICE_CAPS;
    asked->device_caps = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING;
    return 0;
}

static int parameters(struct v4l2_streamparm *asked) {
    asked->parm.capture.capability = V4L2_CAP_TIMEPERFRAME;
    asked->parm.capture.timeperframe.numerator = 1;
    asked->parm.capture.timeperframe.denominator = rate;
    return 0;
}

int ioctl(int fd, unsigned long request, ...) {
    va_list rest;
    va_start(rest, request);
    void *data = va_arg(rest, void *);
    va_end(rest);
    if (fd == memory && memory >= 0) switch ((unsigned)request) {
    case VIDIOC_QUERYCAP: return about(data);
    case VIDIOC_S_FMT: return format(data, 1);
    case VIDIOC_G_FMT: return format(data, 0);
    case VIDIOC_G_PARM:
    case VIDIOC_S_PARM: return parameters(data);
    case VIDIOC_REQBUFS: return request_buffers(data);
    case VIDIOC_QUERYBUF: return describe(data);
    case VIDIOC_QBUF: queued++; return 0;
    case VIDIOC_STREAMON: return start();
    case VIDIOC_STREAMOFF: queued = 0; return 0;
    case VIDIOC_DQBUF: return take(data);
    case VIDIOC_G_INPUT: *(int *)data = 0; return 0;
    case VIDIOC_ENUMINPUT: memset((char *)data + 4, 0, sizeof(struct v4l2_input) - 4); return 0;
    default: return fail(ENOTTY);
    }
    int (*real)(int, unsigned long, ...) = dlsym(RTLD_NEXT, "ioctl");
    return real(fd, request, data);
}
