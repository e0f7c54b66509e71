"""The shapes of answers, on a worker that answers at once: tool calls, several choices, completions;
that the worker's refusals name the field, and that each request is billed for what it made."""
# runs: address thread
import json

from stack import MODEL, Stack, check, check_equal, done

USER = [{"role": "user", "content": "What is the weather?"}]
TOOLS = [{"type": "function", "function": {
    "name": name, "description": "Says it.", "strict": True,
    "parameters": {"type": "object", "properties": {}, "required": [],
                   "additionalProperties": False}}} for name in ("weather", "time")]


def chunks(raw):
    """The chunks of a stream that ended well."""
    data = [line[6:] for line in raw.decode().split("\n") if line.startswith("data: ")]
    check_equal(data[-1], "[DONE]", "the last event")
    return [json.loads(d) for d in data[:-1]]


def ask(s, key, path="/v1/chat/completions", **fields):
    """(headers, the answer or the chunks of the stream)."""
    body = {"model": MODEL, **fields}
    if "prompt" not in body:
        body.setdefault("messages", USER)
    status, headers, raw = s.request("POST", path, body, key)
    if not check_equal(status, 200, f"status of {fields}: {raw[:300]!r}"):
        done()
    return headers, chunks(raw) if body.get("stream") else json.loads(raw)


def tool_calls(s, key):
    for choice, name in (("required", "weather"),
                         ({"type": "function", "function": {"name": "time"}}, "time")):
        _, body = ask(s, key, tools=TOOLS, tool_choice=choice)
        got = body["choices"][0]
        check_equal(got["finish_reason"], "tool_calls", "finish_reason")
        check_equal(got["message"]["content"], None, "no content beside calls")
        call = got["message"]["tool_calls"][0]
        check_equal((call["type"], call["function"]["name"]), ("function", name), "the call")
        json.loads(call["function"]["arguments"])
        _, stream = ask(s, key, tools=TOOLS, tool_choice=choice, stream=True)
        deltas = [c["choices"][0]["delta"] for c in stream]
        check_equal(deltas[0], {"role": "assistant", "content": ""}, "the role comes first")
        pieces = [d for delta in deltas for d in delta.get("tool_calls", [])]
        check_equal(pieces[0]["index"], 0, "index")
        check_equal(pieces[0]["function"]["name"], name, "the name comes with the first piece")
        check("".join(p["function"]["arguments"] for p in pieces) != "", "arguments")
        check_equal(stream[-1]["choices"][0]["finish_reason"], "tool_calls", "streamed finish_reason")
        turn = USER + [got["message"], {"role": "tool", "tool_call_id": call["id"], "content": "Sun"}]
        _, body = ask(s, key, tools=TOOLS, messages=turn)
        check_equal(body["choices"][0]["finish_reason"], "stop", "the turn behind the call")


def choices(s, key):
    headers, body = ask(s, key, n=8, max_tokens=5)
    check_equal([c["index"] for c in body["choices"]], list(range(8)), "8 choices")
    check_equal(body["usage"]["completion_tokens"], 40, "tokens of all choices")
    check_equal(s.usage_event(headers["x-request-id"])["completion_tokens"], 40, "are billed")
    _, stream = ask(s, key, n=3, max_tokens=40, stream=True, thinking={"type": "enabled"},
                    stream_options={"include_usage": True})
    order = [c["choices"][0]["index"] for c in stream[:-1]]
    check(order.index(2) < len(order) - 1 - order[::-1].index(0), f"choices interleave: {order}")
    check_equal(sum(c["choices"][0]["finish_reason"] is not None for c in stream[:-1]), 3, "3 ends")
    check_equal(stream[-1]["usage"]["completion_tokens"], 120, "usage of all")


def completions(s, key):
    for path in ("/v1/completions", "/completions", "/beta/completions"):
        headers, body = ask(s, key, path, prompt="Once upon a time", suffix="the end.", n=2)
        check_equal(body["object"], "text_completion", "object")
        check(body["id"].startswith("cmpl-"), "id")
        check_equal([c["index"] for c in body["choices"]], [0, 1], "indexes")
        check(all(c["text"] and c["logprobs"] is None for c in body["choices"]), "texts")
        check_equal(s.usage_event(headers["x-request-id"])["prompt_tokens"],
                    body["usage"]["prompt_tokens"], "usage event")
    _, stream = ask(s, key, "/v1/completions", prompt="x", max_tokens=20, stream=True,
                    stream_options={"include_usage": True})
    check(all(c["object"] == "text_completion" for c in stream), "chunks are text_completion")
    text = "".join(c["choices"][0]["text"] for c in stream[:-1])
    check(text.startswith("The quick brown"), f"the text: {text!r}")
    check_equal(stream[-2]["choices"][0]["finish_reason"], "length", "finish_reason")
    check_equal(stream[-1]["usage"]["completion_tokens"], 20, "usage")
    status, _, body = s.post("/v1/completions", {"model": MODEL, "prompt": ""}, key)
    check_equal((status, body["error"]["param"]), (400, "prompt"), "an empty prompt")


def holds(s):
    """No request has used more than was held for it."""
    _, text = s.admin_get("gateway", "/metrics")
    line = [x for x in text.splitlines() if x.startswith("tollgate_gateway_over_hold_total ")]
    check_equal(line, ["tollgate_gateway_over_hold_total 0"], "holds")


with Stack(backend="echo") as s:
    key = s.new_key()
    tool_calls(s, key)
    choices(s, key)
    completions(s, key)
    holds(s)
done()
