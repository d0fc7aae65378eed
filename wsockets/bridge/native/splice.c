#define _GNU_SOURCE
#include "splice.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

/* SPLICE_F_NONBLOCK is for pipes only; what it means for the sockets is in end.c. */

static bool streams(const struct end *end, int fd)
{
    struct stat about;
    return end->tcp || (fstat(fd, &about) == 0 && S_ISFIFO(about.st_mode));
}

bool splice_suits(const struct end *source, const struct end *destination)
{
    return streams(source, source->read_fd) && streams(destination, destination->write_fd);
}

ssize_t splice_in(struct end *source, struct pipe *pipe)
{
    if (source->socket)
        end_unblock(source->read_fd);
    for (;;) {
        ssize_t count = splice(source->read_fd, NULL, pipe->write_fd, NULL, PIPE_SIZE,
                               SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
        if (count >= 0) {
            pipe->held += (size_t)count;
            return count;
        }
        if (errno == EINTR)
            continue;
        /* The pipe was empty: it is the source that has nothing. */
        if (errno == EAGAIN)
            source->readable = false;
        return -errno;
    }
}

ssize_t splice_out(struct pipe *pipe, struct end *destination)
{
    if (destination->socket)
        end_unblock(destination->write_fd);
    for (;;) {
        ssize_t count = splice(pipe->read_fd, NULL, destination->write_fd, NULL, pipe->held,
                               SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
        if (count >= 0) {
            pipe->held -= (size_t)count;
            return count;
        }
        if (errno == EINTR)
            continue;
        if (errno == EAGAIN)
            destination->writable = false;
        return -errno;
    }
}
