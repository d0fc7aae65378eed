/* A flow: the bytes of one direction, from their source to their destination. */

#ifndef WSOCKETS_FLOW_H
#define WSOCKETS_FLOW_H

#include "session.h"

/* Moves what can be moved now, as far as session.credit allows. Whether anything
   has moved. */
bool flow_run(struct session *session, struct flow *flow);

/* Holds no more than it must while nothing moves. */
void flow_rest(struct session *session, struct flow *flow);

/* After the end: what was taken from the source and not delivered goes into
   session.unread, or into session.owed as its destination will send it (owed_clear,
   where TLS cannot write now). */
void flow_collect(struct session *session, struct flow *flow);

/* Appends; false without memory. */
bool bytes_append(struct bytes *bytes, const void *data, size_t length);

#endif
