/* Ends that do what a script says, in the place of wsockets/bridge/native/end.c and of
   the engine: a session runs in one thread, without descriptors and without time.

   A byte of the script tells what one read or write does: nothing now, a part, all, or
   a failure. Where the script is at its end every call does all that it can, so each
   session comes to its end. */

#ifndef WSOCKETS_TESTS_SCRIPTED_H
#define WSOCKETS_TESTS_SCRIPTED_H

#include "../../wsockets/bridge/native/session.h"

/* What is at the other side of an end. */
struct far {
    const uint8_t *bytes; /* what reads give, and how far they have come */
    size_t length, at;
    bool datagrams; /* a read gives one, and forgets what it has no room for */
    bool closed;    /* when all is read there is no more, and not only none yet */
    bool failed;    /* a read or a write has failed for good */
    bool fragile;   /* whether the script may let it fail */
    bool forbidden; /* nobody may read it now */

    /* Given what is read, as it is about to be; of a datagram it may be a part. */
    void (*given)(const uint8_t *data, size_t length);
    /* Given what is written, all of what was offered and how much of it is taken. */
    void (*taken)(const uint8_t *data, size_t offered, size_t taken);
    /* A write is refused for good: EIO or EINVAL. */
    void (*refused)(void);
};

/* By enum side. */
extern struct far fars[2];

/* Begins anew with this script. */
void script_begin(const uint8_t *script, size_t length);

/* Turns of a session that is set up, and prepared here, until it is over; a stop
   after `stop_after` turns, unless that is 0, within `drain` nanoseconds. What it
   holds is handed back. Aborts where it comes to no end. */
void script_run(struct session *session, unsigned stop_after, int64_t drain);

/* Directions that have ended in good order, as bits. */
extern unsigned script_finished;

/* The stop came before the end. */
extern bool script_stopped;

_Noreturn void wrong(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
