/* The JSON objects that some models write calls as, while they come. Pure. */
#ifndef WORKER_TOOLOUT_JSON_H
#define WORKER_TOOLOUT_JSON_H

#include <stdbool.h>
#include <stddef.h>

/* Where a value that began with a bracket ends. Zeroed at the start. */
struct json_track {
    int depth;
    bool in_string, escaped, ended;
};
/* The bytes up to the value's end, at most len. */
size_t json_track_feed(struct json_track *t, const char *text, size_t len);

struct json_call { /* pointers into the text */
    const char *name, *arguments;
    size_t name_len, arguments_len;
};

enum json_head {
    JSON_HEAD_MORE,  /* not known yet */
    JSON_HEAD_CALL,  /* {"name": NAME, "arguments": { ...; call.arguments is at the brace */
    JSON_HEAD_OTHER, /* an object that goes on differently */
    JSON_HEAD_NONE,  /* no object */
};
/* "parameters" is as good as "arguments"; a "type" may stand in front. */
enum json_head json_call_head(const char *text, size_t len, struct json_call *out);
/* A whole object that has both; false: the text is none. */
bool json_call_read(const char *text, size_t len, struct json_call *out);

#endif
