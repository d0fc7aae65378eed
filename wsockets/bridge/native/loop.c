/* The engines: threads that move bytes, each with an epoll of its own.

   A session belongs to one engine from its start to its end. The engine's thread is
   the only one that touches its descriptors, its SSL objects and its buffers in
   between, so none of these needs a lock, and no SSL object ever sees two threads.
   The thread runs no Python, takes no lock of Python's and handles no signal.

   Readiness is edge-triggered: an edge sets a flag of the end, and EAGAIN clears it.
   A session with an edge stands in the list of the ready; each in turn does a bounded
   amount of work (session.credit), and one that could go on stands in the list again
   at its end. So nobody starves, and nothing is polled.

   One lock, for all engines, protects what other threads share with them: commands
   (start, stop, abandon), news (a direction has finished, a session has ended), and
   the list of known sessions. It is held for moments and never round a system call
   that waits. It is one lock so that fork(2) can take it: the child has no engine
   thread and finds everything under the lock as it should be. There, sessions are
   ended on the spot, and their descriptors closed; the parent's epoll is closed and
   not touched, for it is shared with the parent.

   A session is freed by Python, never here, and not before `ended` is set, which
   happens at the end of a round: until then events may point at it.

   An engine lives for as long as it has sessions. Whoever forgets the last one joins
   the thread, which has nothing left to do and returns at once. */

#define _GNU_SOURCE
#include "loop.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define MILLISECOND INT64_C(1000000)
enum { EVENTS = 128, MOST_ENGINES = 64 };

struct engine {
    pthread_t thread;
    int epoll_fd, wake_fd;

    /* Under the lock. */
    struct session *commands, **last_command;
    struct session *known;
    unsigned count; /* sessions, until they are released */
    bool quit;
    _Atomic bool called; /* there are commands; a hint that needs no lock */

    /* The thread's own. */
    struct pool pool;
    struct session *ready, **last_ready;
    struct session *over; /* by next_ended */
    struct session **timers; /* a heap, from 1 */
    size_t timer_count, timer_room;
    int64_t now;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t some_ended = PTHREAD_COND_INITIALIZER;
static pthread_once_t fork_handlers = PTHREAD_ONCE_INIT;
static struct engine *engines[MOST_ENGINES];
static unsigned engine_limit = 1;

static int64_t clock_now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000 * MILLISECOND + time.tv_nsec;
}

static void signal_fd(int fd)
{
    uint64_t one = 1;
    ssize_t written;
    do
        written = write(fd, &one, sizeof one);
    while (written < 0 && errno == EINTR);
    /* EAGAIN: it is readable already. */
}

static void reset_fd(int fd)
{
    uint64_t count;
    ssize_t got;
    do
        got = read(fd, &count, sizeof count);
    while (got < 0 && errno == EINTR);
    /* EAGAIN: somebody else was faster. */
}

/* -- news; all under the lock */

static void post(struct session *session)
{
    struct news *news = session->news;
    if (!news || session->has_news)
        return;
    session->has_news = true;
    session->next_news = NULL;
    if (!news->first)
        signal_fd(news->fd);
    *news->last = session;
    news->last = &session->next_news;
}

static void end_publicly(struct session *session)
{
    atomic_store(&session->ended, true);
    post(session);
    if (session->done_fd >= 0)
        signal_fd(session->done_fd);
}

/* -- timers: a binary heap of sessions by `due` */

static void timer_place(struct engine *engine, size_t at, struct session *session)
{
    engine->timers[at] = session;
    session->timer = at;
}

static void timer_sift(struct engine *engine, size_t at)
{
    struct session *session = engine->timers[at];
    while (at > 1 && session->due < engine->timers[at / 2]->due) {
        timer_place(engine, at, engine->timers[at / 2]);
        at /= 2;
    }
    for (;;) {
        size_t child = at * 2;
        if (child > engine->timer_count)
            break;
        if (child < engine->timer_count &&
            engine->timers[child + 1]->due < engine->timers[child]->due)
            child++;
        if (engine->timers[child]->due >= session->due)
            break;
        timer_place(engine, at, engine->timers[child]);
        at = child;
    }
    timer_place(engine, at, session);
}

static void timer_remove(struct engine *engine, struct session *session)
{
    size_t at = session->timer;
    if (at == 0)
        return;
    session->timer = 0;
    struct session *last = engine->timers[engine->timer_count--];
    if (last == session)
        return;
    timer_place(engine, at, last);
    timer_sift(engine, at);
}

static void timer_set(struct engine *engine, struct session *session, int64_t due)
{
    if (due == 0)
        return timer_remove(engine, session);
    /* One that fires too early costs less than moving it each time. */
    if (session->timer && session->due <= due)
        return;
    session->due = due;
    if (session->timer == 0)
        timer_place(engine, ++engine->timer_count, session);
    timer_sift(engine, session->timer);
}

/* Room for one more; false without memory. */
static bool timers_reserve(struct engine *engine, size_t count)
{
    if (count < engine->timer_room)
        return true;
    size_t room = engine->timer_room ? engine->timer_room * 2 : 64;
    while (room <= count)
        room *= 2;
    struct session **grown = realloc(engine->timers, room * sizeof(struct session *));
    if (!grown)
        return false;
    engine->timers = grown;
    engine->timer_room = room;
    return true;
}

/* -- the ready, and those that are over */

static void make_ready(struct engine *engine, struct session *session)
{
    if (session->is_ready || session->over)
        return;
    session->is_ready = true;
    session->next_ready = NULL;
    *engine->last_ready = session;
    engine->last_ready = &session->next_ready;
}

static struct session *take_ready(struct engine *engine)
{
    struct session *session = engine->ready;
    engine->ready = session->next_ready;
    if (!engine->ready)
        engine->last_ready = &engine->ready;
    session->is_ready = false;
    return session;
}

static void unready(struct engine *engine, struct session *session)
{
    if (!session->is_ready)
        return;
    struct session **at = &engine->ready;
    while (*at != session)
        at = &(*at)->next_ready;
    *at = session->next_ready;
    if (!*at)
        engine->last_ready = at;
    session->is_ready = false;
}

static void close_end(struct session *session, struct end *end)
{
    if (end->write_fd != end->read_fd)
        loop_close(session, &end->write_fd);
    loop_close(session, &end->read_fd);
    end->write_fd = -1;
}

/* Undoes everything; the world learns of it in publish(). */
static void retire(struct engine *engine, struct session *session)
{
    session_finish(session);
    timer_remove(engine, session);
    unready(engine, session);
    close_end(session, &session->ends[SIDE_CONNECTION]);
    close_end(session, &session->ends[SIDE_SINK]);
    session->next_ended = engine->over;
    engine->over = session;
}

static void forget_command(struct engine *engine, struct session *session)
{
    if (!session->commanded)
        return;
    struct session **at = &engine->commands;
    while (*at != session)
        at = &(*at)->next_command;
    *at = session->next_command;
    if (!*at)
        engine->last_command = at;
    session->commanded = false;
}

/* The last touch of each session that is over. */
static void publish(struct engine *engine)
{
    if (!engine->over)
        return;
    pthread_mutex_lock(&lock);
    while (engine->over) {
        struct session *session = engine->over;
        engine->over = session->next_ended;
        forget_command(engine, session);
        end_publicly(session);
    }
    pthread_cond_broadcast(&some_ended);
    pthread_mutex_unlock(&lock);
}

/* -- one round */

static void obey(struct engine *engine, struct session *session, unsigned commands,
                 int64_t drain, size_t known)
{
    if (session->over)
        return;
    if (commands & TO_START) {
        session->pool = &engine->pool;
        if (timers_reserve(engine, known + 1))
            session_begin(session, engine->now);
        else
            session_abandon(session);
    }
    if (commands & TO_STOP)
        session_stop(session, drain);
    if (commands & TO_ABANDON)
        session_abandon(session);
    if (session->over)
        retire(engine, session);
    else
        make_ready(engine, session);
}

/* Whether to go on. */
static bool obey_all(struct engine *engine)
{
    for (;;) {
        pthread_mutex_lock(&lock);
        struct session *session = engine->commands;
        size_t known = engine->count;
        unsigned commands = 0;
        int64_t drain = 0;
        if (session) {
            commands = session->commands;
            drain = session->drain;
            session->commands = 0;
            forget_command(engine, session);
        } else {
            atomic_store_explicit(&engine->called, false, memory_order_relaxed);
        }
        bool quit = engine->quit;
        pthread_mutex_unlock(&lock);
        if (!session)
            return !quit;
        session->now = engine->now;
        obey(engine, session, commands, drain, known);
    }
}

static void note(struct engine *engine, const struct epoll_event *event)
{
    uintptr_t tag = (uintptr_t)event->data.u64;
    struct session *session = (struct session *)(tag & ~(uintptr_t)3);
    if (!session) {
        reset_fd(engine->wake_fd);
        return;
    }
    struct end *end = &session->ends[tag >> 1 & 1];
    bool writes = tag & 1, both = end->read_fd == end->write_fd;
    uint32_t failed = event->events & (EPOLLERR | EPOLLHUP);
    if (!writes && (event->events & (EPOLLIN | EPOLLPRI | EPOLLRDHUP) || failed))
        end->readable = true;
    if ((writes || both) && (event->events & EPOLLOUT || failed))
        end->writable = true;
    if (!writes && (event->events & (EPOLLRDHUP | EPOLLHUP) || (failed && end->tcp)))
        end->hung_up = true;
    end->failing |= (event->events & EPOLLERR) != 0;
    /* An error alone may be a message in the socket's error queue. */
    end->gone |= (event->events & EPOLLHUP) != 0;
    end->urgent |= (event->events & EPOLLPRI) != 0;
    make_ready(engine, session);
}

static int time_left(struct engine *engine)
{
    if (engine->ready)
        return 0;
    if (engine->timer_count == 0)
        return -1;
    int64_t left = engine->timers[1]->due - engine->now;
    if (left <= 0)
        return 0;
    left = (left + MILLISECOND - 1) / MILLISECOND;
    return left > 1000000 ? 1000000 : (int)left;
}

static void serve(struct engine *engine, struct session *session)
{
    enum turn turn = session_turn(session, engine->now);
    if (turn == TURN_OVER) {
        retire(engine, session);
        return;
    }
    timer_set(engine, session, session_due(session));
    if (turn == TURN_AGAIN)
        make_ready(engine, session);
}

static void *engine_run(void *argument)
{
    struct engine *engine = argument;
    struct epoll_event events[EVENTS];
    bool running = true;
    engine->now = clock_now();
    while (running) {
        int count = epoll_wait(engine->epoll_fd, events, EVENTS, time_left(engine));
        engine->now = clock_now();
        for (int i = 0; i < count; i++)
            note(engine, &events[i]);
        if (atomic_load_explicit(&engine->called, memory_order_acquire))
            running = obey_all(engine);
        while (engine->timer_count && engine->timers[1]->due <= engine->now) {
            struct session *session = engine->timers[1];
            timer_remove(engine, session);
            make_ready(engine, session);
        }
        /* Those that come again in this round have to wait for the next. */
        struct session **end = engine->last_ready;
        while (engine->ready && end != &engine->ready) {
            bool last = &engine->ready->next_ready == end;
            serve(engine, take_ready(engine));
            if (last)
                break;
            if (atomic_load_explicit(&engine->called, memory_order_acquire)) {
                /* It may change the list: the next round goes on with it. */
                break;
            }
        }
        publish(engine);
    }
    return NULL;
}

/* -- from other threads */

static void fork_prepare(void)
{
    pthread_mutex_lock(&lock);
}

static void fork_parent(void)
{
    pthread_mutex_unlock(&lock);
}

static void close_fds(struct session *session)
{
    for (int side = SIDE_CONNECTION; side <= SIDE_SINK; side++) {
        struct end *end = &session->ends[side];
        if (end->write_fd >= 0 && end->write_fd != end->read_fd)
            close(end->write_fd);
        if (end->read_fd >= 0)
            close(end->read_fd);
        end->read_fd = end->write_fd = -1;
    }
}

static void fork_child(void)
{
    pthread_mutex_t fresh_lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t fresh_cond = PTHREAD_COND_INITIALIZER;
    memcpy(&lock, &fresh_lock, sizeof lock);
    memcpy(&some_ended, &fresh_cond, sizeof some_ended);
    for (unsigned i = 0; i < MOST_ENGINES; i++) {
        struct engine *engine = engines[i];
        engines[i] = NULL;
        if (!engine)
            continue;
        close(engine->epoll_fd);
        close(engine->wake_fd);
        struct session *session = engine->known;
        while (session) {
            struct session *next = session->next_known;
            session->engine = NULL;
            session->known = NULL;
            if (!atomic_load(&session->ended)) {
                close_fds(session);
                session_abandon(session);
                atomic_store(&session->ended, true);
            }
            session = next;
        }
        /* What the thread was about is lost with it, some memory and pipes too. */
    }
}

static void handle_forks(void)
{
    (void)pthread_atfork(fork_prepare, fork_parent, fork_child);
}

void engines_limit(unsigned most)
{
    pthread_once(&fork_handlers, handle_forks);
    engine_limit = most < 1 ? 1 : most > MOST_ENGINES ? MOST_ENGINES : most;
}

static int engine_new(struct engine **made)
{
    struct engine *engine = calloc(1, sizeof *engine);
    if (!engine)
        return ENOMEM;
    engine->last_command = &engine->commands;
    engine->last_ready = &engine->ready;
    engine->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    engine->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    int error = 0;
    if (engine->epoll_fd < 0 || engine->wake_fd < 0 ||
        epoll_ctl(engine->epoll_fd, EPOLL_CTL_ADD, engine->wake_fd, &event) < 0)
        error = errno;
    if (!error) {
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        error = pthread_create(&engine->thread, NULL, engine_run, engine);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    if (error) {
        if (engine->epoll_fd >= 0)
            close(engine->epoll_fd);
        if (engine->wake_fd >= 0)
            close(engine->wake_fd);
        free(engine);
        return error;
    }
    (void)pthread_setname_np(engine->thread, "wsockets-bridge");
    *made = engine;
    return 0;
}

/* The engine with the fewest sessions, a new one as long as there may be more; NULL
   with an errno where there is none. */
static struct engine *engine_choose(int *error)
{
    struct engine *chosen = NULL;
    struct engine **place = NULL;
    for (unsigned i = 0; i < engine_limit; i++) {
        if (!engines[i])
            place = place ? place : &engines[i];
        else if (!chosen || engines[i]->count < chosen->count)
            chosen = engines[i];
    }
    *error = place ? engine_new(place) : 0;
    return place && *place ? *place : chosen;
}

static void command(struct session *session, unsigned command)
{
    struct engine *engine = session->engine;
    session->commands |= command;
    if (!session->commanded) {
        session->commanded = true;
        session->next_command = NULL;
        *engine->last_command = session;
        engine->last_command = &session->next_command;
    }
    if (!atomic_exchange_explicit(&engine->called, true, memory_order_release))
        signal_fd(engine->wake_fd);
}

int engine_start(struct session *session)
{
    pthread_mutex_lock(&lock);
    int error;
    struct engine *engine = engine_choose(&error);
    if (engine) {
        error = 0;
        session->engine = engine;
        engine->count++;
        session->next_known = engine->known;
        session->known = &engine->known;
        if (engine->known)
            engine->known->known = &session->next_known;
        engine->known = session;
        command(session, TO_START);
    }
    pthread_mutex_unlock(&lock);
    return error;
}

void engine_ask(struct session *session, unsigned asked, int64_t drain)
{
    pthread_mutex_lock(&lock);
    if (!atomic_load(&session->ended) && session->engine) {
        if (asked & TO_STOP && (!(session->commands & TO_STOP) || drain < session->drain))
            session->drain = drain;
        command(session, asked);
    }
    pthread_mutex_unlock(&lock);
}

void engine_wait(struct session *session)
{
    pthread_mutex_lock(&lock);
    while (!atomic_load(&session->ended))
        pthread_cond_wait(&some_ended, &lock);
    pthread_mutex_unlock(&lock);
}

static void engine_free(struct engine *engine)
{
    signal_fd(engine->wake_fd);
    pthread_join(engine->thread, NULL);
    close(engine->epoll_fd);
    close(engine->wake_fd);
    pool_empty(&engine->pool);
    free(engine->timers);
    free(engine);
}

void engine_release(struct session *session)
{
    struct engine *engine = session->engine;
    pthread_mutex_lock(&lock);
    bool last = false;
    if (engine && session->known) {
        *session->known = session->next_known;
        if (session->next_known)
            session->next_known->known = session->known;
        session->known = NULL;
        session->engine = NULL;
        last = --engine->count == 0;
        if (last) {
            engine->quit = true;
            atomic_store_explicit(&engine->called, true, memory_order_release);
            for (unsigned i = 0; i < MOST_ENGINES; i++)
                if (engines[i] == engine)
                    engines[i] = NULL;
        }
    }
    pthread_mutex_unlock(&lock);
    if (last)
        engine_free(engine);
}

int engine_done_fd(struct session *session)
{
    pthread_mutex_lock(&lock);
    if (session->done_fd < 0) {
        session->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (session->done_fd >= 0 && atomic_load(&session->ended))
            signal_fd(session->done_fd);
    }
    int fd = session->done_fd >= 0 ? session->done_fd : -errno;
    pthread_mutex_unlock(&lock);
    return fd;
}

int news_open(struct news *news)
{
    news->first = NULL;
    news->last = &news->first;
    news->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return news->fd < 0 ? errno : 0;
}

void news_close(struct news *news)
{
    pthread_mutex_lock(&lock);
    if (news->fd >= 0)
        close(news->fd);
    news->fd = -1;
    pthread_mutex_unlock(&lock);
}

struct session *news_take(struct news *news)
{
    pthread_mutex_lock(&lock);
    struct session *session = news->first;
    if (session) {
        news->first = session->next_news;
        session->has_news = false;
    }
    if (!news->first) {
        news->last = &news->first;
        if (news->fd >= 0)
            reset_fd(news->fd);
    }
    pthread_mutex_unlock(&lock);
    return session;
}

void news_forget(struct session *session)
{
    pthread_mutex_lock(&lock);
    if (session->has_news) {
        struct session **at = &session->news->first;
        while (*at != session)
            at = &(*at)->next_news;
        *at = session->next_news;
        if (!*at)
            session->news->last = at;
        session->has_news = false;
    }
    pthread_mutex_unlock(&lock);
}

void session_close(struct session *session)
{
    close_fds(session);
    if (session->done_fd >= 0)
        close(session->done_fd);
    session->done_fd = -1;
}

/* -- from session.c */

static int watch(struct session *session, const struct end *end, int fd, bool writes,
                 uint32_t events, bool *unpollable)
{
    struct epoll_event event = {.events = events | EPOLLET};
    event.data.u64 = (uintptr_t)session | (uintptr_t)end->side << 1 | writes;
    if (epoll_ctl(session->engine->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0)
        return 0;
    if (errno != EPERM)
        return errno;
    /* A regular file and the like: always ready. */
    *unpollable = true;
    return 0;
}

int loop_watch(struct session *session, struct end *end)
{
    int error = 0;
    bool both = end->read_fd == end->write_fd;
    if (end->read_fd >= 0)
        error = watch(session, end, end->read_fd, false,
                      EPOLLIN | EPOLLPRI | EPOLLRDHUP | (both ? EPOLLOUT : 0),
                      &end->unpollable_read);
    if (both)
        end->unpollable_write = end->unpollable_read;
    else if (!error && end->write_fd >= 0)
        error = watch(session, end, end->write_fd, true, EPOLLOUT, &end->unpollable_write);
    return error;
}

void loop_close(struct session *session, int *fd)
{
    if (*fd < 0)
        return;
    /* Closing alone leaves it in the epoll, for it is a duplicate. ENOENT: it never
       was there. */
    (void)epoll_ctl(session->engine->epoll_fd, EPOLL_CTL_DEL, *fd, NULL);
    pthread_mutex_lock(&lock);
    close(*fd);
    *fd = -1;
    pthread_mutex_unlock(&lock);
}

void loop_finished(struct session *session, enum direction direction)
{
    pthread_mutex_lock(&lock);
    atomic_fetch_or(&session->finished, 1u << direction);
    post(session);
    pthread_mutex_unlock(&lock);
}
