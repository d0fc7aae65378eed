#define _GNU_SOURCE
#include "end.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

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
    end->readable = end->writable = end->ready = true;
}

ssize_t end_read_behind(struct end *end, void *prefix, size_t before, void *data,
                        size_t length)
{
    struct iovec parts[] = {{prefix, before}, {data, length}};
    struct msghdr message = {.msg_iov = before ? parts : parts + 1,
                             .msg_iovlen = before ? 2 : 1};
    for (;;) {
        /* Others may have the same open file, and clear its O_NONBLOCK. */
        ssize_t count = end->socket ? recvmsg(end->read_fd, &message, MSG_DONTWAIT)
                        : before    ? readv(end->read_fd, parts, 2)
                                    : read(end->read_fd, data, length);
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
                            : write(end->write_fd, data, length);
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
    int error = 0;
    socklen_t size = sizeof error;
    end->failing = false;
    if (!end->socket || getsockopt(end->read_fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
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
