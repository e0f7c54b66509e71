"""A model that was trained on plain text only, without a chat template: it is served for completions
and for filling gaps; a chat with it is a 400 that says why."""
# runs: address
import json
import os
import shutil
import sys
import tempfile

from stack import MODEL, ROOT, Stack, check, check_equal, done

DEMO = os.path.join(ROOT, "models", "demo")
ASK = {"model": MODEL, "temperature": 0, "max_tokens": 12}
MESSAGES = [{"role": "user", "content": "Hello!"}]


def base_model(folder):
    """The demo model as a base model is published: no template, the end token in config.json."""
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        shutil.copy(os.path.join(DEMO, name), folder)
    with open(os.path.join(DEMO, "tokenizer_config.json")) as f:
        config = json.load(f)
    del config["chat_template"]
    with open(os.path.join(folder, "tokenizer_config.json"), "w") as f:
        json.dump(config, f)


def complete(s, key, **fields):
    status, _, body = s.post("/v1/completions", {**ASK, **fields}, key)
    check_equal(status, 200, f"a completion of {fields}: {body}")
    return body


def completions(s, key):
    body = complete(s, key, prompt="1, 2, 3, 4,")
    choice, usage = body["choices"][0], body["usage"]
    check_equal(choice["finish_reason"], "stop", "its end token ends it")
    check(choice["text"] and 0 < usage["completion_tokens"] < 12, f"a text: {body}")
    check_equal(usage["completion_tokens_details"]["reasoning_tokens"], 0, "no reasoning")
    again = complete(s, key, prompt="1, 2, 3, 4,", n=2)
    check_equal([c["text"] for c in again["choices"]], [choice["text"]] * 2, "n = 2")
    event = s.usage_event(body["id"].split("-", 1)[-1])
    check_equal(event["completion_tokens"], usage["completion_tokens"], "what is billed")
    return choice["text"]


def streamed(s, key, text):
    raw = s.request("POST", "/v1/completions", {**ASK, "prompt": "1, 2, 3, 4,", "stream": True},
                    key)[2].decode()
    data = [line[6:] for line in raw.splitlines() if line.startswith("data: ")]
    check_equal(data[-1], "[DONE]", "the stream's end")
    got = "".join(c["text"] for d in data[:-1] for c in json.loads(d)["choices"])
    check_equal(got, text, "the streamed text")


def gap(s, key):
    body = complete(s, key, prompt="def add(a, b):\n    ", suffix="\n\nprint(add(1, 2))")
    check(body["usage"]["prompt_tokens"] > complete(s, key, prompt="def add(a, b):\n    ")[
        "usage"]["prompt_tokens"] + 4, "the text behind the gap and its marks are in the prompt")


def refused(s, key):
    tool = {"type": "function", "function": {"name": "f"}}
    for fields in ({}, {"stream": True}, {"tools": [tool]},
                   {"response_format": {"type": "json_object"}}):
        status, _, body = s.post("/v1/chat/completions", {**ASK, "messages": MESSAGES, **fields},
                                 key)
        error = body["error"]
        check_equal((status, error["param"], error["code"]), (400, "messages", "invalid_value"),
                    f"a chat with {fields}")
        check("no chat template" in error["message"] and "/v1/completions" in error["message"],
              f"the message says why: {error['message']}")


folder = tempfile.mkdtemp(prefix="tg-base-")
try:
    base_model(folder)
    with Stack(backend="cpu", worker={"model_dir": folder}) as s:
        key = s.new_key()
        text = completions(s, key)
        streamed(s, key, text)
        gap(s, key)
        refused(s, key)
        with open(os.path.join(s.dir, "worker.log")) as f:
            check("has no chat template" in f.read(), "the worker says so when it starts")
finally:
    shutil.rmtree(folder)
done()
