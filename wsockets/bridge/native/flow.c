/* A flow reads into `clear`, or into a pipe, only when that holds nothing that could
   be delivered; so what is in flight is bounded, and not reading is how a source
   learns that a destination is slow. */

#include "flow.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "segments.h"
#include "splice.h"
#include "tls.h"

/* Packets that are read before the first of them is passed on. */
enum { BATCH = 64 };
/* Room for a packet that is many, and for these: headers repeated. */
enum { SEGMENTS_ROOM = 256 * 1024 };
/* What ciphertext is longer by than the cleartext that it goes over, in all. */
enum { LONGER = 4096 };
/* What a system call costs, in bytes of session.credit. */
enum { CALL = 1024 };
/* What is read at most, in bytes, of an end that can no longer be written to: more than
   the kernel keeps for it. */
enum { DRAIN = 8 * 1024 * 1024 };

enum step {
    STEP_MOVED,   /* go on */
    STEP_NOTHING, /* the source has nothing now, or nothing is left to deliver */
    STEP_BLOCKED, /* wait for an edge or a timer */
    STEP_YIELD,   /* the credit is used up */
    STEP_CHANGED, /* the flow has another state: look again */
};

enum unit_kind { UNIT_NONE, UNIT_BYTES, UNIT_PACKET, UNIT_CHANGED };

/* What is delivered in one piece: bytes, or a packet. */
struct unit {
    uint8_t *data;
    size_t prefix;  /* bytes at its beginning that are to be the prefix */
    size_t length;  /* to write, that included */
    size_t advance; /* to take from `clear` when that is done */
    size_t payload; /* to count */
};

static void add(_Atomic uint64_t *counter, uint64_t value)
{
    /* Only this thread writes it. */
    atomic_store_explicit(counter,
                          atomic_load_explicit(counter, memory_order_relaxed) + value,
                          memory_order_relaxed);
}

bool bytes_append(struct bytes *bytes, const void *data, size_t length)
{
    if (length == 0)
        return true;
    uint8_t *grown = realloc(bytes->data, bytes->length + length);
    if (!grown)
        return false;
    memcpy(grown + bytes->length, data, length);
    bytes->data = grown;
    bytes->length += length;
    return true;
}

/* -- to the destination */

static enum unit_kind next_unit(struct session *session, struct flow *flow,
                                struct unit *unit)
{
    size_t held = buffer_held(flow->clear);
    if (held == 0)
        return UNIT_NONE;
    uint8_t *data = flow->clear->data + flow->clear->start;
    if (flow->entries) {
        size_t length = (size_t)data[0] << 8 | data[1];
        size_t header = session->framing == FRAMING_LENGTH16 ? 0 : 2;
        unit->data = data + header;
        unit->prefix = 0;
        unit->length = length + 2 - header;
        unit->advance = length + 2;
        unit->payload = length;
        return UNIT_PACKET;
    }
    if (!flow->cut) {
        unit->data = data;
        unit->prefix = 0;
        unit->length = flow->destination->ssl && held > RECORD ? RECORD : held;
        unit->advance = unit->payload = unit->length;
        return UNIT_BYTES;
    }
    /* The prefix is on the side of the sink. */
    size_t prefix = session->prefix_length;
    size_t before = flow->direction == ENCRYPT ? prefix : 0;
    size_t add = flow->direction == DECRYPT ? prefix : 0;
    if (held < before)
        return UNIT_NONE;
    struct packet found = {0};
    enum verdict verdict =
        packet_cut(session->framing, data + before, held - before, session->mtu, &found);
    if (verdict == PACKET_INCOMPLETE)
        return UNIT_NONE;
    if (verdict != PACKET_WHOLE) {
        session_misframed(session, flow, verdict, found.value, flow->offset);
        return UNIT_CHANGED;
    }
    /* Connections have the length between packets, devices do not. */
    size_t skip = before + (flow->destination->ours ? 0 : found.skip);
    unit->advance = before + found.skip + found.length;
    unit->payload = found.length;
    unit->data = data + skip - add;
    unit->prefix = add;
    unit->length = unit->advance - skip + add;
    return UNIT_PACKET;
}

static void count_records(struct flow *flow, const struct unit *unit)
{
    if (flow->destination->side == SIDE_CONNECTION)
        add(&flow->count.records, (unit->length + RECORD - 1) / RECORD);
}

/* Puts the prefix before a packet, over what stands there: of the packet before, or the
   length, which is needed once more unless the packet is delivered. */
static void cover(const struct session *session, const struct unit *unit, uint8_t *covered)
{
    if (unit->prefix == 0)
        return;
    memcpy(covered, unit->data, unit->prefix);
    memcpy(unit->data, session->prefix, unit->prefix);
}

static void uncover(const struct unit *unit, const uint8_t *covered)
{
    if (unit->prefix > 0)
        memcpy(unit->data, covered, unit->prefix);
}

static void taken(struct flow *flow, size_t advance)
{
    flow->clear->start += advance;
    if (!flow->datagrams)
        flow->offset += advance;
    flow->part = 0;
}

static void delivered(struct flow *flow, const struct unit *unit, bool packet)
{
    if (!flow->datagrams) { /* else it was counted when it was read */
        add(&flow->count.bytes, unit->payload);
        add(&flow->count.packets, packet);
    }
    taken(flow, unit->advance);
}

/* A destination without TLS takes no more, or is broken. */
static enum step refused(struct session *session, struct flow *flow, int error)
{
    struct end *end = flow->destination;
    if (error == EAGAIN || error == ENOBUFS) {
        if (error == ENOBUFS || end->unpollable_write)
            session_retry(session);
        return STEP_BLOCKED;
    }
    session_break(session, end, flow, end->ours ? REASON_RESET : REASON_SINK, error, false);
    return STEP_CHANGED;
}

/* Ciphertext for the SSL object: 1; 0 when there is none now; -1 at FIN; -errno - 1. */
static int pull(struct session *session, struct end *end)
{
    if (!end->readable)
        return 0;
    if (!end->in && !(end->in = buffer_take(session->pool))) {
        session_retry(session);
        return 0;
    }
    end->in->start = end->in->end = HEADROOM;
    ssize_t count = end_read(end, end->in->data + HEADROOM, BULK);
    session->credit -= CALL;
    if (count > 0) {
        end->in->end += (size_t)count;
        session->credit -= count;
        if (tls_feed(end, end->in->data + HEADROOM, (size_t)count))
            return 1;
        count = -ENOMEM;
    }
    buffer_give(session->pool, &end->in);
    if (count == 0)
        return -1;
    return count == -EAGAIN ? 0 : (int)count - 1;
}

static enum step put_plain(struct session *session, struct flow *flow,
                           const struct unit *unit, bool packet)
{
    struct end *end = flow->destination;
    if (!end->writable)
        return STEP_BLOCKED;
    uint8_t covered[HEADROOM];
    cover(session, unit, covered);
    ssize_t count = end_write(end, unit->data + flow->part, unit->length - flow->part);
    uncover(unit, covered);
    session->credit -= CALL;
    if (count < 0) {
        bool dropped = packet && !end->ours && (count == -EIO || count == -EINVAL);
        if (!dropped)
            return refused(session, flow, (int)-count);
        add(&flow->count.drops, 1);
        taken(flow, unit->advance);
        return STEP_MOVED;
    }
    session->credit -= count;
    session_moved(session);
    if (!packet) {
        struct unit some = {.advance = (size_t)count, .payload = (size_t)count};
        if (count == 0) {
            session_retry(session);
            return STEP_BLOCKED;
        }
        delivered(flow, &some, false);
        return STEP_MOVED;
    }
    flow->part += (size_t)count;
    if (flow->part >= unit->length)
        delivered(flow, unit, true);
    else if (count == 0) {
        session_retry(session);
        return STEP_BLOCKED;
    }
    return STEP_MOVED;
}

/* Joins the packets that follow `unit` to it, as far as they can be, and writes them as
   one to a device that takes that. STEP_NOTHING: it is one alone. */
static enum step put_joined(struct session *session, struct flow *flow,
                            const struct unit *unit)
{
    struct end *end = flow->destination;
    size_t held = buffer_held(flow->clear), advance = unit->advance, payload = unit->payload;
    const uint8_t *data = flow->clear->data + flow->clear->start;
    if (held <= advance || flow->part)
        return STEP_NOTHING;
    if (!end->writable)
        return STEP_BLOCKED;
    struct buffer *whole = buffer_take(session->pool);
    if (!whole)
        return STEP_NOTHING;
    uint8_t *header = whole->data;
    struct joined joined;
    struct packet next = {0};
    if (joined_begin(&joined, header + session->prefix_length, data, unit->payload)) {
        while (packet_cut(session->framing, data + advance, held - advance, session->mtu,
                          &next) == PACKET_WHOLE &&
               joined_add(&joined, data + advance, next.length)) {
            advance += next.length;
            payload += next.length;
        }
    }
    enum step step = STEP_NOTHING;
    if (joined.count > 1 && (joined.tcp ? session->joins_tcp : session->joins_udp)) {
        memset(header, 0, session->prefix_length);
        joined_end(&joined, header);
        ssize_t count = end_write(end, header, session->prefix_length + joined.length);
        session->credit -= CALL;
        if (count >= 0) {
            session->credit -= count;
            session_moved(session);
            add(&flow->count.bytes, payload);
            add(&flow->count.packets, joined.count);
            taken(flow, advance);
            step = STEP_MOVED;
        } else if (count == -EAGAIN || count == -ENOBUFS) {
            step = refused(session, flow, (int)-count);
        } else if (count == -EIO) {
            /* The device is down: so it would go with each. */
            add(&flow->count.drops, joined.count);
            taken(flow, advance);
            step = STEP_MOVED;
        } else if (count != -ENOMEM) {
            /* Each alone then, and from now on: an old kernel does not take such. */
            *(joined.tcp ? &session->joins_tcp : &session->joins_udp) = false;
        }
    }
    buffer_give(session->pool, &whole);
    return step;
}

/* What is sealed in front of `clear` is to be sent: the buffer becomes the end's `out`.
   False without memory for what is not sealed yet. */
static bool pass_on(struct session *session, struct flow *flow)
{
    struct buffer *sealed = flow->clear, *rest = NULL;
    if (flow->sealed == 0)
        return true;
    size_t held = sealed->end - sealed->start;
    if (held) {
        if (!(rest = buffer_take(session->pool)))
            return false;
        memcpy(rest->data + rest->end, sealed->data + sealed->start, held);
        rest->end += held;
    }
    sealed->start = 0;
    sealed->end = flow->sealed;
    flow->clear = rest;
    flow->sealed = 0;
    buffer_give(session->pool, &flow->destination->out);
    flow->destination->out = sealed;
    return true;
}

/* Puts the record that was just written over the cleartext of itself and those before,
   if nothing else waits to be sent; else to the end's `out`. False without memory. */
static bool seal(struct session *session, struct flow *flow)
{
    struct end *end = flow->destination;
    char *data;
    size_t length = tls_behind(end, &data);
    if (buffer_held(end->out) || flow->sealed + length > flow->clear->start)
        return pass_on(session, flow) && tls_collect(end, session->pool);
    if (!tls_take(end, flow->clear->data + flow->sealed, length))
        return false;
    flow->sealed += length;
    return true;
}

static enum step put_tls(struct session *session, struct flow *flow, const struct unit *unit,
                         bool packet)
{
    struct end *end = flow->destination;
    if (end->broken) {
        session_break(session, end, flow, REASON_RESET, end->broken, false);
        return STEP_CHANGED;
    }
    if (end->out && buffer_room(end->out) < unit->length + RECORD_ROOM - RECORD) {
        enum flushed flushed = tls_flush(end, session->pool);
        session->credit -= CALL;
        if (flushed == WAITING)
            return STEP_BLOCKED;
        if (flushed == BROKEN)
            return STEP_CHANGED;
    }
    int done;
    uint8_t covered[HEADROOM];
    for (;;) {
        cover(session, unit, covered);
        done = tls_write(end, unit->data, unit->length);
        uncover(unit, covered);
        if (done != TLS_WANT)
            break;
        int got = pull(session, end);
        if (got == 0)
            return STEP_BLOCKED;
        if (got < 0) {
            session_break(session, end, flow, REASON_RESET, got == -1 ? ECONNRESET : -got - 1,
                          true);
            return STEP_CHANGED;
        }
    }
    if (done == TLS_FAILED) {
        session_break(session, end, flow, REASON_TLS, 0, false);
        return STEP_CHANGED;
    }
    count_records(flow, unit);
    session->credit -= (int64_t)unit->length;
    session_moved(session);
    delivered(flow, unit, packet);
    bool whole = unit->length == RECORD;
    if (whole && !(packet ? tls_collect(end, session->pool) : seal(session, flow))) {
        session_retry(session);
        return STEP_BLOCKED;
    }
    return STEP_MOVED;
}

/* Everything that can be delivered. STEP_NOTHING when that is done. */
static enum step deliver(struct session *session, struct flow *flow)
{
    struct end *end = flow->destination;
    enum step step = STEP_NOTHING;
    bool any = false;
    for (;;) {
        struct unit unit;
        enum unit_kind kind = next_unit(session, flow, &unit);
        if (kind == UNIT_CHANGED)
            return STEP_CHANGED;
        if (kind == UNIT_NONE)
            break;
        /* What is begun in one buffer is finished. */
        if (session->credit <= 0 && flow->sealed == 0) {
            step = STEP_YIELD;
            break;
        }
        bool packet = kind == UNIT_PACKET;
        step = STEP_NOTHING;
        if ((session->joins_tcp || session->joins_udp) && flow->direction == DECRYPT)
            step = put_joined(session, flow, &unit);
        if (step == STEP_NOTHING)
            step = end->ssl ? put_tls(session, flow, &unit, packet)
                            : put_plain(session, flow, &unit, packet);
        if (step != STEP_MOVED)
            break;
        any = true;
        step = STEP_NOTHING;
    }
    if (!pass_on(session, flow)) {
        /* There is no going on where ciphertext is missing. */
        end->broken = ENOMEM;
        flow->sealed = 0;
        session_break(session, end, flow, REASON_RESET, ENOMEM, false);
        return STEP_CHANGED;
    }
    if (end->ssl && (any || step == STEP_NOTHING) && tls_waiting(end)) {
        session->credit -= CALL;
        enum flushed flushed = tls_flush(end, session->pool);
        if (flushed == BROKEN)
            session_break(session, end, flow, REASON_RESET, end->broken, false);
        if (flushed == BROKEN || step == STEP_CHANGED)
            return STEP_CHANGED;
        if (flushed == WAITING && step == STEP_NOTHING)
            return STEP_BLOCKED;
    }
    return step;
}

static enum step deliver_piped(struct session *session, struct flow *flow)
{
    while (flow->pipe && flow->pipe->held) {
        if (session->credit <= 0)
            return STEP_YIELD;
        if (!flow->destination->writable)
            return STEP_BLOCKED;
        ssize_t count = splice_out(flow->pipe, flow->destination);
        session->credit -= CALL;
        if (count == -EINVAL) {
            flow->spliced = false; /* read from the pipe instead: fill() */
            return STEP_NOTHING;
        }
        if (count < 0)
            return refused(session, flow, (int)-count);
        add(&flow->count.bytes, (uint64_t)count);
        session->credit -= count;
        session_moved(session);
    }
    return STEP_NOTHING;
}

/* -- from the source */

/* A packet of `length` bytes has come to where `clear` ends, behind `header` bytes. */
static enum step take_packet(struct session *session, struct flow *flow, size_t header,
                             size_t length, bool prefixed)
{
    uint8_t *data = flow->clear->data + flow->clear->end + header;
    if (!prefixed || (length == 0 && session->framing == FRAMING_IP)) {
        add(&flow->count.drops, 1);
        return STEP_MOVED;
    }
    struct packet found = {0};
    enum verdict verdict =
        packet_check(session->framing, data, length, session->mtu, &found);
    if (verdict != PACKET_WHOLE) {
        session_misframed(session, flow, verdict, found.value, flow->offset);
        return STEP_CHANGED;
    }
    if (header) {
        data[-2] = (uint8_t)(length >> 8);
        data[-1] = (uint8_t)length;
    }
    flow->clear->end += header + length;
    flow->offset += length + (session->framing == FRAMING_LENGTH16 ? 2 : 0);
    add(&flow->count.packets, 1);
    add(&flow->count.bytes, length);
    session_moved(session);
    return STEP_MOVED;
}

/* The same of what a device gave behind `device`, a virtio header: it may be many. */
static enum step take_segments(struct session *session, struct flow *flow,
                               const uint8_t *device, size_t header, size_t length)
{
    struct buffer *clear = flow->clear;
    struct segments segments;
    if (!segments_begin(&segments, device, clear->data + clear->end + header, length))
        return take_packet(session, flow, header, length, false);
    if (segments.piece == 0)
        return take_packet(session, flow, header, length, true);
    /* The segments come where it lies. */
    uint8_t *whole = clear->data + CAPACITY - length;
    memmove(whole, segments.packet, length);
    segments.packet = whole;
    size_t each = header + segments.headers + segments.piece;
    if (segments_count(&segments) * each > (size_t)(whole - clear->data) - clear->end)
        return take_packet(session, flow, header, length, false);
    enum step step = STEP_MOVED;
    while (step == STEP_MOVED &&
           (length = segments_next(&segments, clear->data + clear->end + header)))
        step = take_packet(session, flow, header, length, true);
    return step;
}

static size_t header_length(const struct session *session, const struct flow *flow)
{
    return flow->entries || session->framing == FRAMING_LENGTH16 ? 2 : 0;
}

static enum step source_ended(struct session *session, struct flow *flow, int error)
{
    struct end *end = flow->source;
    if (error == 0)
        session_eof(session, flow);
    else
        session_break(session, end, flow, end->ours ? REASON_RESET : REASON_SINK, error,
                      true);
    return STEP_CHANGED;
}

static enum step fill_bytes(struct session *session, struct flow *flow)
{
    struct end *end = flow->source;
    size_t room = buffer_room(flow->clear);
    ssize_t count = end_read(end, flow->clear->data + flow->clear->end,
                             room < BULK ? room : BULK);
    session->credit -= CALL;
    if (count > 0) {
        flow->clear->end += (size_t)count;
        return STEP_MOVED;
    }
    bool none = count == 0 || count == -EAGAIN;
    if (none && (end->datagrams ? end->hung_up : count == 0))
        return source_ended(session, flow, 0);
    if (none)
        return count ? STEP_NOTHING : STEP_MOVED;
    return source_ended(session, flow, (int)-count);
}

static enum step fill_packets(struct session *session, struct flow *flow)
{
    struct end *end = flow->source;
    size_t header = header_length(session, flow);
    size_t most = session->segmented ? SEGMENTS_LONGEST : session->mtu + 1;
    size_t room = session->segmented ? SEGMENTS_ROOM : header + most;
    enum step step = STEP_NOTHING;
    uint8_t prefix[HEADROOM];
    for (int packet = 0; packet < BATCH; packet++) {
        if (buffer_room(flow->clear) < room || session->credit <= 0)
            break;
        uint8_t *data = flow->clear->data + flow->clear->end + header;
        ssize_t count =
            end_read_behind(end, prefix, session->prefix_length, data, most);
        session->credit -= CALL;
        /* A socket that receives no more may say either. */
        bool none = count == 0 || count == -EAGAIN;
        if (none && (end->datagrams ? end->hung_up : count == 0))
            return source_ended(session, flow, 0);
        if (count == -EAGAIN)
            break;
        if (count < 0)
            return source_ended(session, flow, (int)-count);
        size_t length = (size_t)count;
        bool prefixed = length >= session->prefix_length;
        length = prefixed ? length - session->prefix_length : 0;
        step = session->segmented && length
                   ? take_segments(session, flow, prefix, header, length)
                   : take_packet(session, flow, header, length, prefixed);
        if (step != STEP_MOVED)
            break;
    }
    return step;
}

/* Room for what OpenSSL has. Where the ciphertext is in `clear` too, up to `wire_end`,
   that is up to what OpenSSL has not looked at. */
static size_t room_before(const struct flow *flow, const uint8_t *wire_end)
{
    size_t unread = wire_end ? tls_unread(flow->source) : 0;
    if (unread == 0)
        return buffer_room(flow->clear);
    return (size_t)(wire_end - unread - (flow->clear->data + flow->clear->end));
}

/* What OpenSSL has. */
static enum step read_tls(struct session *session, struct flow *flow,
                          const uint8_t *wire_end)
{
    struct end *end = flow->source;
    enum step step = STEP_NOTHING;
    size_t room;
    while ((room = room_before(flow, wire_end)) >= RECORD) {
        int count = tls_read(end, flow->clear->data + flow->clear->end, room);
        if (count == TLS_WANT)
            return step;
        if (count == TLS_BUSY) {
            session->credit = 0;
            return STEP_YIELD;
        }
        if (count == TLS_EOF)
            return source_ended(session, flow, 0);
        if (count == TLS_FAILED) {
            session_break(session, end, flow, REASON_TLS, 0, true);
            return STEP_CHANGED;
        }
        if (end->side == SIDE_CONNECTION)
            add(&flow->count.records, 1);
        flow->clear->end += (size_t)count;
        step = STEP_MOVED;
    }
    return step;
}

/* As pull(), into `clear` ahead of its end; and where the ciphertext ends. */
static int pull_ahead(struct session *session, struct flow *flow, const uint8_t **wire_end)
{
    struct end *end = flow->source;
    size_t room = buffer_room(flow->clear);
    if (!end->readable || room < AHEAD + RECORD)
        return 0;
    room -= AHEAD;
    uint8_t *wire = flow->clear->data + flow->clear->end + AHEAD;
    ssize_t count = end_read(end, wire, room < BULK ? room : BULK);
    session->credit -= CALL;
    if (count > 0) {
        session->credit -= count;
        *wire_end = wire + count;
        return tls_feed(end, wire, (size_t)count) ? 1 : -ENOMEM - 1;
    }
    if (count == 0)
        return -1;
    return count == -EAGAIN ? 0 : (int)count - 1;
}

static enum step decrypt(struct session *session, struct flow *flow,
                         const uint8_t **wire_end)
{
    struct end *end = flow->source;
    for (;;) {
        /* A peer that makes us answer and does not read is read no more. */
        if (end->own > OWN_LIMIT && tls_flush(end, session->pool) == WAITING)
            return STEP_BLOCKED;
        size_t before = tls_waiting(end);
        enum step step = read_tls(session, flow, *wire_end);
        size_t after = tls_waiting(end);
        if (after > before) {
            end->own += after - before;
            /* Broken: what is read says so too, or the flow that writes there. */
            (void)tls_flush(end, session->pool);
        }
        if (step != STEP_NOTHING || flow->state == FLOW_DRAIN)
            return step;
        int got = pull_ahead(session, flow, wire_end);
        if (got == 0)
            return STEP_NOTHING;
        if (got == -1 && !end->tolerant) {
            session_break(session, end, flow, REASON_TRUNCATED, 0, true);
            return STEP_CHANGED;
        }
        if (got < 0)
            return source_ended(session, flow, -got - 1);
    }
}

static enum step fill_tls(struct session *session, struct flow *flow)
{
    const uint8_t *wire_end = NULL;
    enum step step = decrypt(session, flow, &wire_end);
    /* Others move what is in `clear`. */
    if (!wire_end || tls_set_aside(flow->source, session->pool))
        return step;
    session_break(session, flow->source, flow, REASON_RESET, ENOMEM, true);
    return STEP_CHANGED;
}

static enum step fill_head(struct flow *flow)
{
    size_t left = flow->head.length - flow->head_taken;
    const uint8_t *data = flow->head.data + flow->head_taken;
    size_t room = buffer_room(flow->clear);
    size_t count = left < room ? left : room;
    if (count > BULK)
        count = BULK;
    memcpy(flow->clear->data + flow->clear->end, data, count);
    flow->clear->end += count;
    flow->head_taken += count;
    return STEP_MOVED;
}

static enum step fill_from_pipe(struct session *session, struct flow *flow)
{
    size_t count = flow->pipe->held < BULK ? flow->pipe->held : BULK;
    ssize_t got = read(flow->pipe->read_fd, flow->clear->data + flow->clear->end, count);
    if (got <= 0)
        return source_ended(session, flow, got == 0 ? EIO : errno);
    flow->clear->end += (size_t)got;
    flow->pipe->held -= (size_t)got;
    return STEP_MOVED;
}

static enum step fill_pipe(struct session *session, struct flow *flow)
{
    if (!flow->source->readable)
        return STEP_NOTHING;
    if (!flow->pipe && !(flow->pipe = pipe_take(session->pool))) {
        flow->spliced = false;
        return STEP_MOVED;
    }
    ssize_t count = splice_in(flow->source, flow->pipe);
    session->credit -= CALL;
    if (count > 0)
        return STEP_MOVED;
    if (count == -EAGAIN)
        return STEP_NOTHING;
    if (count == -EINVAL) {
        flow->spliced = false;
        return STEP_MOVED;
    }
    return source_ended(session, flow, (int)-count);
}

static enum step fill(struct session *session, struct flow *flow)
{
    bool head = flow->head_taken < flow->head.length;
    bool piped = flow->pipe && flow->pipe->held;
    /* splice(2) does not get past an urgent byte. */
    if (flow->source->urgent)
        flow->spliced = false;
    if (!head && !piped) {
        if (flow->spliced)
            return flow->state == FLOW_DRAIN ? STEP_NOTHING : fill_pipe(session, flow);
        if (!flow->source->ssl && (flow->state == FLOW_DRAIN || !flow->source->readable))
            return STEP_NOTHING;
        if (flow->source->ssl && !flow->source->readable && !flow->source->ready)
            return STEP_NOTHING;
    }
    if (!flow->clear && !(flow->clear = buffer_take(session->pool))) {
        session_retry(session);
        return STEP_BLOCKED;
    }
    buffer_compact(flow->clear);
    if (flow->destination->ssl && buffer_held(flow->clear) == 0)
        flow->clear->start = flow->clear->end = HEADROOM + LONGER;
    if (head)
        return fill_head(flow);
    if (piped)
        return fill_from_pipe(session, flow);
    if (flow->source->ssl)
        return fill_tls(session, flow);
    return flow->datagrams ? fill_packets(session, flow) : fill_bytes(session, flow);
}

/* -- both */

static enum step finish(struct session *session, struct flow *flow)
{
    struct end *end = flow->destination;
    if (end->ssl) {
        enum flushed flushed = tls_flush(end, session->pool);
        if (flushed == WAITING)
            return STEP_BLOCKED;
        if (flushed == BROKEN) {
            session_break(session, end, flow, REASON_RESET, end->broken, false);
            return STEP_CHANGED;
        }
    }
    flow->state = FLOW_OVER;
    session_delivered(session, flow);
    return STEP_CHANGED;
}

static size_t in_hand(const struct flow *flow)
{
    return buffer_held(flow->clear) + (flow->pipe ? flow->pipe->held : 0);
}

/* `deliver` has nothing left to do. */
static enum step go_on(struct session *session, struct flow *flow)
{
    enum step step;
    switch (flow->state) {
    case FLOW_OPEN:
        return fill(session, flow);
    case FLOW_LAST:
    case FLOW_DRAIN:
        step = fill(session, flow);
        if (flow->state == FLOW_LAST && step == STEP_MOVED) {
            flow->drained += in_hand(flow);
            if (flow->drained < DRAIN)
                return step;
        } else if (step != STEP_NOTHING) {
            return step;
        }
        flow->state = FLOW_REST;
        return STEP_CHANGED;
    case FLOW_REST:
        if (flow->head_taken < flow->head.length || (flow->pipe && flow->pipe->held))
            return fill(session, flow);
        if (flow->in_order && buffer_held(flow->clear)) {
            size_t held = buffer_held(flow->clear);
            session_misframed(session, flow, PACKET_CUT_OFF, held, flow->offset);
            return STEP_CHANGED;
        }
        flow->state = flow->in_order ? FLOW_FIN : FLOW_OVER;
        if (flow->in_order && flow->half_close && flow->destination->ssl)
            tls_close(flow->destination);
        return STEP_CHANGED;
    case FLOW_FIN:
        return finish(session, flow);
    case FLOW_OVER:
        break;
    }
    return STEP_BLOCKED;
}

bool flow_run(struct session *session, struct flow *flow)
{
    bool moved = false;
    while (flow->state != FLOW_OVER) {
        enum step step = deliver(session, flow);
        if (step == STEP_NOTHING)
            step = deliver_piped(session, flow);
        if (step == STEP_NOTHING) {
            if (session->credit <= 0)
                break;
            step = go_on(session, flow);
        }
        if (step != STEP_MOVED && step != STEP_CHANGED)
            break;
        moved = true;
    }
    return moved;
}

/* Moves a little that has to wait, an incomplete packet mostly, to memory of its size:
   many peers that send half a packet each must not hold a buffer each. */
static void make_room(struct session *session, struct flow *flow)
{
    size_t held = buffer_held(flow->clear);
    if (session->pool->taken < CROWDED || held == 0 || held > TAILROOM || flow->head.data)
        return;
    /* Without memory it stays where it is. */
    if (bytes_append(&flow->head, flow->clear->data + flow->clear->start, held))
        buffer_give(session->pool, &flow->clear);
}

void flow_rest(struct session *session, struct flow *flow)
{
    if (flow->head.data && flow->head_taken == flow->head.length) {
        free(flow->head.data);
        flow->head.data = NULL;
        flow->head.length = flow->head_taken = 0;
    }
    make_room(session, flow);
    if (buffer_held(flow->clear) == 0)
        buffer_give(session->pool, &flow->clear);
    if (flow->pipe && flow->pipe->held == 0)
        pipe_give(session->pool, &flow->pipe);
}

/* -- after the end */

static bool keep(struct session *session, struct flow *flow, const struct unit *unit)
{
    struct end *end = flow->destination;
    struct bytes *clear = &session->owed_clear[end->side];
    uint8_t covered[HEADROOM];
    cover(session, unit, covered);
    bool kept = true;
    if (!end->ssl)
        kept = bytes_append(&session->owed[end->side], unit->data + flow->part,
                            unit->length - flow->part);
    /* Where it fails the connection is broken, and nothing is owed to it. */
    else {
        int done = clear->length ? TLS_WANT : tls_write(end, unit->data, unit->length);
        if (done == TLS_WANT)
            kept = bytes_append(clear, unit->data, unit->length);
        else if (done == 1 && session->report.reason == REASON_STOPPED)
            count_records(flow, unit);
    }
    uncover(unit, covered);
    return kept;
}

/* The undelivered cleartext, in one piece, for whom it came from. */
static bool keep_unread(struct session *session, struct flow *flow)
{
    struct bytes *unread = &session->unread[flow->source->side];
    struct unit unit;
    if (flow->part && next_unit(session, flow, &unit) == UNIT_PACKET) {
        size_t part = flow->part;
        const uint8_t *rest = unit.data + part;
        size_t left = unit.length - part;
        if (part > session->prefix_length || session->prefix_length == 0) {
            if (!bytes_append(unread, rest, left))
                return false;
            taken(flow, unit.advance);
        }
        flow->part = 0;
    }
    bool kept = bytes_append(unread, flow->clear->data + flow->clear->start,
                             buffer_held(flow->clear));
    flow->clear->start = flow->clear->end;
    return kept;
}

void flow_collect(struct session *session, struct flow *flow)
{
    /* Also what a write had to fetch, in a direction that is not bridged. */
    if (!flow->bridged && !(flow->source->ssl && tls_unread(flow->source)))
        return;
    bool foreign = !flow->bridged || !flow->destination->ours;
    bool kept = true;
    flow->spliced = false;
    for (;;) {
        if (buffer_held(flow->clear) && !foreign) {
            struct unit unit;
            enum unit_kind kind;
            while ((kind = next_unit(session, flow, &unit)) == UNIT_BYTES ||
                   kind == UNIT_PACKET) {
                kept &= keep(session, flow, &unit);
                /* After a stop it is sent first. */
                if (session->report.reason == REASON_STOPPED)
                    delivered(flow, &unit, kind == UNIT_PACKET);
                else
                    taken(flow, unit.advance);
            }
            /* Behind what is no packet there are none. */
            foreign = kind == UNIT_CHANGED;
        }
        if (buffer_held(flow->clear) && foreign)
            kept &= keep_unread(session, flow);
        flow->state = FLOW_DRAIN;
        session->credit = BULK;
        enum step step = fill(session, flow);
        if (step != STEP_MOVED && step != STEP_YIELD)
            break;
    }
    /* An incomplete packet. */
    if (buffer_held(flow->clear))
        kept &= keep_unread(session, flow);
    if (!kept && session->report.error == 0)
        session->report.error = ENOMEM;
}
