/* Fuzzes one direction of a bridge without TLS: any bytes, read in any pieces, written in
   any, by ends that do what the input says (scripted.h).

   However the bytes come and go, what is written must be the packets that the rules
   find in the whole (rules.h), each offered in one piece; how it ends, and where, must
   be what they say; and after a stop, what was read and not written must be handed
   back, with nothing lost and nothing twice.

   The input: eight bytes that say what is bridged (setting_of), the script behind its
   length, and the stream. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "rules.h"
#include "../../wsockets/bridge/native/flow.h"
#include "scripted.h"

struct setting {
    enum framing framing;
    enum direction direction;
    bool sink_is_ours; /* a connection; else a device, or any other descriptor */
    bool datagrams;    /* … which is a socket of datagrams */
    bool fragile;      /* ends may break */
    bool half_close;
    size_t prefix, mtu;
    unsigned stop_after;
    int64_t drain;
    size_t head;    /* bytes that were received before the bridge began */
    size_t repeats; /* of the stream: so a short input makes a long one */
};

/* A packet of the stream: where it begins, and where what is delivered of it does. */
struct unit {
    size_t begin, from, end;
};

/* Bytes of a stream at most: more than a buffer of the engine holds. */
enum { LONGEST = 600 * 1024, UNITS = LONGEST / 2 + 1 };

static struct setting is;
static const uint8_t prefix[8] = "\x00\x00\x86\xddPRFX";

static uint8_t stream[LONGEST];

/* What the rules make of it. */
static struct unit units[UNITS];
static size_t unit_count, unit_now, unit_part, unit_add;
static enum verdict verdict;
static size_t verdict_value, verdict_at;

/* Or bytes: what must be written, of which so much is. */
static uint8_t *wanted;
static size_t wanted_length, wanted_room, written;
static size_t packets, drops, payload;

static bool by_datagrams(void)
{
    return is.framing != FRAMING_STREAM && is.direction == ENCRYPT && !is.sink_is_ours;
}

static void want(const uint8_t *data, size_t length)
{
    if (!wanted || wanted_length + length > wanted_room) {
        wanted_room = 2 * (wanted_length + length) + 1;
        wanted = realloc(wanted, wanted_room);
        if (!wanted)
            abort();
    }
    memcpy(wanted + wanted_length, data, length);
    wanted_length += length;
}

/* -- what the rules say of a stream */

static void cut_whole(size_t length)
{
    size_t before = is.direction == ENCRYPT ? is.prefix : 0, at = 0;
    bool sink_is_target = is.direction == DECRYPT;
    unit_add = sink_is_target ? is.prefix : 0;
    verdict = PACKET_INCOMPLETE;
    while (unit_count < UNITS && length - at >= before) {
        struct expected found =
            expect(is.framing, stream + at + before, length - at - before, is.mtu);
        verdict = found.verdict;
        verdict_value = found.value;
        if (verdict != PACKET_WHOLE)
            break;
        size_t begin = at + before;
        size_t skip = sink_is_target && !is.sink_is_ours ? found.skip : 0;
        size_t end = begin + found.skip + found.length;
        units[unit_count++] = (struct unit){at, begin + skip, end};
        payload += found.length;
        at = end;
        verdict = PACKET_INCOMPLETE;
    }
    if (verdict == PACKET_INCOMPLETE && at < length) {
        verdict = PACKET_CUT_OFF;
        verdict_value = length - at;
    }
    verdict_at = at;
}

static void packet_offered(const uint8_t *data, size_t offered, size_t taken)
{
    if (unit_now == unit_count)
        wrong("%zu bytes behind the last packet", offered);
    const struct unit *unit = &units[unit_now];
    size_t whole = unit_add + unit->end - unit->from;
    if (offered != whole - unit_part)
        wrong("%zu bytes of packet %zu, and not %zu", offered, unit_now, whole - unit_part);
    for (size_t i = 0; i < offered; i++) {
        size_t at = unit_part + i;
        uint8_t right = at < unit_add ? prefix[at] : stream[unit->from + at - unit_add];
        if (data[i] != right)
            wrong("byte %zu of packet %zu is %02x, and not %02x", at, unit_now, data[i], right);
    }
    unit_part += taken;
    if (unit_part == whole) {
        unit_now++;
        unit_part = 0;
        packets++;
    }
}

static void packet_refused(void)
{
    const struct unit *unit = &units[unit_now];
    payload -= unit->end - unit->begin - (is.framing == FRAMING_LENGTH16 ? 2 : 0);
    unit_now++;
    unit_part = 0;
    drops++;
}

static void bytes_offered(const uint8_t *data, size_t offered, size_t taken)
{
    if (written + offered > wanted_length || memcmp(data, wanted + written, offered) != 0)
        wrong("other bytes than came, at %zu", written);
    written += taken;
}

static void bytes_given(const uint8_t *data, size_t length)
{
    want(data, length);
}

/* One datagram, as read: it has to be carried, or dropped, or ends it. */
static void datagram_given(const uint8_t *data, size_t length)
{
    if (verdict != PACKET_WHOLE)
        wrong("a read behind what is no packet");
    size_t inside = length < is.prefix ? 0 : length - is.prefix;
    if (length < is.prefix || (inside == 0 && is.framing == FRAMING_IP)) {
        drops++;
        return;
    }
    data += is.prefix;
    if (inside > is.mtu) {
        verdict = PACKET_TOO_LONG;
        verdict_value = inside;
    } else if (is.framing == FRAMING_IP && data[0] / 16 != 4 && data[0] / 16 != 6) {
        verdict = PACKET_NO_IP;
        verdict_value = data[0];
    }
    if (verdict != PACKET_WHOLE) {
        verdict_at = wanted_length;
        return;
    }
    uint8_t header[] = {(uint8_t)(inside >> 8), (uint8_t)inside};
    if (is.framing == FRAMING_LENGTH16)
        want(header, 2);
    want(data, inside);
    payload += inside;
    packets++;
}

/* -- what must have become of it */

static void check_bytes(const char *what, const struct bytes *found, const uint8_t *data,
                        size_t length)
{
    if (found->length != length)
        wrong("%s: %zu bytes, and not %zu", what, found->length, length);
    if (length && memcmp(found->data, data, length) != 0)
        wrong("%s: other bytes", what);
}

/* All that was read is written, dropped, or here. */
static void check_remains(const struct session *session, const struct flow *flow, size_t read)
{
    bool ours = flow->destination->ours;
    const struct bytes *unread = &session->unread[flow->source->side];
    const struct bytes *owed = &session->owed[flow->destination->side];
    if (is.framing == FRAMING_STREAM || by_datagrams()) {
        check_bytes("in hand", ours ? owed : unread, wanted + written, wanted_length - written);
        return;
    }
    size_t from = unit_now < unit_count ? units[unit_now].begin : verdict_at;
    size_t owes = 0;
    if (ours) {
        for (size_t i = unit_now; i < unit_count && units[i].end <= read; i++) {
            size_t part = i == unit_now ? unit_part : 0;
            size_t whole = unit_add + units[i].end - units[i].from;
            for (size_t at = part; at < whole; at++, owes++) {
                uint8_t right =
                    at < unit_add ? prefix[at] : stream[units[i].from + at - unit_add];
                if (owes >= owed->length || owed->data[owes] != right)
                    wrong("byte %zu of what is owed", owes);
            }
            from = units[i].end;
        }
        if (owes != owed->length)
            wrong("%zu bytes are owed, and not %zu", owed->length, owes);
    } else if (unit_part && (unit_part > unit_add || unit_add == 0)) {
        /* It cannot be written again. */
        from = units[unit_now].from + unit_part - unit_add;
    }
    check_bytes("unread", unread, stream + from, read - from);
}

static void check_end(const struct session *session, const struct flow *flow)
{
    const struct report *report = &session->report;
    bool packets_flow = is.framing != FRAMING_STREAM;
    bool bad = packets_flow && verdict != PACKET_WHOLE && verdict != PACKET_INCOMPLETE;
    enum reason reason = bad ? REASON_FRAMING : REASON_EOF;
    if (report->reason != reason || report->side != flow->source->side)
        wrong("it ends with %d on side %d, and not with %d", report->reason, report->side,
              reason);
    if (bad && (report->verdict != verdict || report->value != verdict_value ||
                report->offset != verdict_at))
        wrong("verdict %d of %zu at %zu, and not %d of %zu at %zu", report->verdict,
              report->value, (size_t)report->offset, verdict, verdict_value, verdict_at);
    if ((script_finished != 0) != !bad)
        wrong("finished: %u", script_finished);
    bool cut = packets_flow && !by_datagrams();
    if (cut && unit_now != unit_count)
        wrong("%zu packets are delivered, and not %zu", unit_now, unit_count);
    if (!cut && written != wanted_length)
        wrong("%zu bytes are delivered, and not %zu", written, wanted_length);
    if (flow->count.drops != drops || flow->count.packets != packets ||
        flow->count.bytes != (packets_flow ? payload : written))
        wrong("counted otherwise");
}

static struct setting setting_of(const uint8_t *data)
{
    static const size_t mtus[] = {1, 20, 40, 1280, 1500, 9000, 65535};
    size_t named = data[1] % 8;
    return (struct setting){
        .framing = (enum framing)(data[0] % 3),
        .direction = data[0] & 4 ? ENCRYPT : DECRYPT,
        .sink_is_ours = data[0] & 8,
        .datagrams = data[0] & 16,
        .fragile = data[0] & 32,
        .half_close = data[0] & 64,
        .mtu = named < 7 ? mtus[named] : data[2] * 256u + (data[2] != 0 ? data[3] : 1u),
        .prefix = data[4] % 9,
        .stop_after = data[5] / 4,
        .drain = data[5] % 4 ? 1 : 1000000000,
        .head = data[6] % 2 ? data[7] * (data[6] & 2 ? 2500u : 1u) : 0,
        .repeats = data[6] / 4 < 60 ? 1 : (data[6] / 4 - 59) * 100u,
    };
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 9)
        return 0;
    is = setting_of(data);
    size_t script_length = data[8];
    data += 9;
    size -= 9;
    if (is.framing == FRAMING_STREAM)
        is.prefix = 0;
    if (script_length > size)
        script_length = size;
    script_begin(data, script_length);
    data += script_length;
    size -= script_length;
    size_t length = 0;
    for (size_t i = 0; i < is.repeats && length + size <= LONGEST; i++, length += size)
        memcpy(stream + length, data, size);

    struct session *session = session_new();
    if (!session)
        return 0;
    session->framing = is.framing;
    session->mtu = is.mtu;
    session->prefix_length = is.prefix;
    if (is.prefix > 0) {
        session->prefix = malloc(is.prefix);
        if (!session->prefix)
            abort();
        memcpy(session->prefix, prefix, is.prefix);
    }
    session->half_close = is.half_close;
    session->ends[SIDE_CONNECTION].ours = true;
    session->ends[SIDE_SINK].ours = is.sink_is_ours;
    struct flow *flow = &session->flows[is.direction];
    flow->bridged = true;
    struct far *source = &fars[flow->source->side], *target = &fars[flow->destination->side];
    struct far *sink = &fars[SIDE_SINK];
    sink->datagrams = is.datagrams && by_datagrams();
    source->closed = true;
    source->fragile = target->fragile = is.fragile;
    source->bytes = stream;
    source->length = length;

    unit_count = unit_now = unit_part = unit_add = 0;
    wanted_length = written = packets = drops = payload = 0;
    want(stream, 0);
    verdict = PACKET_WHOLE;
    verdict_at = verdict_value = 0;
    if (by_datagrams()) {
        source->given = datagram_given;
        target->taken = bytes_offered;
    } else {
        if (is.head > length)
            is.head = length;
        if (is.head && !bytes_append(&flow->head, stream, is.head))
            abort();
        source->at = is.head;
        if (is.framing == FRAMING_STREAM) {
            want(stream, is.head);
            source->given = bytes_given;
            target->taken = bytes_offered;
        } else {
            cut_whole(length);
            target->taken = packet_offered;
            target->refused = flow->destination->ours ? NULL : packet_refused;
        }
    }
    script_run(session, is.stop_after, is.drain);
    bool failed = source->failed || target->failed;
    if (!failed && !script_stopped)
        check_end(session, flow);
    if (!failed)
        check_remains(session, flow, source->at);
    session_free(session);
    return 0;
}
