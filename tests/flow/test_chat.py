"""Chat completions of the demo model over TLS: plain, streaming, reasoning, settings, errors."""
# runs: address
import json

from stack import MODEL, Stack, check, check_equal, done, wait_for

HELLO = "Hello! I am the Tollgate demo model. How can I help you?"


def events(raw):
    """The data of each server-sent event."""
    return [line[6:] for line in raw.decode().split("\n") if line.startswith("data: ")]


def plain(s, key):
    status, headers, body = s.chat(key, "Hello!", temperature=0)
    check_equal(status, 200, "status")
    choice = body["choices"][0]
    check_equal(choice["message"]["content"], HELLO, "the greedy answer")
    check_equal(choice["message"]["role"], "assistant", "role")
    check_equal(choice["finish_reason"], "stop", "finish_reason")
    check_equal(body["object"], "chat.completion", "object")
    check_equal(body["model"], MODEL, "model")
    usage = body["usage"]
    check_equal(usage["prompt_tokens"], 6, "prompt tokens, as in the model's golden file")
    check_equal(usage["prompt_tokens"] + usage["completion_tokens"], usage["total_tokens"], "total")
    check_equal(usage["prompt_cache_hit_tokens"] + usage["prompt_cache_miss_tokens"],
                usage["prompt_tokens"], "cache hit + miss")
    event = s.usage_event(headers["x-request-id"])
    for mine, theirs in (("prompt_tokens", "prompt_tokens"),
                         ("completion_tokens", "completion_tokens")):
        check_equal(event[mine], usage[theirs], f"usage_events.{mine}")
    miss = usage["prompt_cache_miss_tokens"]
    hit = usage["prompt_cache_hit_tokens"]
    cost = miss * 270000 + hit * 70000 + usage["completion_tokens"] * 1100000
    check_equal(int(event["cost_pico"]), cost, "cost in pico-dollars")


def streaming(s, key):
    body = {"model": MODEL, "stream": True, "temperature": 0,
            "stream_options": {"include_usage": True},
            "thinking": {"type": "enabled"},
            "messages": [{"role": "user", "content": "What is 1234 + 5678?"}]}
    status, headers, raw = s.request("POST", "/v1/chat/completions", body, key)
    check_equal(status, 200, "status")
    check(headers["content-type"].startswith("text/event-stream"), "content type")
    data = events(raw)
    check_equal(data[-1], "[DONE]", "the last event")
    chunks = [json.loads(d) for d in data[:-1]]
    deltas = [c["choices"][0]["delta"] for c in chunks if c["choices"]]
    content = "".join(d.get("content") or "" for d in deltas)
    reasoning = "".join(d.get("reasoning_content") or "" for d in deltas)
    check_equal(content.strip(), "1234 + 5678 = 6912", "the answer")
    check("1234+5678" in reasoning, f"reasoning comes apart from the answer: {reasoning!r}")
    check_equal(deltas[0].get("role"), "assistant", "the first delta's role")
    check_equal(len({c["id"] for c in chunks}), 1, "one id in all chunks")
    finish = [c["choices"][0]["finish_reason"] for c in chunks if c["choices"]]
    check_equal([f for f in finish if f], ["stop"], "one finish_reason")
    last = chunks[-1]
    check_equal(last["choices"], [], "the usage chunk has no choices")
    check(all(c["usage"] is None for c in chunks[:-1]), "the others carry usage: null")
    details = last["usage"]["completion_tokens_details"]
    check(0 < details["reasoning_tokens"] < last["usage"]["completion_tokens"], "reasoning tokens")
    check_equal(s.usage_event(headers["x-request-id"])["reasoning_tokens"],
                details["reasoning_tokens"], "reasoning tokens in the event")


def settings(s, key):
    for name in ("max_tokens", "max_completion_tokens"):
        _, _, body = s.chat(key, "Hello!", temperature=0, **{name: 3})
        check_equal(body["choices"][0]["finish_reason"], "length", f"finish_reason with {name}")
        check_equal(body["usage"]["completion_tokens"], 3, f"tokens with {name}")
    _, _, body = s.chat(key, "Hello!", temperature=0, stop=["demo"])
    check_equal(body["choices"][0]["message"]["content"], "Hello! I am the Tollgate ", "stop string")
    check_equal(body["choices"][0]["finish_reason"], "stop", "finish_reason with stop")
    texts = {s.chat(key, "Tell me something.", temperature=1.5, top_p=0.98, seed=7,
                    max_tokens=40)[2]["choices"][0]["message"]["content"] for _ in range(3)}
    check_equal(len(texts), 1, "one seed, one answer")


def choices(s, key):
    """Answers to one prompt: each with its own seed, the prompt counted once, all output billed."""
    fields = {"temperature": 2, "seed": 5, "max_tokens": 30, "n": 3}
    _, headers, body = s.chat(key, "Tell me something.", **fields)
    check_equal([c["index"] for c in body["choices"]], [0, 1, 2], "indexes")
    texts = [c["message"]["content"] for c in body["choices"]]
    check(len(set(texts)) > 1, f"choices differ: {texts}")
    alone = s.chat(key, "Tell me something.", **{**fields, "n": 1})[2]
    usage = body["usage"]
    check_equal(usage["prompt_tokens"], alone["usage"]["prompt_tokens"], "the prompt counts once")
    check(30 < usage["completion_tokens"] <= 90, "all choices count")
    event = s.usage_event(headers["x-request-id"])
    check_equal(event["completion_tokens"], usage["completion_tokens"], "all choices are billed")
    request = {"model": MODEL, "stream": True, "stream_options": {"include_usage": True},
               "messages": [{"role": "user", "content": "Tell me something."}], **fields}
    data = events(s.request("POST", "/v1/chat/completions", request, key)[2])
    check_equal(data[-1], "[DONE]", "the last event")
    chunks = [json.loads(d) for d in data[:-1]]
    streamed, ends = ["", "", ""], []
    for chunk in chunks[:-1]:
        c = chunk["choices"][0]
        check(c["index"] not in ends, "nothing behind the end of a choice")
        streamed[c["index"]] += c["delta"].get("content") or ""
        if c["finish_reason"]:
            ends.append(c["index"])
    check_equal(sorted(ends), [0, 1, 2], "each choice ends once")
    check_equal(streamed, texts, "streamed or not, with one seed")
    check_equal(chunks[-1]["usage"]["completion_tokens"], usage["completion_tokens"], "usage")


def logprobs(s, key):
    _, _, body = s.chat(key, "Hello!", temperature=0, logprobs=True, top_logprobs=3)
    choice = body["choices"][0]
    items = choice["logprobs"]["content"]
    check_equal(b"".join(bytes(i["bytes"]) for i in items).decode(), choice["message"]["content"],
                "the bytes of the tokens make the text")
    check(all(-9999 <= i["logprob"] <= 0 for i in items), "logprobs are at most 0")
    check(all(len(i["top_logprobs"]) == 3 for i in items), "as many candidates as asked for")
    check(all(i["top_logprobs"][0]["token"] == i["token"] for i in items), "greedy: the likeliest")
    request = {"model": MODEL, "stream": True, "temperature": 0, "logprobs": True,
               "messages": [{"role": "user", "content": "Hello!"}]}
    data = events(s.request("POST", "/v1/chat/completions", request, key)[2])
    streamed = []
    for chunk in map(json.loads, data[:-1]):
        streamed += (chunk["choices"][0]["logprobs"] or {"content": []})["content"]
    check_equal([i["token"] for i in streamed], [i["token"] for i in items], "streamed")
    check(all(i["top_logprobs"] == [] for i in streamed), "no candidates unless asked for")


def errors(s, key):
    def error(status, param=None, code=None, kind="invalid_request_error", **fields):
        body = {"model": MODEL, "messages": [{"role": "user", "content": "x"}]}
        body.update(fields)
        got, headers, answer = s.post("/v1/chat/completions", body, key)
        check_equal(got, status, f"status of {fields}")
        e = answer["error"]
        check_equal(sorted(e), ["code", "message", "param", "type"], f"error fields of {fields}")
        check_equal(e["type"], kind, f"type of {fields}")
        if param:
            check_equal(e["param"], param, f"param of {fields}")
        if code:
            check_equal(e["code"], code, f"code of {fields}")
        check("x-request-id" in headers, f"x-request-id with {fields}")

    def balance():
        """Once what every loop of the gateway has settled is in the ledger."""
        metrics = s.admin_get("gateway", "/metrics")[1].splitlines()
        settled = sum(int(line.split()[-1]) for line in metrics
                      if line.startswith("tollgate_gateway_settled_total"))
        b = s.cli_json("credit", "balance", "--tenant", "acme")
        shipped = int(s.sql("select count(*) from usage_events")[0][0])
        return b["balance"] if b["open_requests"] == 0 and shipped == settled else None
    before = wait_for("everything so far to be in the ledger", balance)
    error(400, "messages", messages=[])
    error(400, messages=[{"role": "oracle", "content": "x"}])
    error(400, "temperature", temperature=3)
    error(400, "temperature", temperature="hot")
    error(400, "top_p", top_p=0)
    error(400, "max_tokens", max_tokens=-1)
    error(400, "stop", stop=["x"] * 17)
    error(400, "tools[0].function.name", tools=[{"type": "function", "function": {"name": "f()"}}])
    error(400, "tools", tools=[{"type": "function", "function": {"name": f"f{i}"}} for i in range(129)])
    error(400, "tool_choice", tool_choice="required")
    error(400, "response_format", response_format={"type": "xml"})
    error(400, "n", n=9)
    error(400, "top_logprobs", top_logprobs=3)
    error(400, "logit_bias", logit_bias={"x": 1})
    error(400, "temprature", temprature=0.5)
    error(404, "model", "model_not_found", model="gpt-4")
    error(400, None, "context_length_exceeded", messages=[{"role": "user", "content": "ab " * 3000}])
    status, _, body = s.post("/v1/completions", {"model": MODEL, "prompt": "ab " * 3000}, key)
    check_equal((status, body["error"]["param"], body["error"]["code"]),
                (400, "prompt", "context_length_exceeded"), "a completion's prompt that is too long")
    status, _, body = s.post("/v1/chat/completions", '{"model":"a","model":"b"}', key)
    check_equal(status, 400, "duplicate JSON key")
    check("model" in body["error"]["message"], "the message names the duplicate key")
    check_equal(s.request("GET", "/v1/chat/completions", key=key)[0], 405, "GET on chat")
    check_equal(s.request("GET", "/v1/nothing", key=key)[0], 404, "unknown path")
    check_equal(s.request("POST", "/v1/chat/completions", "{}", key,
                          {"Content-Type": "text/plain"})[0], 415, "text/plain")
    check_equal(wait_for("everything to be in the ledger", balance), before,
                "nothing was charged for bad requests")


def models(s, key):
    status, _, body = s.request("GET", "/v1/models", key=key)
    check_equal(status, 200, "GET /v1/models")
    check_equal([m["id"] for m in json.loads(body)["data"]], [MODEL], "the models")
    check_equal(json.loads(s.request("GET", f"/v1/models/{MODEL}", key=key)[2])["id"], MODEL, "one")
    check_equal(s.request("GET", "/v1/models/none", key=key)[0], 404, "an unknown model")
    check_equal(s.request("GET", "/v1/models")[0], 401, "no key")


with Stack(backend="cpu") as s:
    key = s.new_key()
    plain(s, key)
    streaming(s, key)
    settings(s, key)
    choices(s, key)
    logprobs(s, key)
    errors(s, key)
    models(s, key)
done()
