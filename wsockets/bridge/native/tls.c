#include "tls.h"

#include <errno.h>
#include <string.h>

#include "openssl.h"

/* Messages without data that one call of tls_read() goes through. */
enum { MESSAGES = 16 };
/* An idle BIO that has held more than this is replaced. */
enum { SMALL = 2048 };

struct openssl openssl;

/* As SSL_get_error(3) wants it before each call. There are none as a rule, and to look
   is a sixth of the work. */
static void forget_errors(void)
{
    if (openssl.ERR_peek_error())
        openssl.ERR_clear_error();
}

static void *memory_bio(void)
{
    void *bio = openssl.BIO_new(openssl.BIO_s_mem());
    if (bio)
        (void)openssl.BIO_set_mem_eof_return(bio, -1);
    return bio;
}

bool tls_begin(struct end *end)
{
    void *read_bio = memory_bio();
    void *write_bio = memory_bio();
    if (!read_bio || !write_bio) {
        if (read_bio)
            openssl.BIO_free(read_bio);
        if (write_bio)
            openssl.BIO_free(write_bio);
        return false;
    }
    /* Takes both over and frees the descriptor's, which does not close it. */
    openssl.SSL_set_bio(end->ssl, read_bio, write_bio);
    end->read_bio = read_bio;
    end->write_bio = write_bio;
    return true;
}

bool tls_restore(struct end *end, struct pool *pool)
{
    forget_errors();
    int done = openssl.SSL_set_fd(end->ssl, end->ssl_fd);
    forget_errors();
    if (done == 1)
        end->read_bio = end->write_bio = NULL;
    buffer_give(pool, &end->in);
    buffer_give(pool, &end->out);
    return done == 1;
}

static void keep_codes(struct end *end)
{
    struct codes *codes = end->codes;
    unsigned long code;
    while ((code = openssl.ERR_get_error()) != 0)
        if (!codes->said && codes->count < MAX_CODES)
            codes->code[codes->count++] = code;
    codes->said = true;
}

int tls_read(struct end *end, void *data, size_t room)
{
    for (int message = 0; message < MESSAGES; message++) {
        forget_errors();
        int count = openssl.SSL_read(end->ssl, data, (int)room);
        if (count > 0)
            return count;
        int reason = openssl.SSL_get_error(end->ssl, count);
        switch (reason) {
        case OPENSSL_WANT_READ:
            /* Without SSL_MODE_AUTO_RETRY a ticket or key update ends the call. */
            if (tls_unread(end) == 0) {
                end->ready = false;
                return TLS_WANT;
            }
            break;
        case OPENSSL_ZERO_RETURN:
            return TLS_EOF;
        default:
            /* OpenSSL 4 speaks of an error where close_notify follows
               user_canceled (RFC 8446, section 6.1). */
            if (reason == OPENSSL_SYSCALL && count == 0 &&
                openssl.SSL_get_shutdown(end->ssl) & OPENSSL_RECEIVED_SHUTDOWN)
                return TLS_EOF;
            keep_codes(end);
            return TLS_FAILED;
        }
    }
    return TLS_BUSY;
}

bool tls_feed(struct end *end, const void *data, size_t length)
{
    void *bio = openssl.BIO_new_mem_buf(data, (int)length);
    if (!bio)
        return false;
    (void)openssl.BIO_set_mem_eof_return(bio, -1);
    /* Only the read BIO changes, so only that is taken over. */
    openssl.SSL_set_bio(end->ssl, bio, end->write_bio);
    end->read_bio = bio;
    end->ready = true;
    return true;
}

size_t tls_unread(struct end *end)
{
    char *data;
    long left = openssl.BIO_get_mem_data(end->read_bio, &data);
    return left > 0 ? (size_t)left : 0;
}

bool tls_set_aside(struct end *end, struct pool *pool)
{
    char *data;
    long left = openssl.BIO_get_mem_data(end->read_bio, &data);
    if (left <= 0)
        return true;
    if (end->in || (end->in = buffer_take(pool))) {
        end->in->start = HEADROOM;
        end->in->end = HEADROOM + (size_t)left;
        memcpy(end->in->data + HEADROOM, data, (size_t)left);
        if (tls_feed(end, end->in->data + HEADROOM, (size_t)left))
            return true;
    }
    /* Its buffer is about to be somebody else's: nothing may be read from there. */
    char lost[512];
    while (openssl.BIO_read(end->read_bio, lost, sizeof lost) > 0)
        continue;
    end->ready = false;
    return false;
}

int tls_write(struct end *end, const void *data, size_t length)
{
    forget_errors();
    int count = openssl.SSL_write(end->ssl, data, (int)length);
    if (count > 0)
        return 1;
    /* In the middle of a message of the handshake's kind: it must be read first. */
    if (openssl.SSL_get_error(end->ssl, count) == OPENSSL_WANT_READ)
        return TLS_WANT;
    keep_codes(end);
    return TLS_FAILED;
}

void tls_close(struct end *end)
{
    forget_errors();
    /* 0: sent and not yet received. A failure is of a connection that is broken,
       which is for reads and writes to say. */
    (void)openssl.SSL_shutdown(end->ssl);
    forget_errors();
}

size_t tls_behind(struct end *end, char **data)
{
    long left = end->write_bio ? openssl.BIO_get_mem_data(end->write_bio, data) : 0;
    return left > 0 ? (size_t)left : 0;
}

size_t tls_waiting(struct end *end)
{
    char *data;
    return buffer_held(end->out) + tls_behind(end, &data);
}

bool tls_take(struct end *end, void *data, size_t length)
{
    if (length > SMALL)
        end->grown = true;
    return length == 0 || openssl.BIO_read(end->write_bio, data, (int)length) == (int)length;
}

bool tls_collect(struct end *end, struct pool *pool)
{
    char *data;
    size_t left = tls_behind(end, &data);
    if (left == 0)
        return true;
    if (!end->out && !(end->out = buffer_take(pool)))
        return false;
    size_t room = buffer_room(end->out);
    if (left > room)
        left = room;
    if (!tls_take(end, end->out->data + end->out->end, left))
        return false;
    end->out->end += left;
    return true;
}

enum flushed tls_flush(struct end *end, struct pool *pool)
{
    for (;;) {
        if (!tls_collect(end, pool)) {
            end->retry = true;
            return WAITING;
        }
        if (buffer_held(end->out) == 0) {
            buffer_give(pool, &end->out);
            end->own = 0;
            return end->broken ? BROKEN : FLUSHED;
        }
        if (end->broken || end->shut) {
            end->out->start = end->out->end = HEADROOM;
            continue;
        }
        if (!end->writable)
            return WAITING;
        ssize_t count = end_write(end, end->out->data + end->out->start, buffer_held(end->out));
        if (count == -EAGAIN)
            return WAITING;
        if (count == -ENOBUFS || count == -ENOMEM) {
            end->retry = true;
            return WAITING;
        }
        if (count < 0) {
            end->broken = (int)-count;
            continue;
        }
        end->out->start += (size_t)count;
        if (end->out->start == end->out->end)
            end->out->start = end->out->end = HEADROOM;
    }
}

void tls_rest(struct end *end, struct pool *pool)
{
    if (tls_unread(end) == 0)
        buffer_give(pool, &end->in);
    if (!end->grown || tls_waiting(end) != 0)
        return;
    void *bio = memory_bio();
    if (!bio)
        return;
    /* Only the write BIO changes, so only that is taken over. */
    openssl.SSL_set_bio(end->ssl, end->read_bio, bio);
    end->write_bio = bio;
    end->grown = false;
}
