/* Fuzzes the cutting of packets: any bytes, whole and in two pieces.

   Each verdict is compared with that of a second reading of the rules (rules.h);
   reading past the data is for the sanitizers to find, as every piece lies in memory
   of exactly its size.

   The input: one byte for the framing, two for the mtu, two for the length of the
   first piece, and the stream. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rules.h"

static void fail(const char *what, enum framing framing, size_t mtu, size_t at)
{
    fprintf(stderr, "%s: framing %d, mtu %zu, at %zu\n", what, framing, mtu, at);
    abort();
}

/* Cuts `have` bytes, in memory of their own; the bytes cut off. */
static size_t cut_all(enum framing framing, const uint8_t *bytes, size_t have, size_t mtu,
                      enum verdict *last)
{
    uint8_t *data = malloc(have ? have : 1);
    if (!data)
        abort();
    memcpy(data, bytes, have);
    size_t at = 0;
    for (;;) {
        struct packet found = {0};
        enum verdict verdict = packet_cut(framing, data + at, have - at, mtu, &found);
        struct expected again = expect(framing, data + at, have - at, mtu);
        *last = verdict;
        if (verdict != again.verdict)
            fail("another verdict", framing, mtu, at);
        if (verdict != PACKET_WHOLE) {
            if (verdict != PACKET_INCOMPLETE && found.value != again.value)
                fail("another value", framing, mtu, at);
            break;
        }
        if (found.skip != again.skip || found.length != again.length)
            fail("another packet", framing, mtu, at);
        struct packet alone = {0};
        if (found.length && packet_check(framing, data + at + found.skip, found.length, mtu,
                                         &alone) != PACKET_WHOLE)
            fail("refused by itself", framing, mtu, at);
        at += found.skip + found.length;
    }
    free(data);
    return at;
}

/* A packet that comes by itself, whatever it says of its length. */
static void check(enum framing framing, const uint8_t *bytes, size_t length, size_t mtu)
{
    uint8_t *data = malloc(length ? length : 1);
    if (!data)
        abort();
    memcpy(data, bytes, length);
    struct packet found = {0};
    enum verdict verdict = packet_check(framing, data, length, mtu, &found);
    enum verdict wanted = PACKET_WHOLE;
    if (length > mtu)
        wanted = PACKET_TOO_LONG;
    else if (framing == FRAMING_IP && data[0] / 16 != 4 && data[0] / 16 != 6)
        wanted = PACKET_NO_IP;
    if (verdict != wanted)
        fail("another verdict for one by itself", framing, mtu, length);
    free(data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 5)
        return 0;
    enum framing framing = data[0] % 2 ? FRAMING_IP : FRAMING_LENGTH16;
    size_t mtu = data[1] * 256u + data[2] + 1u;
    size_t first = data[3] * 256u + data[4];
    data += 5;
    size -= 5;
    if (mtu > 65535)
        mtu = 65535;
    if (first > size)
        first = size;
    if (size)
        check(framing, data, size, mtu);
    /* Whatever the pieces, the same packets come out, and the same verdict. */
    enum verdict whole, pieces;
    size_t all = cut_all(framing, data, size, mtu, &whole);
    size_t taken = cut_all(framing, data, first, mtu, &pieces);
    taken += cut_all(framing, data + taken, size - taken, mtu, &pieces);
    if (taken != all || whole != pieces)
        fail("other packets in pieces", framing, mtu, first);
    return 0;
}
