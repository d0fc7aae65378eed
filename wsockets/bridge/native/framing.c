#include "framing.h"

enum {
    IP4_HEADER = 20, /* RFC 791, section 3.1: the least that the total length says */
    IP6_HEADER = 40, /* RFC 8200, section 3: what the payload length leaves out */
};

static size_t number16(const uint8_t *data)
{
    return (size_t)data[0] << 8 | data[1];
}

static enum verdict cut_ip(const uint8_t *data, size_t have, struct packet *found)
{
    if (have == 0)
        return PACKET_INCOMPLETE;
    switch (data[0] >> 4) {
    case 4:
        if (have < 4)
            return PACKET_INCOMPLETE;
        found->length = number16(data + 2);
        if (found->length < IP4_HEADER) {
            found->value = found->length;
            return PACKET_TOO_SHORT;
        }
        return PACKET_WHOLE;
    case 6:
        if (have < 6)
            return PACKET_INCOMPLETE;
        found->length = IP6_HEADER + number16(data + 4);
        return PACKET_WHOLE;
    default:
        found->value = data[0];
        return PACKET_NO_IP;
    }
}

enum verdict packet_cut(enum framing framing, const uint8_t *data, size_t have,
                        size_t mtu, struct packet *found)
{
    found->skip = 0;
    if (framing == FRAMING_LENGTH16) {
        if (have < 2)
            return PACKET_INCOMPLETE;
        found->skip = 2;
        found->length = number16(data);
    } else {
        enum verdict verdict = cut_ip(data, have, found);
        if (verdict != PACKET_WHOLE)
            return verdict;
    }
    if (found->length > mtu) {
        found->value = found->length;
        return PACKET_TOO_LONG;
    }
    return have - found->skip < found->length ? PACKET_INCOMPLETE : PACKET_WHOLE;
}

enum verdict packet_check(enum framing framing, const uint8_t *data, size_t length,
                          size_t mtu, struct packet *found)
{
    found->skip = 0;
    found->length = length;
    if (length > mtu) {
        found->value = length;
        return PACKET_TOO_LONG;
    }
    if (framing == FRAMING_IP && data[0] >> 4 != 4 && data[0] >> 4 != 6) {
        found->value = data[0];
        return PACKET_NO_IP;
    }
    return PACKET_WHOLE;
}
