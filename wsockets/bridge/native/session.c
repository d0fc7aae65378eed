/* When a session ends, and why. Moving bytes is flow.c's; here flows are told to go
   on, to read no more, or to stop.

   An end in good order needs no hurry: each flow delivers what it has, half-closes
   its destination and is over; the session with the last of them. Anything else
   (`ending`, `stopping`) has a deadline: what was received is delivered if its
   destination takes it in time. */

#include "session.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "flow.h"
#include "loop.h"
#include "splice.h"
#include "tls.h"

#define SECOND INT64_C(1000000000)
/* How long the destination may take nothing when the source has broken. */
#define GRACE (5 * SECOND)
/* How soon to try again what no edge will announce. */
#define RETRY (SECOND / 500)
/* What one turn may do, in bytes; see CALL in flow.c. */
#define CREDIT (INT64_C(1) << 20)

struct session *session_new(void)
{
    struct session *session = calloc(1, sizeof *session);
    if (!session)
        return NULL;
    for (int side = SIDE_CONNECTION; side <= SIDE_SINK; side++) {
        session->ends[side].side = (enum side)side;
        session->ends[side].read_fd = session->ends[side].write_fd = -1;
        session->ends[side].ssl_fd = -1;
        session->ends[side].codes = &session->codes;
    }
    for (int direction = ENCRYPT; direction <= DECRYPT; direction++) {
        struct flow *flow = &session->flows[direction];
        bool encrypt = direction == ENCRYPT;
        flow->direction = (enum direction)direction;
        flow->source = &session->ends[encrypt ? SIDE_SINK : SIDE_CONNECTION];
        flow->destination = &session->ends[encrypt ? SIDE_CONNECTION : SIDE_SINK];
    }
    session->report.reason = REASON_NONE;
    session->done_fd = -1;
    return session;
}

void session_prepare(struct session *session)
{
    for (int side = SIDE_CONNECTION; side <= SIDE_SINK; side++) {
        struct end *end = &session->ends[side];
        if (end->ssl) {
            /* TLS reads to write and writes to read. */
            if (end->read_fd < 0)
                end->read_fd = end->write_fd;
            if (end->write_fd < 0)
                end->write_fd = end->read_fd;
        }
        end_inspect(end);
        int on = 1;
        if (end->tcp && end->write_fd >= 0 && session->framing != FRAMING_STREAM)
            (void)setsockopt(end->write_fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
    for (int direction = ENCRYPT; direction <= DECRYPT; direction++) {
        struct flow *flow = &session->flows[direction];
        if (!flow->bridged)
            continue;
        flow->state = FLOW_OPEN;
        bool packets = session->framing != FRAMING_STREAM;
        flow->datagrams = packets && direction == ENCRYPT && !flow->source->ours;
        flow->cut = packets && !flow->datagrams;
        /* A packet device outlives the connection. */
        flow->half_close = session->half_close && (!packets || direction == ENCRYPT);
        flow->entries = flow->datagrams && flow->destination->ssl;
        flow->spliced = !packets && !flow->source->ssl &&
                        !flow->destination->ssl &&
                        splice_suits(flow->source, flow->destination);
    }
}

void session_free(struct session *session)
{
    free(session->prefix);
    for (int direction = ENCRYPT; direction <= DECRYPT; direction++)
        free(session->flows[direction].head.data);
    for (int side = SIDE_CONNECTION; side <= SIDE_SINK; side++) {
        free(session->unread[side].data);
        free(session->owed[side].data);
        free(session->owed_clear[side].data);
    }
    free(session);
}

void session_begin(struct session *session, int64_t now)
{
    session->now = session->moved_at = now;
    session->begun = true;
    for (int side = SIDE_CONNECTION; side <= SIDE_SINK; side++) {
        struct end *end = &session->ends[side];
        struct flow *flow = &session->flows[side == SIDE_CONNECTION ? DECRYPT : ENCRYPT];
        int error = end->ssl && !tls_begin(end) ? ENOMEM : 0;
        if (!error)
            error = loop_watch(session, end);
        if (error) {
            session_break(session, end, flow, end->ours ? REASON_RESET : REASON_SINK,
                          error, true);
            session->over = true;
        }
    }
}

/* -- what happens to the flows */

static struct flow *flow_from(struct session *session, const struct end *end)
{
    return &session->flows[end->side == SIDE_CONNECTION ? DECRYPT : ENCRYPT];
}

static struct flow *flow_to(struct session *session, const struct end *end)
{
    return &session->flows[end->side == SIDE_CONNECTION ? ENCRYPT : DECRYPT];
}

/* Reads its descriptor no more, delivers what is here, and leaves it at that. */
static void wind_up(struct flow *flow)
{
    flow->in_order = false;
    if (flow->state == FLOW_OPEN || flow->state == FLOW_LAST)
        flow->state = FLOW_DRAIN;
}

static void end_soon(struct session *session, int64_t time)
{
    int64_t deadline = session->now + time;
    if (session->deadline == 0 || deadline < session->deadline)
        session->deadline = deadline;
}

void session_moved(struct session *session)
{
    session->moved_at = session->now;
    if (session->grace)
        session->deadline = session->now + GRACE;
}

void session_retry(struct session *session)
{
    session->retry_at = session->now + RETRY;
}

void session_break(struct session *session, struct end *end, struct flow *flow,
                   enum reason reason, int error, bool unreadable)
{
    if (session->over)
        return;
    struct report *report = &session->report;
    if (!session->ending || report->reason == REASON_EOF) {
        bool hurried = session->stopping || session->ending;
        *report = (struct report){.side = end->side,
                                  .direction = flow->direction,
                                  .reason = reason,
                                  .error = error};
        session->ending = true;
        if (!hurried)
            session->grace = true;
        end_soon(session, GRACE);
    }
    struct flow *from = flow_from(session, end), *to = flow_to(session, end);
    if (unreadable) {
        /* What was read goes out; what goes there has a try. */
        wind_up(from);
        if (from->state != FLOW_OVER)
            from->state = FLOW_REST;
        wind_up(to);
    } else {
        to->state = FLOW_OVER;
        from->in_order = false;
        if (from->state == FLOW_OPEN)
            from->state = FLOW_LAST;
    }
}

void session_misframed(struct session *session, struct flow *flow, enum verdict verdict,
                       size_t value, uint64_t offset)
{
    bool first = !session->ending || session->report.reason == REASON_EOF;
    session_break(session, flow->source, flow, REASON_FRAMING, 0, true);
    /* What it holds is the bad bytes; or the good packets that were read before. */
    if (!flow->datagrams)
        flow->state = FLOW_OVER;
    if (first && !session->over) {
        session->report.verdict = verdict;
        session->report.value = value;
        session->report.offset = offset;
    }
}

void session_eof(struct session *session, struct flow *flow)
{
    if (session->over)
        return;
    bool alone = flow->state != FLOW_OPEN; /* LAST, DRAIN: another end is coming */
    flow->state = FLOW_REST;
    if (alone)
        return;
    flow->in_order = true;
    if (session->framing == FRAMING_STREAM || session->ending || session->stopping)
        return;
    /* Packets: one side ends both. */
    session->report = (struct report){
        .side = flow->source->side, .direction = flow->direction, .reason = REASON_EOF};
    session->ending = session->grace = true;
    end_soon(session, GRACE);
    wind_up(&session->flows[flow->direction == ENCRYPT ? DECRYPT : ENCRYPT]);
}

void session_delivered(struct session *session, struct flow *flow)
{
    if (session->over)
        return;
    struct end *end = flow->destination;
    if (flow->half_close && end_shut(end))
        loop_close(session, &end->write_fd);
    if (!session->ending && !session->stopping)
        session->report = (struct report){
            .side = flow->source->side, .direction = flow->direction, .reason = REASON_EOF};
    loop_finished(session, flow->direction);
}

/* -- turns */

static bool settled(struct session *session)
{
    if (session->flows[ENCRYPT].state != FLOW_OVER ||
        session->flows[DECRYPT].state != FLOW_OVER)
        return false;
    for (int side = SIDE_CONNECTION; side <= SIDE_SINK; side++)
        if (session->ends[side].ssl && tls_waiting(&session->ends[side]))
            return false;
    return true;
}

static bool is_over(struct session *session)
{
    if (settled(session))
        return true;
    if (session->deadline)
        return session->now >= session->deadline;
    if (session->idle_time && session->now - session->moved_at >= session->idle_time) {
        session->report = (struct report){
            .side = SIDE_CONNECTION, .direction = DECRYPT, .reason = REASON_IDLE};
        return true;
    }
    return false;
}

/* Whether a source was found to be broken whose flow waits for its destination, and
   so does not read. */
static bool look_behind(struct session *session, struct end *end)
{
    struct flow *flow = flow_from(session, end);
    bool waits = buffer_held(flow->clear) || flow->head_taken < flow->head.length ||
                 (flow->pipe && flow->pipe->held);
    if (!end->failing || !waits || session->ending || flow->state != FLOW_OPEN)
        return false;
    int error = end_error(end);
    if (error)
        session_break(session, end, flow, end->ours ? REASON_RESET : REASON_SINK, error,
                      false);
    return error != 0;
}

/* Whether a connection was found to be broken that is only written to, and has nothing
   to write just now. What it has received is left to who reads it later. Where ends
   are not passed on somebody may be reading it now, and is told of the error there:
   fetching it would take it from them. */
static bool look_ahead(struct session *session, struct end *end)
{
    struct flow *flow = flow_to(session, end);
    if (!end->gone || !end->ours || !session->half_close || session->ending ||
        flow_from(session, end)->bridged || flow->state == FLOW_OVER)
        return false;
    int error = end_error(end);
    session_break(session, end, flow, REASON_RESET, error ? error : EPIPE, false);
    return true;
}

enum turn session_turn(struct session *session, int64_t now)
{
    session->now = now;
    session->retry_at = 0;
    session->credit = CREDIT;
    bool moved;
    do {
        moved = flow_run(session, &session->flows[DECRYPT]);
        moved |= flow_run(session, &session->flows[ENCRYPT]);
        moved |= look_behind(session, &session->ends[SIDE_CONNECTION]) ||
                 look_behind(session, &session->ends[SIDE_SINK]);
        moved |= look_ahead(session, &session->ends[SIDE_CONNECTION]) ||
                 look_ahead(session, &session->ends[SIDE_SINK]);
    } while (moved && session->credit > 0);
    for (int side = SIDE_CONNECTION; side <= SIDE_SINK; side++) {
        struct end *end = &session->ends[side];
        if (end->ssl && tls_waiting(end))
            (void)tls_flush(end, session->pool);
        if (end->retry) {
            end->retry = false;
            session_retry(session);
        }
    }
    if (is_over(session)) {
        session->over = true;
        return TURN_OVER;
    }
    if (session->credit <= 0)
        return TURN_AGAIN;
    flow_rest(session, &session->flows[ENCRYPT]);
    flow_rest(session, &session->flows[DECRYPT]);
    for (int side = SIDE_CONNECTION; side <= SIDE_SINK; side++)
        if (session->ends[side].ssl)
            tls_rest(&session->ends[side], session->pool);
    return TURN_DONE;
}

int64_t session_due(const struct session *session)
{
    int64_t due = session->deadline;
    if (due == 0 && session->idle_time)
        due = session->moved_at + session->idle_time;
    if (session->retry_at && (due == 0 || session->retry_at < due))
        due = session->retry_at;
    return due;
}

void session_stop(struct session *session, int64_t drain)
{
    if (session->over)
        return;
    session->grace = false;
    end_soon(session, drain);
    if (session->stopping || session->ending)
        return;
    session->stopping = true;
    session->report = (struct report){
        .side = SIDE_CONNECTION, .direction = DECRYPT, .reason = REASON_STOPPED};
    wind_up(&session->flows[ENCRYPT]);
    wind_up(&session->flows[DECRYPT]);
}

void session_abandon(struct session *session)
{
    session->over = true;
    session->report = (struct report){
        .side = SIDE_CONNECTION, .direction = DECRYPT, .reason = REASON_CLOSED};
}

/* The ciphertext that has not left. */
static void collect_owed(struct session *session, struct end *end)
{
    char *data;
    struct bytes *owed = &session->owed[end->side];
    bool kept = true;
    if (end->broken || end->shut)
        return;
    if (end->out)
        kept = bytes_append(owed, end->out->data + end->out->start, buffer_held(end->out));
    size_t behind = tls_behind(end, &data);
    kept &= bytes_append(owed, data, behind);
    if (!kept && session->report.error == 0)
        session->report.error = ENOMEM;
}

void session_finish(struct session *session)
{
    bool keep = session->begun && session->report.reason != REASON_CLOSED;
    for (int direction = ENCRYPT; direction <= DECRYPT; direction++) {
        struct flow *flow = &session->flows[direction];
        if (keep)
            flow_collect(session, flow);
        flow->state = FLOW_OVER;
        buffer_give(session->pool, &flow->clear);
        pipe_give(session->pool, &flow->pipe);
    }
    for (int side = SIDE_CONNECTION; side <= SIDE_SINK; side++) {
        struct end *end = &session->ends[side];
        if (!end->ssl || !end->read_bio)
            continue;
        if (keep)
            collect_owed(session, end);
        if (!tls_restore(end, session->pool) && session->report.error == 0)
            session->report.error = ENOMEM;
    }
}
