/* Fuzzes a bridge between a TLS connection and a plain sink: a peer whose records are
   damaged, dropped, repeated and mixed, in any pieces, with ends that do what the input
   says (scripted.h). OpenSSL is the system's, by the same pointers.

   Whatever the peer sends, the sink gets a beginning of what the peer has written, and
   the peer a beginning of what the sink gave. Where nothing was damaged, it is all of
   it: what was delivered, what is handed back and what the connection itself goes on
   to read and write, with nothing lost and nothing twice.

   OpenSSL's random numbers are made from the input alone, so an input does the same
   thing each time. No certificates: both sides have a key (PSK).

   The input: five bytes of setting, the script behind its length, and what the peer
   does, two bytes each. */

#include <stdlib.h>
#include <string.h>

#include "../../wsockets/bridge/native/flow.h"
#include "../../wsockets/bridge/native/openssl.h"
#include "../../wsockets/bridge/native/tls.h"
#include "scripted.h"

/* -- OpenSSL, as far as the bridge does not use it: ssl(7) and bio(7), whose numbers
   are those of its headers */

typedef unsigned (*psk_client)(void *, const char *, char *, unsigned, unsigned char *,
                               unsigned);
typedef unsigned (*psk_server)(void *, const char *, unsigned char *, unsigned);

struct random {
    int (*seed)(const void *, int);
    int (*bytes)(unsigned char *, int);
    void (*cleanup)(void);
    int (*add)(const void *, int, double);
    int (*pseudorand)(unsigned char *, int);
    int (*status)(void);
};

extern const void *TLS_method(void);
extern void *SSL_CTX_new(const void *);
extern long SSL_CTX_ctrl(void *, int, long, void *);
extern uint64_t SSL_CTX_set_options(void *, uint64_t);
extern int SSL_CTX_set_cipher_list(void *, const char *);
extern int SSL_CTX_set_num_tickets(void *, size_t);
extern void SSL_CTX_set_psk_client_callback(void *, psk_client);
extern void SSL_CTX_set_psk_server_callback(void *, psk_server);
extern void *SSL_new(void *);
extern void SSL_free(void *);
extern void SSL_set_connect_state(void *);
extern void SSL_set_accept_state(void *);
extern int SSL_do_handshake(void *);
extern int SSL_key_update(void *, int);
extern int SSL_new_session_ticket(void *);
extern int BIO_write(void *, const void *, int);
extern long BIO_ctrl(void *, int, long, void *);
extern int RAND_set_rand_method(const struct random *);

extern int SSL_read(void *, void *, int);
extern int SSL_write(void *, const void *, int);
extern int SSL_shutdown(void *);
extern int SSL_get_shutdown(const void *);
extern int SSL_get_error(const void *, int);
extern void SSL_set_bio(void *, void *, void *);
extern int SSL_set_fd(void *, int);
extern void *BIO_new(const void *);
extern const void *BIO_s_mem(void);
extern void *BIO_new_mem_buf(const void *, int);
extern int BIO_read(void *, void *, int);
extern int BIO_free(void *);
extern void ERR_clear_error(void);
extern unsigned long ERR_get_error(void);
extern unsigned long ERR_peek_error(void);

enum {
    CTRL_MODE = 33,
    CTRL_CLEAR_MODE = 78,
    CTRL_MIN_VERSION = 123,
    CTRL_MAX_VERSION = 124,
    TLS_1_2 = 0x0303,
    TLS_1_3 = 0x0304,
    MODE_PARTIAL_WRITE = 1,
    MODE_MOVING_BUFFER = 2,
    MODE_RELEASE_BUFFERS = 16,
    BIO_INFO = 3,
    BIO_EOF_RETURN = 130,
};
#define NO_RENEGOTIATION (UINT64_C(1) << 30)

static long eof_return(void *bio, int value)
{
    return BIO_ctrl(bio, BIO_EOF_RETURN, value, NULL);
}

static long mem_data(void *bio, char **data)
{
    return BIO_ctrl(bio, BIO_INFO, 0, data);
}

static uint64_t randomness;

static int random_bytes(unsigned char *data, int length)
{
    for (int i = 0; i < length; i++) {
        randomness = randomness * UINT64_C(6364136223846793005) + 1442695040888963407u;
        data[i] = (unsigned char)(randomness >> 56);
    }
    return 1;
}

static int random_ready(void)
{
    return 1;
}

static const struct random predictable = {
    .bytes = random_bytes, .pseudorand = random_bytes, .status = random_ready};

enum { KEY = 16 };

static unsigned server_key(void *ssl, const char *identity, unsigned char *key, unsigned room)
{
    (void)ssl;
    (void)identity;
    memset(key, 7, KEY);
    return room < KEY ? 0 : KEY;
}

static unsigned client_key(void *ssl, const char *hint, char *identity, unsigned most,
                           unsigned char *key, unsigned room)
{
    (void)hint;
    if (most < 5)
        return 0;
    memcpy(identity, "fuzz", 5);
    return server_key(ssl, NULL, key, room);
}

static void *context;

static void set_up(void)
{
    openssl = (struct openssl){
        SSL_read,   SSL_write,       SSL_shutdown, SSL_get_shutdown, SSL_get_error, SSL_set_bio,
        SSL_set_fd, BIO_new,         BIO_s_mem,    BIO_new_mem_buf,  eof_return,    mem_data,
        BIO_read,   BIO_free,        ERR_peek_error, ERR_clear_error, ERR_get_error};
    if (RAND_set_rand_method(&predictable) != 1)
        abort();
    context = SSL_CTX_new(TLS_method());
    if (!context || SSL_CTX_set_cipher_list(context, "PSK-AES128-GCM-SHA256") != 1)
        abort();
    SSL_CTX_set_psk_client_callback(context, client_key);
    SSL_CTX_set_psk_server_callback(context, server_key);
    (void)SSL_CTX_set_num_tickets(context, 0);
    (void)SSL_CTX_set_options(context, NO_RENEGOTIATION);
    (void)SSL_CTX_ctrl(context, CTRL_CLEAR_MODE, MODE_PARTIAL_WRITE, NULL);
    (void)SSL_CTX_ctrl(context, CTRL_MODE, MODE_MOVING_BUFFER | MODE_RELEASE_BUFFERS, NULL);
}

/* -- two sides, and what lies between them */

struct party {
    void *ssl, *in, *out;
};

static struct party client, server;

static struct party party_new(void)
{
    struct party party = {SSL_new(context), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem())};
    if (!party.ssl || !party.in || !party.out)
        abort();
    (void)eof_return(party.in, -1);
    (void)eof_return(party.out, -1);
    SSL_set_bio(party.ssl, party.in, party.out);
    return party;
}

/* What `bio` holds is put behind `bytes`; how much that was. */
static size_t drain(void *bio, struct bytes *bytes)
{
    char *data;
    long length = mem_data(bio, &data);
    if (length <= 0)
        return 0;
    if (!bytes_append(bytes, data, (size_t)length))
        abort();
    while (BIO_read(bio, (char[4096]){0}, 4096) > 0)
        ;
    return (size_t)length;
}

static void feed(void *bio, const uint8_t *data, size_t length)
{
    if (length && BIO_write(bio, data, (int)length) != (int)length)
        abort();
}

static bool shake(void)
{
    SSL_set_connect_state(client.ssl);
    SSL_set_accept_state(server.ssl);
    for (int round = 0; round < 4; round++) {
        struct bytes there = {0}, back = {0};
        bool done = SSL_do_handshake(client.ssl) == 1;
        drain(client.out, &there);
        feed(server.in, there.data, there.length);
        done &= SSL_do_handshake(server.ssl) == 1;
        drain(server.out, &back);
        feed(client.in, back.data, back.length);
        free(there.data);
        free(back.data);
        if (done)
            return true;
    }
    return false;
}

/* -- what is sent */

/* Bytes on the wire, from where on nothing is repeated. */
enum { RECORDS = 64, BULKY = 40000, MOST = 1 << 18 };

static uint8_t pattern[4 * BULKY];

static struct bytes wire;           /* from the peer */
static size_t starts[RECORDS + 1];  /* where what each step has made begins */
static unsigned steps;
static size_t spoken;  /* bytes of the pattern that the peer has written */
static bool damaged, closed;

static void say(size_t length)
{
    if (closed || spoken + length > sizeof pattern || length == 0)
        return;
    if (SSL_write(server.ssl, pattern + spoken, (int)length) != (int)length)
        wrong("the peer could not write");
    spoken += length;
}

/* The last step's bytes are put elsewhere, or twice. */
static void rearrange(unsigned how, size_t value)
{
    size_t last = starts[steps - 1], length = wire.length - last;
    if (length == 0 || wire.length > MOST)
        return;
    damaged = true;
    uint8_t *bytes = wire.data + last;
    switch (how) {
    case 0:
        bytes[value % length] ^= (uint8_t)(1 << value % 8);
        break;
    case 1:
        bytes[value % (length < 5 ? length : 5)] = (uint8_t)(value * 31);
        break;
    case 2:
        wire.length = last;
        break;
    case 3:
        wire.length -= value % length;
        break;
    case 4: {
        uint8_t *copy = malloc(length);
        if (!copy)
            abort();
        memcpy(copy, bytes, length);
        if (!bytes_append(&wire, copy, length))
            abort();
        free(copy);
        break;
    }
    default: {
        size_t before = steps > 1 ? starts[steps - 2] : last;
        for (size_t i = before, j = wire.length; i + 1 < j; i++, j--) {
            uint8_t kept = wire.data[i];
            wire.data[i] = wire.data[j - 1];
            wire.data[j - 1] = kept;
        }
    }
    }
}

static void step(uint8_t what, uint8_t value)
{
    ERR_clear_error();
    if (what % 16 >= 8 && what % 16 < 14) {
        if (steps)
            rearrange(what % 16 - 8u, value);
        return;
    }
    if (steps == RECORDS)
        return;
    starts[steps++] = wire.length;
    switch (what % 16) {
    case 4:
        if (!closed)
            (void)SSL_key_update(server.ssl, value % 2);
        /* It goes with what is written next. */
        say(1);
        break;
    case 5:
        if (!closed)
            (void)SSL_new_session_ticket(server.ssl);
        say(1);
        break;
    case 6:
        (void)SSL_shutdown(server.ssl);
        closed = true;
        break;
    case 7:
        say(value * 150u);
        break;
    case 14:
        if (!bytes_append(&wire, pattern, value))
            abort();
        damaged |= value != 0;
        break;
    default:
        say(value);
    }
    drain(server.out, &wire);
}

/* -- what comes out */

static size_t to_sink;          /* bytes that the sink has taken */
static struct bytes from_client; /* what the engine has put on the wire */

static void sink_offered(const uint8_t *data, size_t offered, size_t taken)
{
    if (to_sink + offered > spoken || memcmp(data, pattern + to_sink, offered) != 0)
        wrong("the sink is given what the peer has not written, at %zu", to_sink);
    to_sink += taken;
}

static void wire_offered(const uint8_t *data, size_t offered, size_t taken)
{
    (void)offered;
    if (!bytes_append(&from_client, data, taken))
        abort();
}

/* What the peer understands of what it got; whether close_notify was among it. */
static size_t understood(bool *ended)
{
    static uint8_t found[sizeof pattern + 1];
    size_t count = 0;
    feed(server.in, from_client.data, from_client.length);
    for (;;) {
        ERR_clear_error();
        int got = SSL_read(server.ssl, found + count, (int)(sizeof found - count));
        if (got <= 0) {
            int reason = SSL_get_error(server.ssl, got);
            *ended = reason == OPENSSL_ZERO_RETURN;
            break;
        }
        count += (size_t)got;
    }
    if (memcmp(found, pattern, count) != 0)
        wrong("the peer reads what the sink has not given");
    return count;
}

/* The connection goes on by itself, with what is on the wire still. */
static void go_on(const struct session *session, size_t given)
{
    const struct far *far = &fars[SIDE_CONNECTION];
    const struct bytes *unread = &session->unread[SIDE_CONNECTION];
    const struct bytes *clear = &session->owed_clear[SIDE_CONNECTION];
    const struct bytes *owed = &session->owed[SIDE_CONNECTION];
    void *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
    (void)eof_return(in, -1);
    (void)eof_return(out, -1);
    SSL_set_bio(client.ssl, in, out);
    if (far->at < far->length)
        feed(in, far->bytes + far->at, far->length - far->at);
    if (unread->length > spoken - to_sink ||
        (unread->length && memcmp(unread->data, pattern + to_sink, unread->length) != 0))
        wrong("other bytes are handed back");
    size_t read = to_sink + unread->length;
    uint8_t found[4096];
    for (;;) {
        ERR_clear_error();
        int got = SSL_read(client.ssl, found, sizeof found);
        if (got <= 0)
            break;
        if (read + (size_t)got > spoken || memcmp(found, pattern + read, (size_t)got) != 0)
            wrong("the connection goes on with other bytes, at %zu", read);
        read += (size_t)got;
    }
    if (read != spoken)
        wrong("%zu bytes of %zu are read", read, spoken);
    if (!bytes_append(&from_client, owed->data, owed->length))
        abort();
    ERR_clear_error();
    if (clear->length && SSL_write(client.ssl, clear->data, (int)clear->length) <= 0)
        wrong("what is owed cannot be written");
    drain(out, &from_client);
    bool ended;
    if (understood(&ended) != given)
        wrong("not all that the sink gave is sent");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!context) {
        set_up();
        for (size_t i = 0; i < sizeof pattern; i++)
            pattern[i] = (uint8_t)(i * 7 + i / 251);
    }
    if (size < 6)
        return 0;
    bool decrypt = data[0] % 4 != 1, encrypt = data[0] % 4 != 2;
    unsigned stop_after = data[1] / 4;
    int64_t drain_time = data[1] % 4 ? 1 : 1000000000;
    size_t given = data[2] * (data[0] & 8 ? 150u : 1u);
    size_t script_length = data[5];
    randomness = data[4];
    (void)SSL_CTX_ctrl(context, CTRL_MAX_VERSION, data[0] & 16 ? TLS_1_2 : TLS_1_3, NULL);
    client = party_new();
    server = party_new();
    if (!shake())
        wrong("the handshake fails");

    data += 6;
    size -= 6;
    if (script_length > size)
        script_length = size;
    script_begin(data, script_length);
    wire = from_client = (struct bytes){0};
    steps = 0;
    spoken = to_sink = 0;
    damaged = closed = false;
    for (size_t at = script_length; at + 1 < size; at += 2)
        step(data[at], data[at + 1]);

    struct session *session = session_new();
    if (!session)
        abort();
    session->framing = FRAMING_STREAM;
    session->half_close = data[-6] & 32;
    session->mtu = 65535;
    struct end *end = &session->ends[SIDE_CONNECTION];
    end->ours = true;
    end->ssl = client.ssl;
    end->tolerant = data[-6] & 64;
    session->flows[ENCRYPT].bridged = encrypt;
    session->flows[DECRYPT].bridged = decrypt;
    fars[SIDE_CONNECTION] = (struct far){
        .bytes = wire.data, .length = wire.length, .closed = true, .taken = wire_offered};
    fars[SIDE_SINK] = (struct far){
        .bytes = pattern, .length = given, .closed = true, .taken = sink_offered};
    fars[SIDE_CONNECTION].fragile = fars[SIDE_SINK].fragile = data[-6] & 128;
    script_run(session, stop_after, drain_time);

    bool whole = !damaged && !fars[SIDE_CONNECTION].failed && !fars[SIDE_SINK].failed;
    enum reason reason = session->report.reason;
    if (whole && decrypt && !script_stopped) {
        enum reason other = closed || end->tolerant ? REASON_EOF : REASON_TRUNCATED;
        if (reason != other)
            wrong("it ends with %d, and not with %d", reason, other);
        if (to_sink != spoken)
            wrong("%zu bytes of %zu are delivered", to_sink, spoken);
    }
    if (whole && reason == REASON_STOPPED) {
        go_on(session, fars[SIDE_SINK].at);
    } else {
        bool ended = false;
        size_t found = understood(&ended);
        if (found > given)
            wrong("the peer reads more than the sink gave");
        if (whole && reason == REASON_EOF && encrypt && found != given)
            wrong("%zu bytes of %zu are sent", found, given);
        if (whole && reason == REASON_EOF && encrypt && ended != session->half_close)
            wrong("close_notify: %d", ended);
    }
    session_free(session);
    SSL_free(client.ssl);
    SSL_free(server.ssl);
    free(wire.data);
    free(from_client.data);
    return 0;
}
