/* No call here may wait, for it would hold up every bridge of the engine. O_NONBLOCK
   does not see to that: it is on the open file, which other processes may share, and
   clear. So the calls say it: MSG_DONTWAIT for sockets, RWF_NOWAIT for other files. Of
   these the kernel may not know it (terminals; FIFOs; before Linux 6.5 pipes), and then
   O_NONBLOCK is looked at, and set again, before each call. */

#define _GNU_SOURCE
#include "end.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

void end_unblock(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags >= 0 && !(flags & O_NONBLOCK))
        (void)fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

/* Whether reads and writes of a file take no longer than a disk does, and so are not to
   be asked whether they would. */
static bool waits_for_nobody(int fd)
{
    struct stat about;
    return fstat(fd, &about) == 0 && (S_ISREG(about.st_mode) || S_ISBLK(about.st_mode));
}

void end_inspect(struct end *end)
{
    int fd = end->read_fd >= 0 ? end->read_fd : end->write_fd;
    int type = 0, domain = 0;
    socklen_t size = sizeof type;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0) {
        end->socket = true;
        end->datagrams = type == SOCK_DGRAM;
        size = sizeof domain;
        if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0)
            end->tcp = type == SOCK_STREAM && (domain == AF_INET || domain == AF_INET6);
    } else if (end->read_fd >= 0) {
        end->terminal = isatty(end->read_fd) == 1;
    }
    end->unasked_read = end->read_fd < 0 || waits_for_nobody(end->read_fd);
    end->unasked_write = end->write_fd < 0 || waits_for_nobody(end->write_fd);
    end->readable = end->writable = end->ready = true;
}

static bool unknown(int error)
{
    return error == EOPNOTSUPP || error == ENOSYS;
}

/* readv(2) and write(2), of what is no socket. */
static ssize_t file_read(struct end *end, const struct iovec *parts, int count)
{
    if (!end->unasked_read) {
        ssize_t got = preadv2(end->read_fd, parts, count, -1, RWF_NOWAIT);
        if (got >= 0 || !unknown(errno))
            return got;
        end->unasked_read = true;
    }
    end_unblock(end->read_fd);
    return readv(end->read_fd, parts, count);
}

static ssize_t file_write(struct end *end, const void *data, size_t length)
{
    /* Vectors of nothing are not looked at. */
    if (!end->unasked_write && length) {
        struct iovec part = {(void *)(uintptr_t)data, length};
        ssize_t done = pwritev2(end->write_fd, &part, 1, -1, RWF_NOWAIT);
        if (done >= 0 || !unknown(errno))
            return done;
        end->unasked_write = true;
    }
    end_unblock(end->write_fd);
    return write(end->write_fd, data, length);
}

ssize_t end_read_behind(struct end *end, void *prefix, size_t before, void *data,
                        size_t length)
{
    struct iovec parts[] = {{prefix, before}, {data, length}};
    struct msghdr message = {.msg_iov = before ? parts : parts + 1,
                             .msg_iovlen = before ? 2 : 1};
    for (;;) {
        ssize_t count = end->socket ? recvmsg(end->read_fd, &message, MSG_DONTWAIT)
                                    : file_read(end, message.msg_iov, (int)message.msg_iovlen);
        if (count >= 0) {
            /* Less than asked for: TCP has no more, and another edge will tell. But
               a read stops at an urgent byte, whatever stands behind it. */
            if (end->tcp && !end->hung_up && !end->urgent && (size_t)count < before + length)
                end->readable = false;
            return count;
        }
        if (errno == EINTR)
            continue;
        if (errno == EAGAIN && !end->unpollable_read)
            end->readable = false;
        /* How a pty's master says that the other side is closed. */
        return errno == EIO && end->terminal ? 0 : -errno;
    }
}

ssize_t end_read(struct end *end, void *data, size_t length)
{
    return end_read_behind(end, NULL, 0, data, length);
}

ssize_t end_write(struct end *end, const void *data, size_t length)
{
    for (;;) {
        ssize_t count = end->socket
                            ? send(end->write_fd, data, length, MSG_NOSIGNAL | MSG_DONTWAIT)
                            : file_write(end, data, length);
        if (count >= 0) {
            if (end->tcp && (size_t)count < length)
                end->writable = false;
            return count;
        }
        if (errno == EINTR)
            continue;
        if (errno == EAGAIN && !end->unpollable_write)
            end->writable = false;
        return -errno;
    }
}

int end_error(struct end *end)
{
    int error = 0, fd = end->read_fd >= 0 ? end->read_fd : end->write_fd;
    socklen_t size = sizeof error;
    end->failing = false;
    if (!end->socket || getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
        return 0;
    return error;
}

bool end_shut(struct end *end)
{
    end->shut = true;
    if (!end->socket)
        return end->write_fd != end->read_fd;
    /* ENOTCONN: nobody is there to be told. */
    (void)shutdown(end->write_fd, SHUT_WR);
    return false;
}
