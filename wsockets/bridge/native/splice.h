/* splice(2): from descriptor to descriptor without a copy, through a pipe that is
   held only while bytes are in it. */

#ifndef WSOCKETS_SPLICE_H
#define WSOCKETS_SPLICE_H

#include <stdbool.h>
#include <sys/types.h>

#include "buffers.h"
#include "end.h"

/* Whether it is worth a try; EINVAL may still say otherwise. */
bool splice_suits(const struct end *source, const struct end *destination);

/* Bytes moved into or out of the pipe, or -errno; never EINTR. */
ssize_t splice_in(struct end *source, struct pipe *pipe);
ssize_t splice_out(struct pipe *pipe, struct end *destination);

#endif
