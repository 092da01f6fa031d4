/* Preloaded into a registry: records what it does to its files, and kills it or lets calls fail.

   FAULTS_ROOT     the directory that is looked at
   FAULTS_LOG      the record (see disk.py), none without it
   FAULTS_CONTROL  a file with a struct control, which a test changes while the process runs
   FAULTS_WITHOUT  data, database or directories: those are not synced, as in a program that forgets
*/
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { WRITE = 1, SYNC = 2, SYNC_DIRECTORY = 4, NAME = 8, REMOVE = 16, TRUNCATE = 32, READ = 64 };

struct control {
    volatile uint64_t seen; /* matching calls since a test set it to 0 */
    volatile uint64_t at;   /* the call that something happens to, from 1; 0 for none */
    volatile int32_t error; /* its error, or 0 to be killed */
    volatile int32_t kinds; /* which calls match */
    volatile int32_t more;  /* whether it happens to all later calls as well */
    char part[64];          /* a part of the path of matching calls */
};

static struct control *control;
static int record = -1;
static char root[4096];
static size_t root_length;
static const char *without = "";
static pthread_mutex_t mutex;

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    if (!found)
        abort();
    return found;
}

__attribute__((constructor)) static void begin(void)
{
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&mutex, &attributes);
    const char *text = getenv("FAULTS_ROOT");
    if (!text)
        return;
    snprintf(root, sizeof root, "%s", text);
    root_length = strlen(root);
    if (getenv("FAULTS_WITHOUT"))
        without = getenv("FAULTS_WITHOUT");
    if ((text = getenv("FAULTS_LOG"))) {
        int opened = REAL(open64)(text, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
        record = fcntl(opened, F_DUPFD_CLOEXEC, 700);
        close(opened);
    }
    if ((text = getenv("FAULTS_CONTROL"))) {
        int opened = REAL(open64)(text, O_RDWR | O_CLOEXEC);
        void *memory = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, opened, 0);
        close(opened);
        if (memory != MAP_FAILED)
            control = memory;
    }
}

static int below(const char *path)
{
    return root_length && path && strncmp(path, root, root_length) == 0;
}

/* The path of an open file below the root, and its inode; 0 for anything else. */
static int known(int descriptor, char *path, size_t size, struct stat *status)
{
    char link[64];
    if (!root_length || fstat(descriptor, status))
        return 0;
    if (!S_ISREG(status->st_mode) && !S_ISDIR(status->st_mode))
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, size - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return below(path);
}

static void lock(void) { pthread_mutex_lock(&mutex); }

static void unlock(void)
{
    int kept = errno;
    pthread_mutex_unlock(&mutex);
    errno = kept;
}

/* Whether a call shall fail; errno is set then. The process may end here. */
static int fault(int kind, const char *path)
{
    if (!control || !(control->kinds & kind) || !strstr(path, control->part))
        return 0;
    uint64_t seen = ++control->seen;
    if (!control->at || seen < control->at || (seen > control->at && !control->more))
        return 0;
    if (control->error) {
        errno = control->error;
        return 1;
    }
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

static void note(const void *data, size_t size, const char *format, ...)
{
    char line[9000];
    va_list arguments;
    if (record < 0)
        return;
    int kept = errno;
    va_start(arguments, format);
    size_t length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    struct { const char *data; size_t size; } parts[2] = {{line, length}, {data, size}};
    for (int number = 0; number < 2; number++)
        while (parts[number].size) {
            ssize_t written = REAL(write)(record, parts[number].data, parts[number].size);
            if (written < 0)
                abort();
            parts[number].data += written;
            parts[number].size -= written;
        }
    errno = kept;
}

/* --- files ------------------------------------------------------------------------------- */

static int opened(const char *path, int flags, int mode)
{
    struct stat status;
    if (!below(path) || !(flags & O_CREAT))
        return REAL(open64)(path, flags, mode);
    lock();
    int there = lstat(path, &status) == 0;
    int result = !there && fault(NAME, path) ? -1 : REAL(open64)(path, flags, mode);
    if (result >= 0 && !fstat(result, &status)) {
        if (!there)
            note(NULL, 0, "C %llu %s\n", (unsigned long long)status.st_ino, path);
        else if (flags & O_TRUNC)
            note(NULL, 0, "T %llu 0\n", (unsigned long long)status.st_ino);
    }
    unlock();
    return result;
}

#define OPEN(name)                                                                              \
    int name(const char *path, int flags, ...)                                                  \
    {                                                                                           \
        va_list arguments;                                                                      \
        va_start(arguments, flags);                                                             \
        int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, int) : 0;                  \
        va_end(arguments);                                                                      \
        return opened(path, flags, mode);                                                       \
    }
OPEN(open)
OPEN(open64)

static ssize_t written(int descriptor, const void *data, size_t size, off64_t offset)
{
    char path[4096];
    struct stat status;
    if (!known(descriptor, path, sizeof path, &status))
        return offset < 0 ? REAL(write)(descriptor, data, size)
                          : REAL(pwrite64)(descriptor, data, size, offset);
    lock();
    ssize_t result = -1;
    off64_t place = offset < 0 ? lseek64(descriptor, 0, SEEK_CUR) : offset;
    if (!fault(WRITE, path)) {
        result = offset < 0 ? REAL(write)(descriptor, data, size)
                            : REAL(pwrite64)(descriptor, data, size, offset);
        if (result > 0)
            note(data, result, "W %llu %lld %zd\n", (unsigned long long)status.st_ino,
                 (long long)place, result);
    }
    unlock();
    return result;
}

ssize_t write(int descriptor, const void *data, size_t size)
{
    return written(descriptor, data, size, -1);
}

ssize_t pwrite(int descriptor, const void *data, size_t size, off_t offset)
{
    return written(descriptor, data, size, offset);
}

ssize_t pwrite64(int descriptor, const void *data, size_t size, off64_t offset)
{
    return written(descriptor, data, size, offset);
}

static ssize_t taken(int descriptor, void *data, size_t size, off64_t offset)
{
    char path[4096];
    struct stat status;
    if (control && control->kinds & READ && known(descriptor, path, sizeof path, &status)) {
        lock();
        int fails = fault(READ, path);
        unlock();
        if (fails)
            return -1;
    }
    return REAL(pread64)(descriptor, data, size, offset);
}

ssize_t pread(int descriptor, void *data, size_t size, off_t offset)
{
    return taken(descriptor, data, size, offset);
}

ssize_t pread64(int descriptor, void *data, size_t size, off64_t offset)
{
    return taken(descriptor, data, size, offset);
}

static int truncated(int descriptor, off64_t size)
{
    char path[4096];
    struct stat status;
    if (!known(descriptor, path, sizeof path, &status))
        return REAL(ftruncate64)(descriptor, size);
    lock();
    int result = fault(TRUNCATE, path) ? -1 : REAL(ftruncate64)(descriptor, size);
    if (!result)
        note(NULL, 0, "T %llu %lld\n", (unsigned long long)status.st_ino, (long long)size);
    unlock();
    return result;
}

int ftruncate(int descriptor, off_t size) { return truncated(descriptor, size); }
int ftruncate64(int descriptor, off64_t size) { return truncated(descriptor, size); }

static int forgotten(const char *path, int directory)
{
    if (!*without)
        return 0;
    if (directory)
        return !strcmp(without, "directories");
    return !strcmp(without, strstr(path, "metadata.sqlite3") ? "database" : "data");
}

static int synced(int descriptor, const char *name)
{
    char path[4096];
    struct stat status;
    int (*call)(int) = (int (*)(int))real(name);
    if (!known(descriptor, path, sizeof path, &status))
        return call(descriptor);
    int directory = S_ISDIR(status.st_mode), result = 0;
    if (forgotten(path, directory))
        return 0;
    lock();
    result = fault(directory ? SYNC_DIRECTORY : SYNC, path) ? -1 : call(descriptor);
    if (!result && directory)
        note(NULL, 0, "D %llu\n", (unsigned long long)status.st_ino);
    else if (!directory)
        note(NULL, 0, "%c %llu\n", result ? 'F' : 'S', (unsigned long long)status.st_ino);
    unlock();
    return result;
}

int fsync(int descriptor) { return synced(descriptor, "fsync"); }
int fdatasync(int descriptor) { return synced(descriptor, "fdatasync"); }

/* --- names ------------------------------------------------------------------------------- */

#define ONE(name, kind, letter)                                                                 \
    int name(const char *path)                                                                  \
    {                                                                                           \
        if (!below(path))                                                                       \
            return REAL(name)(path);                                                            \
        lock();                                                                                 \
        int result = fault(kind, path) ? -1 : REAL(name)(path);                                 \
        if (!result)                                                                            \
            note(NULL, 0, letter " %s\n", path);                                                \
        unlock();                                                                               \
        return result;                                                                          \
    }
ONE(unlink, REMOVE, "U")
ONE(rmdir, REMOVE, "X")

int mkdir(const char *path, mode_t mode)
{
    if (!below(path))
        return REAL(mkdir)(path, mode);
    lock();
    int result = fault(NAME, path) ? -1 : REAL(mkdir)(path, mode);
    struct stat status;
    if (!result && !lstat(path, &status))
        note(NULL, 0, "M %llu %s\n", (unsigned long long)status.st_ino, path);
    unlock();
    return result;
}

int rename(const char *old, const char *new)
{
    if (!below(new))
        return REAL(rename)(old, new);
    lock();
    int result = fault(NAME, new) ? -1 : REAL(rename)(old, new);
    if (!result)
        note(NULL, 0, "R %s\t%s\n", old, new);
    unlock();
    return result;
}

int linkat(int from, const char *old, int to, const char *new, int flags)
{
    if (!below(new))
        return REAL(linkat)(from, old, to, new, flags);
    lock();
    int result = fault(NAME, new) ? -1 : REAL(linkat)(from, old, to, new, flags);
    if (!result)
        note(NULL, 0, "L %s\t%s\n", old, new);
    unlock();
    return result;
}

int link(const char *old, const char *new)
{
    return linkat(AT_FDCWD, old, AT_FDCWD, new, 0);
}

/* --- answers ----------------------------------------------------------------------------- */

ssize_t send(int descriptor, const void *data, size_t size, int flags)
{
    struct sockaddr_in peer;
    socklen_t length = sizeof peer;
    if (record >= 0 && size > 7 && !memcmp(data, "HTTP/1.", 7) &&
        !getpeername(descriptor, (struct sockaddr *)&peer, &length)) {
        lock();
        note(NULL, 0, "A %d\n", ntohs(peer.sin_port));
        unlock();
    }
    return REAL(send)(descriptor, data, size, flags);
}
