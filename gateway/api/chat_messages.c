#include "gateway/api/chat_parse.h"

/* "messages[3].content" */
struct place {
    char text[96];
};

static struct place at(int index, const char *member)
{
    struct place p;
    snprintf(p.text, sizeof p.text, "messages[%d]%s%.60s", index, *member ? "." : "", member);
    return p;
}

static bool string_member(struct chat_parse *p, int index, const struct json *v, char **out)
{
    const char *text = json_string(v);
    if (!text)
        return api_error_param(p->e, at(index, json_key(v)).text, "'%s' must be a string.",
                               json_key(v));
    *out = (char *)text; /* protobuf-c knows no const; it is only read */
    p->out->prompt_bytes += (int64_t)strlen(text);
    return true;
}

static bool short_member(struct chat_parse *p, int index, const struct json *v, char **out)
{
    if (!string_member(p, index, v, out))
        return false;
    return strlen(*out) <= SHORT_TEXT_MAX ||
           api_error_param(p->e, at(index, json_key(v)).text, "'%s' is longer than %d bytes.",
                           json_key(v), SHORT_TEXT_MAX);
}

static bool role(struct chat_parse *p, int index, const struct json *v, char **out)
{
    static const char *const roles[] = {"system", "user", "assistant", "tool"};
    const char *text = json_string(v);
    if (text && strcmp(text, "developer") == 0)
        text = "system";
    for (int i = 0; text && i < 4; i++)
        if (strcmp(text, roles[i]) == 0) {
            *out = (char *)roles[i];
            return true;
        }
    return api_error_param(p->e, at(index, "role").text,
                           "'role' must be system, developer, user, assistant or tool.");
}

static const char *part_text(struct chat_parse *p, int index, const struct json *part)
{
    const char *type = json_string(json_get(part, "type"));
    const char *text = json_string(json_get(part, "text"));
    if (type && strcmp(type, "text") != 0) {
        api_error_param(p->e, at(index, "content").text,
                        "A content part of type '%.40s' is not supported by this server.", type);
        return NULL;
    }
    if (!type || !text)
        api_error_param(p->e, at(index, "content").text,
                        "A content part must be {\"type\": \"text\", \"text\": \"...\"}.");
    return type ? text : NULL;
}

static bool parts(struct chat_parse *p, int index, const struct json *v, char **out)
{
    size_t total = 0;
    for (const struct json *part = json_first(v); part; part = json_next(part)) {
        const char *text = part_text(p, index, part);
        if (!text)
            return false;
        total += strlen(text);
    }
    char *joined = arena_alloc(p->arena, total + 1);
    if (!joined)
        return chat_no_memory(p);
    char *end = joined;
    for (const struct json *part = json_first(v); part; part = json_next(part)) {
        const char *text = json_string(json_get(part, "text"));
        size_t len = strlen(text);
        memcpy(end, text, len);
        end += len;
    }
    *end = 0;
    *out = joined;
    p->out->prompt_bytes += (int64_t)total;
    return true;
}

/* Members that answers of this kind of API carry, and clients send back, when they say nothing. */
static bool says_nothing(const struct json *v)
{
    static const char *const names[] = {"refusal", "audio", "annotations", "function_call", NULL};
    for (int i = 0; names[i]; i++)
        if (strcmp(json_key(v), names[i]) == 0)
            return json_is_array(v) && json_count(v) == 0;
    return false;
}

static bool member(struct chat_parse *p, int index, const struct json *v, Wire__ChatMessage *m)
{
    const char *name = json_key(v);
    if (json_is_null(v))
        return true;
    if (strcmp(name, "role") == 0)
        return role(p, index, v, &m->role);
    if (strcmp(name, "content") == 0)
        return json_is_array(v) ? parts(p, index, v, &m->content)
                                : string_member(p, index, v, &m->content);
    if (strcmp(name, "reasoning_content") == 0)
        return string_member(p, index, v, &m->reasoning_content);
    if (strcmp(name, "name") == 0)
        return short_member(p, index, v, &m->name);
    if (strcmp(name, "tool_call_id") == 0)
        return short_member(p, index, v, &m->tool_call_id);
    if (strcmp(name, "tool_calls") == 0)
        return chat_tool_calls(p, index, v, m);
    if (strcmp(name, "prefix") == 0 && json_is_bool(v)) {
        m->prefix = json_bool(v);
        return true;
    }
    return says_nothing(v) || api_error_param(p->e, at(index, name).text,
                                              "'%.60s' of a message is not supported by this "
                                              "server.",
                                              name);
}

static bool whole(struct chat_parse *p, int index, const struct json *v, const Wire__ChatMessage *m)
{
    if (!*m->role)
        return api_error_param(p->e, at(index, "role").text, "A message needs a 'role'.");
    const struct json *content = json_get(v, "content");
    bool assistant = strcmp(m->role, "assistant") == 0;
    if ((!content || json_is_null(content)) && !assistant)
        return api_error_param(p->e, at(index, "content").text, "A message needs a 'content'.");
    if (strcmp(m->role, "tool") == 0 && !*m->tool_call_id)
        return api_error_param(p->e, at(index, "tool_call_id").text,
                               "A message of role tool needs a 'tool_call_id'.");
    if (m->n_tool_calls > 0 && !assistant)
        return api_error_param(p->e, at(index, "tool_calls").text,
                               "Only a message of role assistant has 'tool_calls'.");
    if (m->prefix && (!assistant || json_next(v)))
        return api_error_param(p->e, at(index, "prefix").text,
                               "'prefix' is allowed only in a last message of role assistant.");
    return true;
}

/* A tool's message answers a call of the assistant's message in front of it and its likes. */
static bool answers_call(struct chat_parse *p, int index)
{
    Wire__ChatMessage *const *all = p->out->messages;
    int i = index - 1;
    while (i >= 0 && strcmp(all[i]->role, "tool") == 0)
        i--;
    for (size_t k = 0; i >= 0 && k < all[i]->n_tool_calls; k++)
        if (strcmp(all[i]->tool_calls[k]->id, all[index]->tool_call_id) == 0)
            return true;
    return api_error_param(p->e, at(index, "tool_call_id").text,
                           "A message of role tool must follow an assistant's message with a "
                           "tool call of this id.");
}

bool chat_messages(struct chat_parse *p, const char *name, const struct json *v)
{
    int count = json_is_array(v) ? json_count(v) : 0;
    if (count < 1)
        return api_error_param(p->e, name, "'messages' must be an array with a message in it.");
    if (count > p->limits->messages_max)
        return api_error_param(p->e, name, "'messages' may have at most %d messages.",
                               (int)p->limits->messages_max);
    Wire__ChatMessage *all = arena_alloc(p->arena, sizeof *all * (size_t)count);
    p->out->messages = arena_alloc(p->arena, sizeof *p->out->messages * (size_t)count);
    if (!all || !p->out->messages)
        return chat_no_memory(p);
    int i = 0;
    for (const struct json *item = json_first(v); item; item = json_next(item), i++) {
        if (!json_is_object(item))
            return api_error_param(p->e, at(i, "").text, "A message must be an object.");
        wire__chat_message__init(&all[i]);
        p->out->messages[i] = &all[i];
        for (const struct json *m = json_first(item); m; m = json_next(m))
            if (!member(p, i, m, &all[i]))
                return false;
        if (!whole(p, i, item, &all[i]))
            return false;
        if (strcmp(all[i].role, "tool") == 0 && !answers_call(p, i))
            return false;
    }
    p->out->message_count = (size_t)count;
    return true;
}
