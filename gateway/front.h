/* Routes, authentication, admission: from a whole HTTP request to serve_admitted. Loop thread. */
#ifndef GATEWAY_FRONT_H
#define GATEWAY_FRONT_H

#include "gateway/loop.h"

extern const struct http_handlers front_handlers; /* arg: the loop */

#endif
