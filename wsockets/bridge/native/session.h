/* A session: one running bridge, two ends and a flow in each direction.

   Which thread may touch what:
   - until session_start() whoever makes it; then the engine's thread;
   - the members under "commands" and "news" under the engines' lock (loop.h);
   - `ended` is set under that lock, as the engine's last touch; after it the rest
     may be read by anybody;
   - the counters are written by the engine's thread and read by any. */

#ifndef WSOCKETS_SESSION_H
#define WSOCKETS_SESSION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buffers.h"
#include "end.h"
#include "framing.h"

enum direction { ENCRYPT, DECRYPT };

enum reason {
    REASON_NONE = -1,
    REASON_EOF,
    REASON_TRUNCATED,
    REASON_RESET,
    REASON_TLS,
    REASON_SINK,
    REASON_FRAMING,
    REASON_STOPPED,
    REASON_IDLE,
    REASON_CLOSED,
};

/* A flow's life. What is held is delivered in every state but FLOW_OVER.

     OPEN ──EOF──▶ REST ──delivered──▶ FIN ──▶ OVER
       │             ▲                           ▲
       ├─stop──▶ DRAIN: decrypts what is here ───┤
       └─break─▶ LAST: reads what is there ──────┘ */
enum flow_state {
    FLOW_OVER,  /* nothing more happens; or the direction is not bridged */
    FLOW_OPEN,  /* reads and delivers */
    FLOW_LAST,  /* reads what has arrived, but waits for no more */
    FLOW_DRAIN, /* reads the descriptor no more, but what TLS holds */
    FLOW_REST,  /* reads no more */
    FLOW_FIN,   /* all is delivered; the destination is being half-closed */
};

struct bytes {
    uint8_t *data; /* malloc'ed, or NULL */
    size_t length;
};

struct counters {
    _Atomic uint64_t bytes, packets, records, drops;
};

struct flow {
    enum direction direction;
    enum flow_state state;
    struct end *source, *destination;
    struct buffer *clear; /* what was read and is not delivered */
    struct bytes head;    /* what was read before: goes first */
    size_t head_taken;
    struct pipe *pipe; /* instead of `clear`, with splice(2) */
    bool bridged;      /* it is to be served at all */
    bool spliced;      /* splice(2) serves this flow */
    bool cut;          /* `clear` holds a stream of packets, to be cut */
    bool datagrams;    /* each read of the source is a packet */
    bool entries;      /* … and `clear` holds each behind its length (2 bytes) */
    bool half_close;   /* after an end in good order, the destination is half-closed */
    bool in_order;     /* the source has ended so, and nothing has gone wrong since */
    size_t part;       /* bytes of the first packet (prefix included) written */
    size_t sealed;     /* ciphertext at the very beginning of the buffer `clear` */
    size_t drained;    /* bytes read in FLOW_LAST */
    uint64_t offset;   /* where `clear` begins in the flow's clear bytes */
    struct counters count;
};

struct report {
    enum side side;
    enum direction direction;
    enum reason reason;
    int error;             /* an errno, or 0 */
    enum verdict verdict;  /* for REASON_FRAMING, with the two below */
    size_t value;
    uint64_t offset;
};

enum { TO_START = 1, TO_STOP = 2, TO_ABANDON = 4 };

struct news; /* loop.h */
struct engine;

struct session {
    /* What to do; constant. */
    enum framing framing;
    size_t prefix_length, mtu;
    uint8_t *prefix;       /* malloc'ed, or NULL */
    bool segmented;        /* what is read has a virtio header for prefix (segments.h) */
    bool joins_tcp, joins_udp; /* what is written may be many packets at a time */
    int64_t idle_time; /* nanoseconds; 0: no limit */
    bool half_close;   /* pass the end of one side on to the other */

    /* The engine's. */
    struct end ends[2];    /* by enum side */
    struct flow flows[2];  /* by enum direction */
    struct engine *engine;
    struct pool *pool;
    struct session *next_ready, *next_ended;
    bool is_ready;
    size_t timer;          /* its place in the heap, from 1; 0: none */
    int64_t due;           /* when the timer fires */
    int64_t now;           /* of this turn; CLOCK_MONOTONIC, nanoseconds */
    int64_t moved_at;      /* when a byte moved last */
    int64_t deadline;      /* when it ends whatever is left; 0: none */
    int64_t retry_at;      /* when to try again what no edge will announce; 0: none */
    int64_t credit;        /* what is left of this turn */
    bool begun, stopping, ending;
    bool grace;            /* the deadline moves on with every byte that moves */
    bool over;
    struct report report;
    struct codes codes;    /* for REASON_TLS */
    /* By enum side: cleartext that came from there and was not delivered; what has to
       be sent there first; and behind it, before TLS. */
    struct bytes unread[2], owed[2], owed_clear[2];

    /* Commands. */
    struct session *next_command;
    bool commanded;
    unsigned commands;
    int64_t drain; /* nanoseconds, for TO_STOP */

    /* News. */
    void *object; /* whose it is, for who takes the news */
    struct news *news;
    struct session *next_news;
    bool has_news;
    int done_fd; /* an eventfd, written when it has ended; -1: nobody asked */
    struct session *next_known, **known; /* in the engine's list, for fork(2) */
    _Atomic unsigned finished; /* bits by enum direction */
    _Atomic bool ended;
};

/* A session whose members under "what to do", ends and flows are to be filled in;
   NULL without memory. session_prepare() looks at them when they are. */
struct session *session_new(void);
void session_prepare(struct session *session);
void session_free(struct session *session);

/* -- for the engine's thread */

enum turn { TURN_DONE, TURN_AGAIN, TURN_OVER };

/* Takes the ends over. */
void session_begin(struct session *session, int64_t now);

/* Does what can be done now, within bounds. */
enum turn session_turn(struct session *session, int64_t now);

/* When it wants a turn without an event; 0: never. */
int64_t session_due(const struct session *session);

void session_stop(struct session *session, int64_t drain);

/* Ends it here and now. */
void session_abandon(struct session *session);

/* After TURN_OVER or session_abandon(): gives back all but the descriptors. */
void session_finish(struct session *session);

/* -- for flow.c */

/* Something is wrong: what was received is delivered still, then it ends so. */
void session_break(struct session *session, struct end *end, struct flow *flow,
                   enum reason reason, int error, bool unreadable);

/* The same for bytes that are no packet. */
void session_misframed(struct session *session, struct flow *flow, enum verdict verdict,
                       size_t value, uint64_t offset);

/* A flow's source has ended in good order. */
void session_eof(struct session *session, struct flow *flow);

/* A flow has delivered all, in good order. */
void session_delivered(struct session *session, struct flow *flow);

/* Bytes have moved. */
void session_moved(struct session *session);

/* Wants another turn soon, though no edge will come. */
void session_retry(struct session *session);

#endif
