/* One end of a bridge: its descriptors, what is known of their readiness, and TLS.

   An end owns its descriptors. Readiness is what edge-triggered epoll last said and
   no EAGAIN has taken back: at the beginning everything is worth a try. */

#ifndef WSOCKETS_END_H
#define WSOCKETS_END_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "buffers.h"

enum side { SIDE_CONNECTION, SIDE_SINK };

enum { MAX_CODES = 8 };

/* Why OpenSSL failed for the first time: its error queue, the oldest first. */
struct codes {
    unsigned long code[MAX_CODES];
    int count;
    bool said;
};

struct end {
    enum side side;
    int read_fd, write_fd; /* may be the same; -1: none, or closed */
    bool ours;             /* a connection, not a descriptor of somebody's */
    bool tolerant;         /* takes a FIN without close_notify for the end */

    /* What the descriptors are. */
    bool socket, tcp, datagrams, terminal;
    bool unpollable_read, unpollable_write; /* epoll refuses it: always ready */
    bool unasked_read, unasked_write; /* no call can be asked not to wait: see end.c */

    bool readable, writable;
    bool hung_up; /* epoll has said that no more will come */
    bool urgent;  /* epoll has said that there is urgent data (tcp(7)) */
    bool failing; /* epoll has said that there is an error to fetch */
    bool gone;    /* epoll has said that nothing can be written any more */
    bool shut;    /* its output was shut, by us */
    int broken;   /* the errno that a write of TLS's own met */

    /* TLS; ssl is NULL without. The SSL object is used by the engine's thread alone
       from end_begin() to end_restore(). */
    void *ssl;
    int ssl_fd; /* what it reads and writes before and after */
    void *read_bio, *write_bio;
    struct buffer *in;  /* ciphertext that read_bio is about */
    struct buffer *out; /* ciphertext that is to be sent, before write_bio's */
    size_t own;         /* bytes waiting there that TLS sends of its own accord */
    bool grown;         /* write_bio has held much */
    bool ready;         /* OpenSSL may have something to read, whatever epoll says */
    bool retry;         /* a send met what no edge will end */
    struct codes *codes; /* of both ends, for it ends the session */
};

/* Sets O_NONBLOCK, unless it is set. */
void end_unblock(int fd);

/* Looks at what the descriptors are. */
void end_inspect(struct end *end);

/* read(2) and write(2), or -errno; never EINTR. No SIGPIPE from a socket. */
ssize_t end_read(struct end *end, void *data, size_t length);
ssize_t end_write(struct end *end, const void *data, size_t length);

/* As end_read(), the first `before` bytes apart from the rest; the sum of both. */
ssize_t end_read_behind(struct end *end, void *prefix, size_t before, void *data,
                        size_t length);

/* The error that a socket has met and nobody has been told of; 0: none. */
int end_error(struct end *end);

/* Half-closes: a socket is shut down; a descriptor apart from the one that is read
   is for the caller to close, which true says. */
bool end_shut(struct end *end);

#endif
