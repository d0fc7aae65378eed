/* Packets in bytes. No I/O and no state: what goes in is bytes, what comes out is
   where the first packet lies or what is wrong with it. */

#ifndef WSOCKETS_FRAMING_H
#define WSOCKETS_FRAMING_H

#include <stddef.h>
#include <stdint.h>

enum framing {
    FRAMING_STREAM,   /* bytes, no packets */
    FRAMING_IP,       /* cut by the length field of IPv4 and IPv6 */
    FRAMING_LENGTH16, /* each behind its length, two bytes, big-endian */
};

enum verdict {
    PACKET_WHOLE,
    PACKET_INCOMPLETE,  /* more bytes are needed to tell, or to have it all */
    PACKET_NO_IP,       /* its first byte, `value`, has neither 4 nor 6 as version */
    PACKET_TOO_SHORT,   /* `value` bytes by its own length field: less than a header */
    PACKET_TOO_LONG,    /* `value` bytes: over the mtu */
    PACKET_CUT_OFF,     /* the bytes ended in it, `value` bytes of it were there */
};

struct packet {
    size_t skip;   /* bytes of framing before it */
    size_t length; /* bytes of the packet itself */
    size_t value;  /* what a verdict is about */
};

/* The first packet in the `have` bytes at `data`. Never FRAMING_STREAM. */
enum verdict packet_cut(enum framing framing, const uint8_t *data, size_t have,
                        size_t mtu, struct packet *found);

/* A packet that came by itself, `length` bytes (at least one with FRAMING_IP). */
enum verdict packet_check(enum framing framing, const uint8_t *data, size_t length,
                          size_t mtu, struct packet *found);

#endif
