/* Packets that a device gives and takes many at a time: IFF_VNET_HDR of TUN devices, whose reads
   begin with a struct virtio_net_hdr (virtio 1.2, section 5.1.6). With offloads on
   (TUNSETOFFLOAD), what the kernel's TCP and UDP send in one go comes as one long
   packet, to be cut here as a network card would, and checksums are for us to complete.
   The other way round, packets of one flow that follow each other are joined, as the
   kernel does with those of a card: cut again they are the same, byte by byte. No I/O
   and no state but the cursor. */

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
    uint64_t begin;   /* the pseudo-header's sum, but for the length */
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

/* A long packet that is being made. */
struct joined {
    const uint8_t *first;
    uint8_t *into;
    size_t length;    /* so far; of the first alone nothing is in `into` */
    size_t transport, headers, piece;
    unsigned count;
    bool tcp, whole;  /* whole: none may follow the last */
};

/* Begins with a packet. False for one that none can be joined to. */
bool joined_begin(struct joined *joined, uint8_t *into, const uint8_t *packet,
                  size_t length);

/* Adds the packet that follows; false if that does not belong to the others. */
bool joined_add(struct joined *joined, const uint8_t *packet, size_t length);

/* Of two packets at least: completes what is in `into`, and its `header`. */
void joined_end(struct joined *joined, uint8_t *header);

#endif
