/* What holds bytes in flight: buffers, and pipes for splice(2).

   A pool belongs to one engine and is used by its thread alone. It keeps a few of
   what was given back, so that a busy engine allocates nothing; whatever is idle
   holds neither. */

#ifndef WSOCKETS_BUFFERS_H
#define WSOCKETS_BUFFERS_H

#include <stddef.h>
#include <stdint.h>

enum {
    BULK = 512 * 1024,    /* bytes that are read at once: the largest knob */
    HEADROOM = 256,       /* before the data: a packet's prefix goes there */
    TAILROOM = 64 * 1024, /* what TLS needs besides BULK, or an incomplete packet */
    CAPACITY = HEADROOM + BULK + TAILROOM,
    PIPE_SIZE = 1 << 20,
};

struct buffer {
    struct buffer *next; /* in the pool */
    size_t start, end;   /* the data is data[start:end] */
    uint8_t data[CAPACITY];
};

struct pipe {
    struct pipe *next; /* in the pool */
    int read_fd, write_fd;
    size_t held; /* bytes inside */
};

struct pool {
    struct buffer *buffers;
    struct pipe *pipes;
    unsigned buffer_count, pipe_count;
    unsigned taken; /* buffers that are in use */
};

/* So many buffers in use that what holds little in one should let go of it. */
enum { CROWDED = 32 };

/* An empty buffer, NULL where there is no memory. */
struct buffer *buffer_take(struct pool *pool);

/* Gives *buffer back, if there is one. */
void buffer_give(struct pool *pool, struct buffer **buffer);

static inline size_t buffer_held(const struct buffer *buffer)
{
    return buffer ? buffer->end - buffer->start : 0;
}

static inline size_t buffer_room(const struct buffer *buffer)
{
    return CAPACITY - buffer->end;
}

/* Moves what is held to the front. */
void buffer_compact(struct buffer *buffer);

/* An empty pipe, NULL where there are no descriptors. */
struct pipe *pipe_take(struct pool *pool);

/* Gives *pipe back, if there is one; what it holds is lost. */
void pipe_give(struct pool *pool, struct pipe **pipe);

/* Frees what the pool keeps. */
void pool_empty(struct pool *pool);

#endif
