/* Fuzzes the cutting of packets that are many, and joining: any virtio header, any packet.

   Of what is cut, every byte of payload has to be in one segment, in order, and each
   segment has to be a packet whose lengths and checksums are right by a plain reading of
   the RFCs. Segments that are joined again, and the packet itself with what follows it,
   have to be the same when they are cut. Reading past the data is for the sanitizers to find, as everything lies in
   memory of exactly its size.

   The input: a virtio header of ten bytes, and the packet. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../wsockets/bridge/native/segments.h"

static void fail(const char *what, size_t at)
{
    fprintf(stderr, "%s: at %zu\n", what, at);
    abort();
}

static uint8_t *room(size_t length)
{
    uint8_t *data = malloc(length ? length : 1);
    if (!data)
        abort();
    return data;
}

static unsigned word(const uint8_t *data)
{
    return data[0] * 256u + data[1];
}

/* RFC 1071: 0xffff for data with its checksum in it. */
static unsigned sum(unsigned begin, const uint8_t *data, size_t length)
{
    unsigned total = begin;
    for (size_t at = 0; at < length; at += 2) {
        total += at + 1 < length ? word(data + at) : data[at] * 256u;
        total = (total & 0xffff) + total / 65536;
    }
    return total;
}

/* What the kernel leaves to be completed: the sum of the pseudo-header, in its field. */
static void leave(const uint8_t *header, uint8_t *packet, size_t length)
{
    uint16_t start, where;
    memcpy(&start, header + 6, 2);
    memcpy(&where, header + 8, 2);
    unsigned kind = header[1] & 0x7f, version = packet[0] / 16;
    bool tcp = kind == 1 || kind == 4;
    if (!(header[0] & 1) || !(tcp || kind == 5) || start + (tcp ? 18u : 8u) > length ||
        start < (version == 4 ? 20 : 40))
        return;
    uint8_t words[4] = {0, tcp ? 6 : 17, (uint8_t)((length - start) / 256),
                        (uint8_t)(length - start)};
    unsigned total = version == 4 ? sum(0, packet + 12, 8) : sum(0, packet + 8, 32);
    total = sum(total, words, 4);
    packet[start + (tcp ? 16 : 6)] = (uint8_t)(total / 256);
    packet[start + (tcp ? 16 : 6) + 1] = (uint8_t)total;
}

static void check(const struct segments *segments, const uint8_t *packet,
                  const uint8_t *one, size_t length, size_t taken)
{
    size_t transport = segments->transport, own = length - transport;
    unsigned protocol = segments->tcp ? 6 : 17, begin;
    if (one[0] / 16 == 4) {
        if (word(one + 2) != length)
            fail("IPv4's length", taken);
        if (sum(0, one, transport) != 0xffff)
            fail("IPv4's checksum", taken);
        begin = sum(protocol, one + 12, 8);
    } else {
        if (word(one + 4) != length - 40)
            fail("IPv6's length", taken);
        begin = sum(protocol, one + 8, 32);
    }
    if (!segments->tcp && word(one + transport + 4) != own)
        fail("UDP's length", taken);
    uint8_t size[2] = {(uint8_t)(own / 256), (uint8_t)own};
    if (sum(sum(begin, size, 2), one + transport, own) != 0xffff)
        fail("the checksum", taken);
    if (memcmp(one + segments->headers, packet + segments->headers + taken,
               length - segments->headers))
        fail("the payload", taken);
}

struct one {
    uint8_t *data;
    size_t length;
};

/* Joins what can be joined of the first of `many` and what follows; how many. */
static size_t join(const struct one *many, size_t count)
{
    static uint8_t into[SEGMENTS_LONGEST];
    uint8_t header[SEGMENTS_HEADER];
    struct joined joined;
    size_t used = 1;
    if (!joined_begin(&joined, into, many[0].data, many[0].length))
        return 1;
    while (used < count && joined_add(&joined, many[used].data, many[used].length))
        used++;
    if (used == 1)
        return 1;
    joined_end(&joined, header);
    struct segments segments;
    if (!segments_begin(&segments, header, into, joined.length) || !segments.piece)
        fail("what was joined cannot be cut", used);
    if (segments_count(&segments) != used)
        fail("another number joined", used);
    for (size_t at = 0; at < used; at++) {
        uint8_t *again = room(many[at].length);
        if (segments_next(&segments, again) != many[at].length ||
            memcmp(again, many[at].data, many[at].length))
            fail("another packet when it was joined", at);
        free(again);
    }
    return used;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct one many[2048];
    if (size < SEGMENTS_HEADER + 1)
        return 0;
    uint8_t *header = room(SEGMENTS_HEADER);
    size_t length = size - SEGMENTS_HEADER;
    uint8_t *packet = room(length);
    memcpy(header, data, SEGMENTS_HEADER);
    memcpy(packet, data + SEGMENTS_HEADER, length);
    leave(header, packet, length);
    struct segments segments;
    if (segments_begin(&segments, header, packet, length) && segments.piece) {
        size_t taken = 0, count = 0, left = length - segments.headers;
        while (left) {
            size_t most = left < segments.piece ? left : segments.piece;
            uint8_t *one = room(segments.headers + most);
            size_t got = segments_next(&segments, one);
            if (got != segments.headers + most)
                fail("its length", taken);
            check(&segments, packet, one, got, taken);
            many[count] = (struct one){one, got};
            taken += most;
            left -= most;
            count++;
        }
        if (segments_next(&segments, packet) != 0)
            fail("one more", taken);
        if (count != segments_count(&segments))
            fail("their number", count);
        for (size_t at = 0; at < count; at += join(many + at, count - at))
            ;
        /* Any byte wrong, and it is not taken for another. */
        size_t which = header[2] % count, where = header[3] % many[which].length;
        many[which].data[where] ^= header[9];
        for (size_t at = 0; at < count; at += join(many + at, count - at))
            ;
        for (size_t at = 0; at < count; at++)
            free(many[at].data);
    }
    free(packet);
    free(header);
    return 0;
}
