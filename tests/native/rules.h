/* The rules of packets, read a second time, apart from wsockets/bridge/native/framing.c
   and as plainly as can be: what that one decides is compared with this. */

#ifndef WSOCKETS_TESTS_RULES_H
#define WSOCKETS_TESTS_RULES_H

#include "../../wsockets/bridge/native/framing.h"

struct expected {
    enum verdict verdict;
    size_t skip, length, value;
};

/* The first packet in the `have` bytes at `data`. */
static inline struct expected expect(enum framing framing, const uint8_t *data,
                                     size_t have, size_t mtu)
{
    struct expected found = {PACKET_INCOMPLETE, 0, 0, 0};
    size_t length_at = 0, add = 0;
    if (framing == FRAMING_LENGTH16) {
        found.skip = 2;
    } else {
        if (have == 0)
            return found;
        unsigned version = data[0] / 16u;
        if (version != 4 && version != 6) {
            found.verdict = PACKET_NO_IP;
            found.value = data[0];
            return found;
        }
        length_at = version == 4 ? 2 : 4;
        add = version == 4 ? 0 : 40;
    }
    if (have < length_at + 2)
        return found;
    found.value = found.length = data[length_at] * 256u + data[length_at + 1] + add;
    if (framing == FRAMING_IP && found.length < 20)
        found.verdict = PACKET_TOO_SHORT;
    else if (found.length > mtu)
        found.verdict = PACKET_TOO_LONG;
    else if (found.skip + found.length <= have)
        found.verdict = PACKET_WHOLE;
    return found;
}

#endif
