/* Every segment has the headers of the long packet, but for its own lengths, its number
   in IPv4's identification and TCP's sequence number, flags that belong to the first or
   the last only, and checksums. Checksums (RFC 1071) are sums of 16-bit words in any
   byte order, so they are made of larger words in the machine's own, and folded. */

#include "segments.h"

#include <string.h>

enum { NEEDS_CHECKSUM = 1 };                         /* flags of the header */
enum { LONG_NONE = 0, LONG_TCP4 = 1, LONG_TCP6 = 4, LONG_UDP = 5, LONG_ECN = 0x80 };
enum { TCP = 6, UDP = 17 };                          /* IP's protocols */
enum { TCP_SUM = 16, UDP_SUM = 6, IP4_SUM = 10 };    /* where the checksums are */
enum { TCP_FLAGS = 13, FIN = 0x01, PSH = 0x08, CWR = 0x80 };
enum { IP4 = 20, IP6 = 40 };                         /* the shortest headers */

static unsigned get16(const uint8_t *data)
{
    return (unsigned)data[0] << 8 | data[1];
}

static void put16(uint8_t *data, size_t value)
{
    data[0] = (uint8_t)(value >> 8);
    data[1] = (uint8_t)value;
}

/* A field of the virtio header: in the machine's own byte order. */
static size_t field(const uint8_t *header, size_t at)
{
    uint16_t value;
    memcpy(&value, header + at, sizeof value);
    return value;
}

/* The sum of `data`, which begins at an even place, added to `sum`. */
static uint64_t add_up(uint64_t sum, const uint8_t *data, size_t length)
{
    uint64_t word;
    for (; length >= sizeof word; data += sizeof word, length -= sizeof word) {
        memcpy(&word, data, sizeof word);
        sum += word;
        sum += sum < word;
    }
    word = 0;
    memcpy(&word, data, length);
    sum += word;
    return sum + (sum < word);
}

/* Puts the checksum of what was added up to where it belongs. UDP has no checksum 0,
   which means none (RFC 768). */
static void put_sum(uint8_t *data, uint64_t sum, bool udp)
{
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    uint16_t value = (uint16_t)~sum;
    if (udp && value == 0)
        value = 0xffff;
    memcpy(data, &value, sizeof value);
}

/* The pseudo-header's part: addresses, protocol and length. */
static uint64_t pseudo(const uint8_t *packet, unsigned protocol, size_t length)
{
    bool ip6 = packet[0] >> 4 == 6;
    uint8_t words[4];
    put16(words, protocol);
    put16(words + 2, length);
    uint64_t sum = add_up(0, words, sizeof words);
    return ip6 ? add_up(sum, packet + 8, 32) : add_up(sum, packet + 12, 8);
}

static bool complete(const uint8_t *header, uint8_t *packet, size_t length)
{
    size_t start = field(header, 6), offset = field(header, 8);
    if (offset % 2 || start + offset + 2 > length)
        return false;
    /* The field has the sum of the pseudo-header already. */
    put_sum(packet + start + offset, add_up(0, packet + start, length - start),
            offset == UDP_SUM);
    return true;
}

bool segments_begin(struct segments *segments, const uint8_t *header, uint8_t *packet,
                    size_t length)
{
    unsigned kind = header[1] & ~(unsigned)LONG_ECN;
    *segments = (struct segments){.packet = packet, .length = length};
    if (kind == LONG_NONE)
        return !(header[0] & NEEDS_CHECKSUM) || complete(header, packet, length);
    if (kind != LONG_TCP4 && kind != LONG_TCP6 && kind != LONG_UDP)
        return false;
    size_t transport = field(header, 6);
    unsigned version = length ? packet[0] >> 4 : 0;
    bool tcp = kind != LONG_UDP;
    if (!(header[0] & NEEDS_CHECKSUM) || length > SEGMENTS_LONGEST ||
        !(version == 4 || version == 6) || (kind == LONG_TCP4 && version != 4) ||
        (kind == LONG_TCP6 && version != 6) || transport < (version == 4 ? IP4 : IP6) ||
        transport + (tcp ? 20 : 8) > length)
        return false;
    size_t own = tcp ? (size_t)(packet[transport + 12] >> 4) * 4 : 8;
    size_t piece = field(header, 4);
    if (own < (tcp ? 20 : 8) || transport + own >= length || piece == 0 ||
        (version == 4 && (size_t)(packet[0] & 15) * 4 != transport))
        return false;
    segments->transport = transport;
    segments->headers = transport + own;
    segments->piece = piece;
    segments->tcp = tcp;
    return true;
}

size_t segments_count(const struct segments *segments)
{
    size_t payload = segments->length - segments->headers;
    return (payload + segments->piece - 1) / segments->piece;
}

size_t segments_next(struct segments *segments, uint8_t *into)
{
    size_t left = segments->length - segments->headers - segments->taken;
    if (left == 0)
        return 0;
    bool first = segments->index == 0, last = left <= segments->piece;
    size_t payload = last ? left : segments->piece;
    size_t length = segments->headers + payload, own = length - segments->transport;
    memcpy(into, segments->packet, segments->headers);
    memcpy(into + segments->headers, segments->packet + segments->headers + segments->taken,
           payload);
    if (into[0] >> 4 == 4) {
        put16(into + 2, length);
        put16(into + 4, get16(into + 4) + segments->index);
        put16(into + IP4_SUM, 0);
        put_sum(into + IP4_SUM, add_up(0, into, segments->transport), false);
    } else {
        put16(into + 4, length - IP6);
    }
    uint8_t *transport = into + segments->transport;
    if (segments->tcp) {
        size_t sequence = ((size_t)get16(transport + 4) << 16 | get16(transport + 6)) +
                          segments->taken;
        put16(transport + 4, sequence >> 16);
        put16(transport + 6, sequence);
        if (!last)
            transport[TCP_FLAGS] &= (uint8_t) ~(FIN | PSH);
        if (!first)
            transport[TCP_FLAGS] &= (uint8_t)~CWR;
    } else {
        put16(transport + 4, own);
    }
    uint8_t *sum = transport + (segments->tcp ? TCP_SUM : UDP_SUM);
    put16(sum, 0);
    put_sum(sum,
            add_up(pseudo(into, segments->tcp ? TCP : UDP, own), transport, own),
            !segments->tcp);
    segments->taken += payload;
    segments->index++;
    return length;
}
