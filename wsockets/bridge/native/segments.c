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
enum { TCP_FLAGS = 13, FIN = 0x01, PSH = 0x08, ACK = 0x10, CWR = 0x80 };
enum { IP4 = 20, IP6 = 40 };                         /* the shortest headers */
enum { MOST = 64 };                                  /* joined; of UDP the kernel's limit */

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

/* Of a long packet, the pseudo-header's sum without a length. Where the checksum is to be
   completed it is in its field: so the kernel's last word on the addresses is known, which
   are not those of the IP header where that has a route (RFC 791, LSRR; RFC 8200, 4.4). */
static uint64_t begin_of(const uint8_t *packet, size_t transport, size_t own, bool tcp,
                         bool needs)
{
    if (!needs)
        return pseudo(packet, tcp ? TCP : UDP, 0);
    uint8_t less[2];
    put16(less, ~own);
    return add_up(add_up(0, less, 2), packet + transport + (tcp ? TCP_SUM : UDP_SUM), 2);
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
    unsigned version = length ? packet[0] >> 4 : 0;
    bool tcp = kind != LONG_UDP, needs = header[0] & NEEDS_CHECKSUM;
    size_t transport = version == 4 ? (size_t)(packet[0] & 15) * 4 : IP6;
    if (needs)
        transport = field(header, 6);
    if (length > SEGMENTS_LONGEST || !(version == 4 || version == 6) ||
        (kind == LONG_TCP4 && version != 4) || (kind == LONG_TCP6 && version != 6) ||
        transport < (version == 4 ? IP4 : IP6) || transport + (tcp ? 20 : 8) > length)
        return false;
    if (!needs && packet[version == 4 ? 9 : 6] != (tcp ? TCP : UDP))
        return false;
    size_t own = tcp ? (size_t)(packet[transport + 12] >> 4) * 4 : 8;
    size_t piece = field(header, 4);
    if (own < (tcp ? 20 : 8) || transport + own >= length || piece == 0 ||
        (version == 4 && (size_t)(packet[0] & 15) * 4 != transport))
        return false;
    segments->begin = begin_of(packet, transport, length - transport, tcp, needs);
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
    uint8_t *sum = transport + (segments->tcp ? TCP_SUM : UDP_SUM), words[2];
    put16(sum, 0);
    put16(words, own);
    put_sum(sum, add_up(add_up(segments->begin, words, 2), transport, own), !segments->tcp);
    segments->taken += payload;
    segments->index++;
    return length;
}

/* -- joining */

/* Whether the checksum that is in `data` is right; `begin` is the pseudo-header's sum. */
static bool sums_up(uint64_t begin, const uint8_t *data, size_t length)
{
    uint8_t found[2];
    put_sum(found, add_up(begin, data, length), false);
    return (found[0] | found[1]) == 0;
}

static unsigned protocol_of(const struct joined *joined)
{
    return joined->tcp ? TCP : UDP;
}

/* What is joined is not looked at again: the kernel takes it to be right. */
static bool is_right(const struct joined *about, const uint8_t *packet, size_t length)
{
    size_t own = length - about->transport;
    return (about->transport != IP4 || sums_up(0, packet, IP4)) &&
           sums_up(pseudo(packet, protocol_of(about), own), packet + about->transport, own);
}

/* What there is to know of a packet that could be one of many: of TCP one with data and
   no flag but ACK, and PSH in the last. */
static bool look(const uint8_t *packet, size_t length, struct joined *found)
{
    size_t transport = length && packet[0] == 0x45 ? IP4 : IP6, own = 8;
    if (length <= transport + own || (transport == IP6 && packet[0] >> 4 != 6))
        return false;
    size_t said = transport == IP4 ? get16(packet + 2) : IP6 + get16(packet + 4);
    if (said != length)
        return false;
    /* A fragment; or a checksum of 0xffff, which is another way to write 0. */
    if (transport == IP4 && ((get16(packet + 6) & 0x3fff) || get16(packet + IP4_SUM) == 0xffff))
        return false;
    unsigned protocol = packet[transport == IP4 ? 9 : 6];
    if (protocol == TCP) {
        if (length <= transport + 20)
            return false;
        own = (size_t)(packet[transport + 12] >> 4) * 4;
        unsigned flags = packet[transport + TCP_FLAGS];
        if (own < 20 || (packet[transport + 12] & 15) || (flags & ~(unsigned)PSH) != ACK ||
            get16(packet + transport + TCP_SUM) == 0xffff)
            return false;
        found->whole = flags & PSH;
    } else if (protocol != UDP || get16(packet + transport + 4) != length - transport ||
               get16(packet + transport + UDP_SUM) == 0) {
        return false;
    }
    if (transport + own >= length)
        return false;
    found->tcp = protocol == TCP;
    found->transport = transport;
    found->headers = transport + own;
    found->piece = length - found->headers;
    return true;
}

bool joined_begin(struct joined *joined, uint8_t *into, const uint8_t *packet, size_t length)
{
    *joined = (struct joined){.first = packet, .into = into, .length = length, .count = 1};
    return look(packet, length, joined) && !joined->whole;
}

/* Whether the headers of the next are what they would be if it were cut off. */
static bool follows(const struct joined *joined, const uint8_t *next)
{
    const uint8_t *first = joined->first;
    size_t transport = joined->transport, own = joined->headers - transport;
    if (transport == IP4) {
        unsigned number = (get16(first + 4) + joined->count) & 0xffff;
        if (memcmp(first, next, 2) || get16(next + 4) != number ||
            memcmp(first + 6, next + 6, 4) || memcmp(first + 12, next + 12, 8))
            return false;
    } else if (memcmp(first, next, 4) || memcmp(first + 6, next + 6, 34)) {
        return false;
    }
    first += transport;
    next += transport;
    if (memcmp(first, next, 4))
        return false;
    if (!joined->tcp)
        return true;
    uint32_t expected = (uint32_t)get16(first + 4) << 16 | get16(first + 6);
    expected += (uint32_t)(joined->piece * joined->count);
    uint32_t sequence = (uint32_t)get16(next + 4) << 16 | get16(next + 6);
    /* Acknowledgement, length, window, urgent pointer, options. */
    return sequence == expected && !memcmp(first + 8, next + 8, 5) &&
           !memcmp(first + 14, next + 14, 2) && !memcmp(first + 18, next + 18, own - 18);
}

bool joined_add(struct joined *joined, const uint8_t *packet, size_t length)
{
    struct joined next = {0};
    if (joined->whole || !look(packet, length, &next) ||
        next.transport != joined->transport || next.headers != joined->headers ||
        next.tcp != joined->tcp || next.piece > joined->piece || joined->count == MOST ||
        joined->length + next.piece > SEGMENTS_LONGEST || !follows(joined, packet) ||
        !is_right(&next, packet, length))
        return false;
    if (joined->count == 1) {
        if (!is_right(joined, joined->first, joined->length))
            return false;
        memcpy(joined->into, joined->first, joined->length);
    }
    memcpy(joined->into + joined->length, packet + next.headers, next.piece);
    joined->length += next.piece;
    joined->count++;
    joined->whole = next.whole || next.piece < joined->piece;
    if (next.whole)
        joined->into[joined->transport + TCP_FLAGS] |= PSH;
    return true;
}

static void put_field(uint8_t *header, size_t at, size_t value)
{
    uint16_t small = (uint16_t)value;
    memcpy(header + at, &small, sizeof small);
}

void joined_end(struct joined *joined, uint8_t *header)
{
    uint8_t *packet = joined->into;
    size_t transport = joined->transport, own = joined->length - transport;
    bool ip4 = transport == IP4;
    if (ip4) {
        put16(packet + 2, joined->length);
        put16(packet + IP4_SUM, 0);
        put_sum(packet + IP4_SUM, add_up(0, packet, IP4), false);
    } else {
        put16(packet + 4, joined->length - IP6);
    }
    if (!joined->tcp)
        put16(packet + transport + 4, own);
    /* The sum of the pseudo-header, not turned over yet. */
    size_t at = joined->tcp ? TCP_SUM : UDP_SUM;
    uint8_t *sum = packet + transport + at;
    put_sum(sum, pseudo(packet, protocol_of(joined), own), false);
    sum[0] = (uint8_t)~sum[0];
    sum[1] = (uint8_t)~sum[1];
    header[0] = NEEDS_CHECKSUM;
    header[1] = joined->tcp ? (ip4 ? LONG_TCP4 : LONG_TCP6) : LONG_UDP;
    put_field(header, 2, joined->headers);
    put_field(header, 4, joined->piece);
    put_field(header, 6, transport);
    put_field(header, 8, at);
}
