/* Preloaded into a node by the fault driver: fails or delays its work with the files of a folder, and sets its clock.
   What it does is read from a file that is mapped into memory, so that the driver can change it at any time. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static struct control {
    int32_t write_error, sync_error, read_error, sync_delay_ms;
    int64_t clock_offset_s;
} nothing;
// Other libraries are initialized before this one, and open files.
static volatile struct control *control = &nothing;
static const char *folder;

__attribute__((constructor)) static void begin(void) {
    folder = getenv("FAULTS_FOLDER");
    const char *path = getenv("FAULTS_CONTROL");
    int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
    int fd = path ? real(path, O_RDONLY) : -1;
    if (fd < 0) return;
    void *mapped = mmap(NULL, sizeof nothing, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (mapped != MAP_FAILED) control = mapped;
}

static int ours(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0 || !folder) return 0;
    path[n] = 0;
    return strncmp(path, folder, strlen(folder)) == 0;
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define FAIL(error) do { if ((error) && ours(fd)) { errno = (error); return -1; } } while (0)

ssize_t write(int fd, const void *b, size_t n) { REAL(write); FAIL(control->write_error); return real(fd, b, n); }
ssize_t writev(int fd, const struct iovec *v, int n) { REAL(writev); FAIL(control->write_error); return real(fd, v, n); }
ssize_t pwrite(int fd, const void *b, size_t n, off_t at) { REAL(pwrite); FAIL(control->write_error); return real(fd, b, n, at); }
ssize_t pwrite64(int fd, const void *b, size_t n, off64_t at) { REAL(pwrite64); FAIL(control->write_error); return real(fd, b, n, at); }
ssize_t read(int fd, void *b, size_t n) { REAL(read); FAIL(control->read_error); return real(fd, b, n); }
ssize_t pread(int fd, void *b, size_t n, off_t at) { REAL(pread); FAIL(control->read_error); return real(fd, b, n, at); }
ssize_t pread64(int fd, void *b, size_t n, off64_t at) { REAL(pread64); FAIL(control->read_error); return real(fd, b, n, at); }
int ftruncate(int fd, off_t n) { REAL(ftruncate); FAIL(control->write_error); return real(fd, n); }
int ftruncate64(int fd, off64_t n) { REAL(ftruncate64); FAIL(control->write_error); return real(fd, n); }
int posix_fallocate(int fd, off_t at, off_t n) {
    REAL(posix_fallocate);
    return control->write_error && ours(fd) ? control->write_error : real(fd, at, n);
}
int posix_fallocate64(int fd, off64_t at, off64_t n) {
    REAL(posix_fallocate64);
    return control->write_error && ours(fd) ? control->write_error : real(fd, at, n);
}

static int sync_fails(int fd) {
    if ((control->sync_error || control->sync_delay_ms) && ours(fd)) {
        usleep(1000 * (useconds_t)control->sync_delay_ms);
        errno = control->sync_error;
        return control->sync_error;
    }
    return 0;
}
int fsync(int fd) { REAL(fsync); return sync_fails(fd) ? -1 : real(fd); }
int fdatasync(int fd) { REAL(fdatasync); return sync_fails(fd) ? -1 : real(fd); }

static int may_not_open(const char *path, int flags) {
    if (!control->write_error || !(flags & O_CREAT) || !folder || strncmp(path, folder, strlen(folder))) return 0;
    errno = control->write_error;
    return 1;
}
#define MODE mode_t mode = 0; if (flags & O_CREAT) { va_list more; va_start(more, flags); mode = va_arg(more, mode_t); va_end(more); }
int open(const char *path, int flags, ...) { MODE REAL(open); return may_not_open(path, flags) ? -1 : real(path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE REAL(open64); return may_not_open(path, flags) ? -1 : real(path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE REAL(openat); return may_not_open(path, flags) ? -1 : real(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE REAL(openat64); return may_not_open(path, flags) ? -1 : real(at, path, flags, mode); }

int clock_gettime(clockid_t which, struct timespec *now) {
    REAL(clock_gettime);
    int failed = real(which, now);
    if (!failed && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) now->tv_sec += control->clock_offset_s;
    return failed;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    REAL(gettimeofday);
    int failed = real(now, zone);
    if (!failed) now->tv_sec += control->clock_offset_s;
    return failed;
}
/* A clock that was set by hand is not synchronised. */
int adjtimex(struct timex *about) {
    REAL(adjtimex);
    int state = real(about);
    if (state < 0 || !control->clock_offset_s) return state;
    about->status |= STA_UNSYNC;
    return TIME_ERROR;
}
time_t time(time_t *to) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (to) *to = now.tv_sec;
    return now.tv_sec;
}
