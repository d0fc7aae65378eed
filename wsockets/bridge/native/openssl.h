/* OpenSSL's functions, by pointer.

   The OpenSSL that made an SSL object is inside of the `cryptography` package and
   exports nothing, so no header and no library is used here: Python passes the
   addresses in, once, before anything else happens. */

#ifndef WSOCKETS_OPENSSL_H
#define WSOCKETS_OPENSSL_H

#define OPENSSL_FUNCTIONS(X)                                                           \
    X(int, SSL_read, (void *ssl, void *data, int length))                              \
    X(int, SSL_write, (void *ssl, const void *data, int length))                       \
    X(int, SSL_shutdown, (void *ssl))                                                  \
    X(int, SSL_get_shutdown, (const void *ssl))                                        \
    X(int, SSL_get_error, (const void *ssl, int result))                               \
    X(void, SSL_set_bio, (void *ssl, void *read, void *write))                         \
    X(int, SSL_set_fd, (void *ssl, int fd))                                            \
    X(void *, BIO_new, (const void *method))                                           \
    X(const void *, BIO_s_mem, (void))                                                 \
    X(void *, BIO_new_mem_buf, (const void *data, int length))                         \
    X(long, BIO_set_mem_eof_return, (void *bio, int value))                            \
    X(long, BIO_get_mem_data, (void *bio, char **data))                                \
    X(int, BIO_read, (void *bio, void *data, int length))                              \
    X(int, BIO_free, (void *bio))                                                      \
    X(unsigned long, ERR_peek_error, (void))                                           \
    X(void, ERR_clear_error, (void))                                                   \
    X(unsigned long, ERR_get_error, (void))

struct openssl {
#define MEMBER(result, name, arguments) result(*name) arguments;
    OPENSSL_FUNCTIONS(MEMBER)
#undef MEMBER
};

/* Written once, before the first engine exists; read by all. */
extern struct openssl openssl;

/* SSL_get_error(3) and SSL_get_shutdown(3); part of OpenSSL's stable interface. */
enum {
    OPENSSL_WANT_READ = 2,
    OPENSSL_SYSCALL = 5,
    OPENSSL_ZERO_RETURN = 6,
    OPENSSL_RECEIVED_SHUTDOWN = 2,
};

#endif
