#include "gateway/front.h"

#include <strings.h>

#include "base/clock.h"
#include "base/log.h"
#include "gateway/meter.h"
#include "gateway/request.h"
#include "gateway/serve.h"

enum { AWAY_RETRY_MS = 1000 };

/* --- models --- */

static bool priced(const struct gateway_loop *gl, const struct key_record *key, const char *model)
{
    struct price ignored;
    return gl->prices && pricebook_find(prices_book(gl->prices), model, &key->tenant_id,
                                        key->currency, clock_wall_ms(), &ignored) == OK;
}

static enum status put_model(struct buf *out, const char *name, int64_t created_s)
{
    enum status st = buf_adds(out, "{\"id\":");
    if (st == OK)
        st = json_put_string(out, name, strlen(name));
    if (st == OK)
        st = buf_addf(out, ",\"object\":\"model\",\"created\":%lld,\"owned_by\":\"tollgate\"}",
                      (long long)created_s);
    return st;
}

/* One of all links' models; those seen on an earlier link are passed over. */
static const char *next_model(const struct gateway_loop *gl, int *link, int *at)
{
    for (; *link < gl->link_count; (*link)++, *at = 0) {
        const struct link_model *models;
        int count = link_models(gl->links[*link], &models);
        while (*at < count) {
            const char *name = models[(*at)++].name;
            bool seen = false;
            for (int i = 0; i < *link; i++)
                seen = seen || link_find_model(gl->links[i], name);
            if (!seen)
                return name;
        }
    }
    return NULL;
}

static bool offered(const struct request *r, const struct key_record *key, const char *model)
{
    return key_record_allows(key, model) && priced(r->gl, key, model);
}

static void unknown_model(struct api_error *e, const char *model)
{
    api_error_set(e, 404, "model_not_found", "The model '%.128s' does not exist.", model);
    snprintf(e->param, sizeof e->param, "model");
}

static void answer_models(struct request *r, enum status st, const struct buf *out)
{
    struct api_error e;
    if (st == OK) {
        request_reply(r, 200, out);
        request_release(r);
        return;
    }
    api_error_overloaded(&e, AWAY_RETRY_MS, "The server is out of memory for this request.");
    request_refuse(r, &e);
}

static void list_models(struct request *r, const struct key_record *key)
{
    struct buf *out = &r->gl->scratch;
    int64_t created_s = r->gl->gateway->started_wall_ms / 1000;
    buf_clear(out);
    enum status st = buf_adds(out, "{\"object\":\"list\",\"data\":[");
    bool first = true;
    int link = 0, at = 0;
    const char *name;
    while (st == OK && (name = next_model(r->gl, &link, &at))) {
        if (!offered(r, key, name))
            continue;
        st = first ? OK : buf_adds(out, ",");
        first = false;
        if (st == OK)
            st = put_model(out, name, created_s);
    }
    if (st == OK)
        st = buf_adds(out, "]}\n");
    answer_models(r, st, out);
}

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* A name from a path, where it may be percent-encoded; empty: no model has such a name. */
static void decode_name(const char *from, char out[WIRE_MODEL_NAME_MAX + 1])
{
    size_t n = 0;
    while (*from && n < WIRE_MODEL_NAME_MAX) {
        char c = *from++;
        int high = c == '%' ? hex(from[0]) : -1;
        int low = high < 0 ? -1 : hex(from[1]);
        if (low >= 0) {
            c = (char)(high << 4 | low);
            from += 2;
        }
        out[n++] = c;
    }
    out[*from ? 0 : n] = 0;
}

static void show_model(struct request *r, const struct key_record *key)
{
    char name[WIRE_MODEL_NAME_MAX + 1];
    struct link_model ignored;
    struct api_error e;
    decode_name(strstr(http_request(r->ex)->path, "/models/") + strlen("/models/"), name);
    if (!dispatch_model(r->gl, name, &ignored) || !offered(r, key, name)) {
        unknown_model(&e, name);
        request_refuse(r, &e);
        return;
    }
    struct buf *out = &r->gl->scratch;
    buf_clear(out);
    enum status st = put_model(out, name, r->gl->gateway->started_wall_ms / 1000);
    answer_models(r, st, out);
}

/* --- chat --- */

static bool is_json(const char *content_type)
{
    static const char json[] = "application/json";
    size_t len = sizeof json - 1;
    if (!content_type || strncasecmp(content_type, json, len) != 0)
        return false;
    return content_type[len] == 0 || content_type[len] == ';' || content_type[len] == ' ';
}

typedef bool parse_fn(const struct json *body, const struct chat_limits *limits,
                      struct arena *arena, struct chat_request *out, struct api_error *e);

static bool read_body(struct request *r, parse_fn *parse, struct api_error *e)
{
    const struct tunables *t = &r->gl->tunables;
    const struct json_limits limits = {.depth = (int)t->json_depth,
                                       .nodes = (int)t->json_nodes,
                                       .bytes = (size_t)r->gl->gateway->settings.body_bytes};
    const struct chat_limits chat = {.messages_max = t->messages_max,
                                     .stop_max = t->stop_max,
                                     .tools_max = t->tools_max,
                                     .choices_max = t->choices_max};
    if (!is_json(http1_field(http_request(r->ex), "content-type"))) {
        api_error_set(e, 415, NULL, "The body must be JSON, with content-type application/json.");
        return false;
    }
    size_t len;
    const uint8_t *body = http_body(r->ex, &len);
    struct error err;
    enum status st = json_parse((const char *)body, len, &limits, &r->body, &err);
    if (st == NOMEM) {
        api_error_overloaded(e, AWAY_RETRY_MS, "The server is out of memory for this request.");
        return false;
    }
    if (st != OK) {
        api_error_set(e, 400, NULL, "%s", err.text);
        return false;
    }
    if (!json_is_object(r->body)) {
        api_error_set(e, 400, NULL, "The body must be a JSON object.");
        return false;
    }
    if (!parse(r->body, &chat, r->arena, &r->chat, e))
        return false;
    if (request_make_choices(r))
        return true;
    api_error_overloaded(e, AWAY_RETRY_MS, "The server is out of memory for this request.");
    return false;
}

static bool find_price(struct request *r, const struct key_record *key, struct link_model *model,
                       struct api_error *e)
{
    struct gateway_loop *gl = r->gl;
    if (!gl->prices) {
        api_error_overloaded(e, AWAY_RETRY_MS, "Prices are not loaded yet; try again.");
        return false;
    }
    enum status st = pricebook_find(prices_book(gl->prices), r->chat.model, &key->tenant_id,
                                    key->currency, r->context.admitted_wall_ms, &r->context.price);
    if (st != OK) {
        unknown_model(e, r->chat.model);
        return false;
    }
    if (!key_record_allows(key, r->chat.model)) {
        api_error_set(e, 403, "model_not_allowed", "This key may not use the model '%.128s'.",
                      r->chat.model);
        snprintf(e->param, sizeof e->param, "model");
        return false;
    }
    if (!dispatch_model(gl, r->chat.model, model)) {
        api_error_overloaded(e, AWAY_RETRY_MS, "No worker serves this model now; try again.");
        return false;
    }
    return true;
}

/* An upper bound of the prompt's tokens, as the worker's HELLO has it. */
static int64_t prompt_bound(const struct chat_request *chat, const struct link_model *m)
{
    int64_t messages = chat->completion ? 1 : (int64_t)chat->message_count;
    int64_t tokens =
        chat->prompt_bytes + m->prompt_overhead_tokens + messages * m->message_overhead_tokens;
    if (chat->tool_parts > 0 || chat->format.kind != WIRE__FORMAT__KIND__TEXT)
        tokens += m->tools_overhead_tokens + chat->tool_parts * m->tool_overhead_tokens;
    return tokens < m->context_tokens ? tokens : m->context_tokens; /* longer: refused there */
}

/* The hold: the prompt, and all the output that may come, at the dearer rate of the two for
 * input. */
static void estimate(struct request *r, const struct key_record *key, const struct link_model *m)
{
    int64_t prompt = prompt_bound(&r->chat, m);
    int64_t output = r->chat.max_tokens ? r->chat.max_tokens : m->max_output_tokens;
    if (output > m->context_tokens)
        output = m->context_tokens;
    output *= r->chat.choices;
    const struct price *p = &r->context.price;
    int64_t input = p->input_miss_pico > p->input_hit_pico ? p->input_miss_pico : p->input_hit_pico;
    money_pico hold = (money_pico)prompt * input + (money_pico)output * p->output_pico;
    r->context.hold_tokens = prompt + output;
    r->context.hold_nano = key->prepaid ? money_nano_up(hold) : 0;
}

static void on_admit(const struct admit_result *result, void *arg)
{
    struct request *r = arg;
    struct api_error e;
    stat_add(&r->gl->stats.admissions[result->verdict], 1);
    r->limits = *result;
    r->held = result->verdict == ADMIT_OK && result->held;
    if (!r->ex) {
        request_release(r); /* the client has gone meanwhile */
        return;
    }
    if (result->verdict == ADMIT_OK) {
        serve_admitted(r);
        return;
    }
    api_error_admission(&e, result);
    request_refuse(r, &e);
}

static void fill_context(struct request *r, const struct key_record *key)
{
    struct meter_context *c = &r->context;
    c->request_id = r->id;
    c->tenant_id = key->tenant_id;
    c->project_id = key->project_id;
    c->key_id = key->key_id;
    c->prepaid = key->prepaid;
    r->priority = key->priority;
    memcpy(c->currency, key->currency, sizeof c->currency);
    snprintf(c->model, sizeof c->model, "%s", r->chat.model);
    r->answer = (struct chat_answer){.id_text = r->id_text,
                                     .model = c->model,
                                     .created_s = c->admitted_wall_ms / 1000,
                                     .include_usage = r->chat.include_usage,
                                     .completion = r->chat.completion};
}

static void begin(struct request *r, const struct key_record *key, parse_fn *parse)
{
    struct api_error e;
    struct link_model model;
    r->context.admitted_wall_ms = clock_wall_ms();
    if (!read_body(r, parse, &e) || !find_price(r, key, &model, &e)) {
        request_refuse(r, &e);
        return;
    }
    if (journal_failed(r->gl->journal, NULL)) {
        api_error_overloaded(&e, AWAY_RETRY_MS, "Usage cannot be recorded now; try again.");
        request_refuse(r, &e);
        return;
    }
    fill_context(r, key);
    estimate(r, key, &model);
    struct admit_request ask = {.request_id = r->id,
                                .key = key,
                                .tokens = r->context.hold_tokens,
                                .hold_nano = r->context.hold_nano};
    request_set_state(r, REQUEST_ADMISSION);
    admission_ask(r->gl->admission, &ask, on_admit, r);
}

static void begin_chat(struct request *r, const struct key_record *key)
{
    begin(r, key, chat_parse);
}

static void begin_completion(struct request *r, const struct key_record *key)
{
    begin(r, key, completion_parse_short);
}

static void begin_beta_completion(struct request *r, const struct key_record *key)
{
    begin(r, key, completion_parse);
}

/* --- keys --- */

static void on_key(enum status st, const struct key_record *record, void *arg)
{
    struct request *r = arg;
    struct gateway_loop *gl = r->gl;
    struct api_error e;
    if (!r->ex) {
        request_release(r);
        return;
    }
    if (st == OK) {
        failures_good_key(gl->failures, r->key, r->key_len);
        r->keyed(r, record);
        return;
    }
    if (st == DENIED) {
        stat_add(&gl->stats.auth_failures, 1);
        failures_note(gl->failures, http_peer(r->ex), gl->tunables.auth_failures_max,
                      loop_now_ms(gl->loop));
        api_error_key(&e);
    } else {
        api_error_overloaded(&e, AWAY_RETRY_MS, "The key cannot be checked now; try again.");
    }
    request_refuse(r, &e);
}

static const char *bearer_key(const struct http1_request *http)
{
    const char *authorization = http1_field(http, "authorization");
    if (authorization && strncasecmp(authorization, "Bearer ", 7) == 0)
        return authorization + 7 + strspn(authorization + 7, " ");
    const char *key = authorization ? NULL : http1_field(http, "x-api-key");
    return key ? key : "";
}

static void check_key(struct request *r, request_keyed_fn *next)
{
    struct gateway_loop *gl = r->gl;
    struct api_error e;
    r->keyed = next;
    r->key = bearer_key(http_request(r->ex));
    r->key_len = strlen(r->key);
    int64_t retry_ms;
    if (failures_over(gl->failures, http_peer(r->ex), gl->tunables.auth_failures_max,
                      loop_now_ms(gl->loop), &retry_ms) &&
        !failures_was_good(gl->failures, r->key, r->key_len)) {
        api_error_set(&e, 429, "rate_limit_exceeded",
                      "Too many failed attempts from this address; try again later.");
        e.retry_ms = retry_ms;
        request_refuse(r, &e);
        return;
    }
    request_set_state(r, REQUEST_KEY);
    keyring_find(gl->keyring, r->key, r->key_len, on_key, r);
}

/* --- routes --- */

struct route {
    const char *method, *path; /* a '/' at the end: the name of a model follows */
    request_keyed_fn *run;
};

static const struct route routes[] = {
    {"POST", "/v1/chat/completions", begin_chat},
    {"POST", "/chat/completions", begin_chat},
    {"POST", "/beta/chat/completions", begin_chat},
    {"POST", "/v1/completions", begin_completion},
    {"POST", "/completions", begin_completion},
    {"POST", "/beta/completions", begin_beta_completion},
    {"GET", "/v1/models", list_models},
    {"GET", "/models", list_models},
    {"GET", "/v1/models/", show_model},
    {"GET", "/models/", show_model},
};

static bool path_matches(const char *route, const char *path)
{
    size_t len = strlen(route);
    if (route[len - 1] != '/')
        return strcmp(route, path) == 0;
    return strncmp(route, path, len) == 0 && path[len];
}

static void refuse_method(struct request *r, const char *allowed)
{
    struct api_error e;
    struct buf *out = &r->gl->scratch;
    api_error_set(&e, 405, NULL, "The method is not allowed here; use %s.", allowed);
    buf_clear(out);
    if (api_error_body(out, &e) != OK)
        buf_clear(out);
    const struct http_header headers[] = {{"x-request-id", r->id_text}, {"allow", allowed}};
    struct http_exchange *ex = r->ex;
    r->ex = NULL;
    http_set_user(ex, NULL);
    stat_add(&r->gl->stats.responses[4], 1);
    http_reply(ex, 405, headers, 2, "application/json", buf_head(out), buf_len(out));
    request_release(r);
}

static void on_request(struct http_exchange *ex, void *arg)
{
    struct gateway_loop *gl = arg;
    const struct http1_request *http = http_request(ex);
    struct request *r = request_new(gl, ex);
    if (!r) {
        static const char body[] = "{\"error\":{\"message\":\"The server is out of memory.\","
                                   "\"type\":\"overloaded_error\",\"param\":null,\"code\":null}}";
        http_reply(ex, 503, NULL, 0, "application/json", body, sizeof body - 1);
        return;
    }
    const char *allowed = NULL;
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        if (!path_matches(routes[i].path, http->path))
            continue;
        allowed = routes[i].method;
        if (strcmp(http->method, allowed) == 0) {
            check_key(r, routes[i].run);
            return;
        }
    }
    if (allowed) {
        refuse_method(r, allowed);
        return;
    }
    struct api_error e;
    api_error_set(&e, 404, NULL, "There is nothing at this path.");
    request_refuse(r, &e);
}

static void on_drained(struct http_exchange *ex, void *arg)
{
    struct request *r = http_user(ex);
    if (r)
        serve_drained(r);
}

static void on_closed(struct http_exchange *ex, bool complete, void *arg)
{
    struct request *r = http_user(ex);
    if (!r)
        return;
    r->ex = NULL;
    r->key = NULL; /* it was in the exchange */
    stat_add(&r->gl->stats.responses[0], 1);
    serve_client_gone(r);
}

static void on_refuse(int status, const char *text, struct buf *body, void *arg)
{
    struct gateway_loop *gl = arg;
    stat_add(&gl->stats.responses[status / 100 < STATS_CLASSES ? status / 100 : 0], 1);
    api_error_refused(status, text, body);
}

const struct http_handlers front_handlers = {
    .request = on_request, .drained = on_drained, .closed = on_closed, .refuse = on_refuse};
