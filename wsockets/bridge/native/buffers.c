#define _GNU_SOURCE
#include "buffers.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* As many as a turn of one busy bridge needs, with some to spare. */
enum { KEPT_BUFFERS = 8, KEPT_PIPES = 4 };

struct buffer *buffer_take(struct pool *pool)
{
    struct buffer *buffer = pool->buffers;
    if (buffer) {
        pool->buffers = buffer->next;
        pool->buffer_count--;
    } else {
        buffer = malloc(sizeof *buffer);
        if (!buffer)
            return NULL;
    }
    pool->taken++;
    buffer->next = NULL;
    buffer->start = buffer->end = HEADROOM;
    return buffer;
}

void buffer_give(struct pool *pool, struct buffer **held)
{
    struct buffer *buffer = *held;
    *held = NULL;
    if (!buffer)
        return;
    pool->taken--;
    if (pool->buffer_count == KEPT_BUFFERS) {
        free(buffer);
        return;
    }
    buffer->next = pool->buffers;
    pool->buffers = buffer;
    pool->buffer_count++;
}

void buffer_compact(struct buffer *buffer)
{
    size_t held = buffer->end - buffer->start;
    if (buffer->start != HEADROOM)
        memmove(buffer->data + HEADROOM, buffer->data + buffer->start, held);
    buffer->start = HEADROOM;
    buffer->end = HEADROOM + held;
}

static void pipe_close(struct pipe *pipe)
{
    close(pipe->read_fd);
    close(pipe->write_fd);
    free(pipe);
}

struct pipe *pipe_take(struct pool *pool)
{
    struct pipe *pipe = pool->pipes;
    if (pipe) {
        pool->pipes = pipe->next;
        pool->pipe_count--;
        pipe->next = NULL;
        return pipe;
    }
    pipe = calloc(1, sizeof *pipe);
    if (!pipe)
        return NULL;
    int fds[2];
    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0) {
        free(pipe);
        return NULL;
    }
    pipe->read_fd = fds[0];
    pipe->write_fd = fds[1];
    /* Users have a limit (pipe(7)); a pipe of the usual size does too. */
    (void)fcntl(pipe->write_fd, F_SETPIPE_SZ, PIPE_SIZE);
    return pipe;
}

void pipe_give(struct pool *pool, struct pipe **held)
{
    struct pipe *pipe = *held;
    *held = NULL;
    if (!pipe)
        return;
    if (pipe->held || pool->pipe_count == KEPT_PIPES) {
        pipe_close(pipe);
        return;
    }
    pipe->next = pool->pipes;
    pool->pipes = pipe;
    pool->pipe_count++;
}

void pool_empty(struct pool *pool)
{
    while (pool->buffers) {
        struct buffer *buffer = pool->buffers;
        pool->buffers = buffer->next;
        free(buffer);
    }
    while (pool->pipes) {
        struct pipe *pipe = pool->pipes;
        pool->pipes = pipe->next;
        pipe_close(pipe);
    }
    pool->buffer_count = pool->pipe_count = 0;
}
