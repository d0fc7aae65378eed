/* TLS in bulk: ciphertext goes through memory BIOs, many records a system call.

   In: recv(512 KiB) into a buffer, a read-only BIO over it, SSL_read until it wants
   more. What is read goes over what was read, if the caller likes: OpenSSL copies a
   record before it decrypts it, and cleartext is shorter. Out: SSL_write a record,
   which is moved while it is warm (the BIO stays small that way), to `out` or over the
   cleartext of the records before, and one send() for all of them. So half as much
   memory is walked through as with a buffer for each, and a processor's cache (L2)
   can hold it.

   OpenSSL writes of its own accord too, inside of a read: key updates and alerts.
   So whoever has read must flush. */

#ifndef WSOCKETS_TLS_H
#define WSOCKETS_TLS_H

#include "buffers.h"
#include "end.h"

enum {
    RECORD = 16384,          /* the most payload of one record: RFC 8446, section 5.1 */
    RECORD_ROOM = 20 * 1024, /* what one takes on the wire, with a key update before it */
    OWN_LIMIT = 64 * 1024,   /* see end.own: where reading has to stop */
    /* How far ciphertext must be ahead of where its cleartext goes: a record, and one
       that OpenSSL has taken in before, in whole or in part. */
    AHEAD = 2 * RECORD_ROOM,
};

enum {
    TLS_EOF = 0,         /* close_notify */
    TLS_WANT = -1,       /* everything is read; more ciphertext is needed */
    TLS_FAILED = -2,     /* see end.codes; the session is to end */
    TLS_BUSY = -3,       /* many messages without data: give others a turn */
};

enum flushed {
    FLUSHED, /* all is sent */
    WAITING, /* what remains goes when the descriptor is writable, or later */
    BROKEN,  /* see end.broken; what there was is thrown away */
};

/* Puts memory BIOs in the place of the descriptor; false without memory. */
bool tls_begin(struct end *end);

/* Puts the SSL object back on its descriptor; false without memory. */
bool tls_restore(struct end *end, struct pool *pool);

/* Bytes read, at most `room` and one record, or one of TLS_…. */
int tls_read(struct end *end, void *data, size_t room);

/* Gives the SSL object ciphertext, which must stay where it is until that is read, or
   moved by tls_set_aside(). False without memory. */
bool tls_feed(struct end *end, const void *data, size_t length);

/* The bytes that it has been given and has not looked at. */
size_t tls_unread(struct end *end);

/* Moves them to end.in; without memory it is false, and they are lost. */
bool tls_set_aside(struct end *end, struct pool *pool);

/* Encrypts up to RECORD bytes as one record (more, as several). 1, TLS_WANT or
   TLS_FAILED. */
int tls_write(struct end *end, const void *data, size_t length);

/* Writes close_notify, where that is possible. */
void tls_close(struct end *end);

/* Moves `length` bytes of the ciphertext behind `out`; false where that fails. */
bool tls_take(struct end *end, void *data, size_t length);

/* Moves ciphertext to `out` as far as there is room; false without memory. */
bool tls_collect(struct end *end, struct pool *pool);

/* Bytes that wait to be sent, and where those behind `out` are. */
size_t tls_waiting(struct end *end);
size_t tls_behind(struct end *end, char **data);

/* Sends what waits. */
enum flushed tls_flush(struct end *end, struct pool *pool);

/* Nothing is in flight: holds as little memory as possible. */
void tls_rest(struct end *end, struct pool *pool);

#endif
