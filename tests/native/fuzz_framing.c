/* Fuzzes the cutting of packets: streams that are right, then damaged, in pieces.

   Each verdict is compared with that of a second reading of the rules, written
   apart and as plainly as can be; reading past the data is for the sanitizers to
   find, as every piece lies in memory of exactly its size.

       fuzz_framing SECONDS [SEED]      the seed is printed; a run repeats with it */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../wsockets/bridge/native/framing.h"

enum { LONGEST = 70000 };

static uint64_t state;

/* splitmix64 */
static uint64_t any(void)
{
    uint64_t mixed = state += UINT64_C(0x9e3779b97f4a7c15);
    mixed = (mixed ^ mixed >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    mixed = (mixed ^ mixed >> 27) * UINT64_C(0x94d049bb133111eb);
    return mixed ^ mixed >> 31;
}

static size_t below(size_t limit)
{
    return (size_t)(any() % limit);
}

struct expected {
    enum verdict verdict;
    size_t skip, length;
};

static struct expected read_again(enum framing framing, const uint8_t *data, size_t have,
                                  size_t mtu)
{
    struct expected found = {PACKET_INCOMPLETE, 0, 0};
    size_t length_at = 0, add = 0;
    if (framing == FRAMING_LENGTH16) {
        found.skip = 2;
    } else {
        if (have == 0)
            return found;
        unsigned version = data[0] / 16u;
        if (version != 4 && version != 6) {
            found.verdict = PACKET_NO_IP;
            return found;
        }
        length_at = version == 4 ? 2 : 4;
        add = version == 4 ? 0 : 40;
    }
    if (have < length_at + 2)
        return found;
    found.length = data[length_at] * 256u + data[length_at + 1] + add;
    if (framing == FRAMING_IP && found.length < 20)
        found.verdict = PACKET_TOO_SHORT;
    else if (found.length > mtu)
        found.verdict = PACKET_TOO_LONG;
    else if (found.skip + found.length <= have)
        found.verdict = PACKET_WHOLE;
    return found;
}

static void fail(const char *what, enum framing framing, const uint8_t *data, size_t have,
                 size_t mtu)
{
    fprintf(stderr, "%s: framing %d, mtu %zu, %zu bytes:", what, framing, mtu, have);
    for (size_t i = 0; i < have && i < 16; i++)
        fprintf(stderr, " %02x", data[i]);
    fprintf(stderr, "\n");
    abort();
}

/* Cuts `have` bytes, in memory of their own; the bytes cut off. */
static size_t cut_all(enum framing framing, const uint8_t *bytes, size_t have, size_t mtu)
{
    uint8_t *data = malloc(have ? have : 1);
    if (!data)
        abort();
    memcpy(data, bytes, have);
    size_t at = 0;
    for (;;) {
        struct packet found = {0};
        enum verdict verdict = packet_cut(framing, data + at, have - at, mtu, &found);
        struct expected again = read_again(framing, data + at, have - at, mtu);
        if (verdict != again.verdict)
            fail("another verdict", framing, data + at, have - at, mtu);
        if (verdict != PACKET_WHOLE)
            break;
        if (found.skip != again.skip || found.length != again.length)
            fail("another packet", framing, data + at, have - at, mtu);
        struct packet alone = {0};
        size_t length = found.length;
        if (length && packet_check(framing, data + at + found.skip, length, mtu, &alone) !=
                          PACKET_WHOLE)
            fail("refused by itself", framing, data + at, have - at, mtu);
        at += found.skip + found.length;
    }
    free(data);
    return at;
}

/* One packet at `data`, which has room for it; its length. */
static size_t make(enum framing framing, uint8_t *data)
{
    size_t length = below(8) ? below(200) : below(65536);
    if (framing == FRAMING_LENGTH16) {
        data[0] = (uint8_t)(length >> 8);
        data[1] = (uint8_t)length;
        return length + 2;
    }
    if (below(2)) {
        data[0] = (uint8_t)(0x60 + below(16));
        data[4] = (uint8_t)(length >> 8);
        data[5] = (uint8_t)length;
        return length + 40;
    }
    length = length < 20 ? 20 : length;
    data[0] = (uint8_t)(0x40 + below(16));
    data[2] = (uint8_t)(length >> 8);
    data[3] = (uint8_t)length;
    return length;
}

static void once(uint8_t *stream)
{
    static const size_t mtus[] = {20, 40, 1280, 1500, 65535};
    enum framing framing = below(2) ? FRAMING_IP : FRAMING_LENGTH16;
    size_t mtu = mtus[below(sizeof mtus / sizeof *mtus)];
    size_t length = 0, packets = below(8);
    memset(stream, (int)below(256), 2 * LONGEST);
    for (size_t i = 0; i < packets && length < LONGEST - 65600; i++)
        length += make(framing, stream + length);
    for (size_t damage = below(4); damage && length; damage--)
        stream[below(2) ? below(length) : below(length < 8 ? length : 8)] = (uint8_t)any();
    size_t have = below(3) ? length : below(length + 1);
    size_t whole = cut_all(framing, stream, have, mtu);
    /* Whatever the pieces, the same packets come out. */
    size_t first = below(have + 1);
    size_t taken = cut_all(framing, stream, first, mtu);
    taken += cut_all(framing, stream + taken, have - taken, mtu);
    if (taken != whole)
        fail("other packets in pieces", framing, stream, have, mtu);
}

int main(int count, char **arguments)
{
    double seconds = count > 1 ? atof(arguments[1]) : 1.0;
    uint64_t seed = count > 2 ? strtoull(arguments[2], NULL, 0) : (uint64_t)time(NULL);
    state = seed;
    uint8_t *stream = malloc(2 * LONGEST);
    if (!stream)
        return 1;
    unsigned long long runs = 0;
    clock_t end = clock() + (clock_t)(seconds * CLOCKS_PER_SEC);
    printf("seed %llu\n", (unsigned long long)seed);
    fflush(stdout);
    do {
        once(stream);
        runs++;
    } while (clock() < end);
    free(stream);
    printf("%llu streams\n", runs);
    return 0;
}
