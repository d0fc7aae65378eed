#define _GNU_SOURCE
#include "scripted.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../wsockets/bridge/native/buffers.h"
#include "../../wsockets/bridge/native/loop.h"

/* Nanoseconds between two turns. */
#define TURN INT64_C(3000000)
/* More than any script can ask for. */
enum { TURNS = 100000 };

struct far fars[2];
unsigned script_finished;
bool script_stopped;

static const uint8_t *script;
static size_t left;
static struct pool pool;

void wrong(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    abort();
}

void script_begin(const uint8_t *bytes, size_t length)
{
    memset(fars, 0, sizeof fars);
    script = bytes;
    left = length;
    script_finished = 0;
    script_stopped = false;
}

enum { AGAIN = 16, NO_BUFFERS = 24, REFUSED = 32, FAILED = 36, NONE = 40, LITTLE = 200 };

/* The next byte of the script; -1 at its end. */
static int next(void)
{
    if (left == 0)
        return -1;
    left--;
    return *script++;
}

/* How many bytes a step means, at most `most`. */
static size_t portion(int step, size_t most)
{
    if (step < 0)
        return most;
    size_t count = step < LITTLE ? (size_t)(step - NONE + 1) : (size_t)(step - LITTLE + 1) * 997;
    return count < most ? count : most;
}

/* -- in the place of end.c */

void end_unblock(int fd)
{
    (void)fd;
}

void end_inspect(struct end *end)
{
    end->datagrams = fars[end->side].datagrams;
    end->readable = end->writable = end->ready = true;
}

ssize_t end_read_behind(struct end *end, void *prefix, size_t before, void *data,
                        size_t length)
{
    struct far *far = &fars[end->side];
    if (far->forbidden)
        wrong("a read of side %d that nobody may read", end->side);
    int step = next();
    if (far->failed)
        return -ECONNRESET;
    if (far->fragile && step >= REFUSED && step < FAILED) {
        far->failed = true;
        return -ECONNRESET;
    }
    size_t waiting = far->length - far->at;
    if ((step >= 0 && step < AGAIN) || (waiting == 0 && !far->closed)) {
        end->readable = false;
        return -EAGAIN;
    }
    if (waiting == 0) {
        end->hung_up = true;
        return 0;
    }
    size_t count = portion(step < NONE ? (step < 0 ? -1 : NONE) : step, waiting);
    size_t kept = count < before + length ? count : before + length;
    const uint8_t *bytes = far->bytes + far->at;
    far->at += far->datagrams ? count : kept;
    if (far->given)
        far->given(bytes, kept);
    size_t first = kept < before ? kept : before;
    if (first)
        memcpy(prefix, bytes, first);
    if (kept > first)
        memcpy(data, bytes + first, kept - first);
    return (ssize_t)kept;
}

ssize_t end_read(struct end *end, void *data, size_t length)
{
    return end_read_behind(end, NULL, 0, data, length);
}

ssize_t end_write(struct end *end, const void *data, size_t length)
{
    struct far *far = &fars[end->side];
    int step = next();
    if (far->failed)
        return -EPIPE;
    if (step >= 0 && step < AGAIN) {
        end->writable = false;
        return -EAGAIN;
    }
    if (step >= AGAIN && step < NO_BUFFERS)
        return -ENOBUFS;
    if (step >= NO_BUFFERS && step < REFUSED && far->refused) {
        far->refused();
        return step % 2 ? -EIO : -EINVAL;
    }
    if (step >= REFUSED && step < FAILED && far->fragile) {
        far->failed = true;
        return -EPIPE;
    }
    size_t count = 0;
    if (step < NO_BUFFERS || step >= NONE)
        count = portion(step, length);
    if (far->taken)
        far->taken(data, length, count);
    return (ssize_t)count;
}

int end_error(struct end *end)
{
    end->failing = false;
    return 0;
}

bool end_shut(struct end *end)
{
    end->shut = true;
    return false;
}

/* -- in the place of loop.c */

int loop_watch(struct session *session, struct end *end)
{
    (void)session;
    (void)end;
    return 0;
}

void loop_close(struct session *session, int *fd)
{
    (void)session;
    *fd = -1;
}

void loop_finished(struct session *session, enum direction direction)
{
    (void)session;
    script_finished |= 1u << direction;
}

void script_run(struct session *session, unsigned stop_after, int64_t drain)
{
    int64_t now = TURN;
    session_prepare(session);
    session->pool = &pool;
    session_begin(session, now);
    enum turn turn = session->over ? TURN_OVER : TURN_AGAIN;
    for (unsigned turns = 1; turn != TURN_OVER; turns++) {
        if (turns == TURNS)
            wrong("it comes to no end");
        if (turns == stop_after) {
            session_stop(session, drain);
            script_stopped = true;
        }
        turn = session_turn(session, now += TURN);
        for (int side = SIDE_CONNECTION; side <= SIDE_SINK; side++)
            session->ends[side].readable = session->ends[side].writable = true;
    }
    for (int side = SIDE_CONNECTION; side <= SIDE_SINK; side++)
        fars[side].forbidden = true;
    session_finish(session);
    if (pool.taken != 0)
        wrong("%u buffers were not given back", pool.taken);
}
