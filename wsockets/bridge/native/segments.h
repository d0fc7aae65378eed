/* Packets that a device gives many at a time: IFF_VNET_HDR of TUN devices, whose reads
   begin with a struct virtio_net_hdr (virtio 1.2, section 5.1.6). With offloads on
   (TUNSETOFFLOAD), what the kernel's TCP and UDP send in one go comes as one long
   packet, to be cut here as a network card would, and checksums are for us to complete.
   No I/O and no state but the cursor. */

#ifndef WSOCKETS_SEGMENTS_H
#define WSOCKETS_SEGMENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SEGMENTS_HEADER = 10,   /* bytes of the header that are looked at */
    SEGMENTS_LONGEST = 65535, /* bytes of what is read behind it */
};

/* Where in a long packet the cutting is. */
struct segments {
    const uint8_t *packet;
    size_t length;
    size_t transport; /* where TCP's or UDP's header begins */
    size_t headers;   /* bytes that every segment begins with */
    size_t piece;     /* bytes of payload in each but the last; 0: it is no long packet */
    size_t taken;     /* bytes of payload that are in segments by now */
    unsigned index;   /* of the next segment */
    bool tcp;
};

/* Looks at a packet behind its `header`. One that is not to be cut has its checksum
   completed, in place. False for what no kernel gives: it is no packet. */
bool segments_begin(struct segments *segments, const uint8_t *header, uint8_t *packet,
                    size_t length);

/* How many there will be, of a long packet. */
size_t segments_count(const struct segments *segments);

/* The next segment, with its headers; its length, 0 when there is none. */
size_t segments_next(struct segments *segments, uint8_t *into);

#endif
