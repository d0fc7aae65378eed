/* The engines, seen from outside: what Python's threads ask of them. */

#ifndef WSOCKETS_LOOP_H
#define WSOCKETS_LOOP_H

#include <stdint.h>

#include "session.h"

/* Sessions with something to tell, in order. One for each event loop. */
struct news {
    int fd; /* an eventfd: readable when there is any */
    struct session *first, **last;
};

/* -- for any thread, without Python's lock unless it says so */

/* At most so many engines; before the first is started. */
void engines_limit(unsigned most);

/* Starts a session, prepared; 0 or an errno. Until `ended` it must stay alive. */
int engine_start(struct session *session);

/* Asks for TO_STOP, within `drain` nanoseconds, or TO_ABANDON. */
void engine_ask(struct session *session, unsigned command, int64_t drain);

/* Waits until the session has ended. */
void engine_wait(struct session *session);

/* After the end, once: forgets the session. The last one's engine goes with it. */
void engine_release(struct session *session);

/* An eventfd that is readable once the session has ended; -errno. */
int engine_done_fd(struct session *session);

/* 0 or an errno; afterwards `news` must stay where it is until news_close(). */
int news_open(struct news *news);
void news_close(struct news *news);

/* The next session with news; NULL: no more, and the eventfd is not readable. */
struct session *news_take(struct news *news);

/* Takes the session out of its news. */
void news_forget(struct session *session);

/* Closes the descriptors of a session that was never started. */
void session_close(struct session *session);

/* -- for session.c, in the engine's thread */

/* Tells epoll about the end's descriptors; 0 or an errno. */
int loop_watch(struct session *session, struct end *end);

/* Closes a descriptor that epoll knows. */
void loop_close(struct session *session, int *fd);

/* One direction has ended in good order. */
void loop_finished(struct session *session, enum direction direction);

#endif
