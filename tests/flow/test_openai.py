"""The openai clients of PyPI and npm, unchanged, against the real stack."""
from openai_clients import client, npm, openai
from stack import MODEL, Stack, check, check_equal, done, wait_for

USER = [{"role": "user", "content": "What is 1234 + 5678?"}]


def plain(c):
    answer = c.chat.completions.create(model=MODEL, messages=USER, temperature=0,
                                       extra_body={"thinking": {"type": "enabled"}})
    message = answer.choices[0].message
    check_equal(message.content.strip(), "1234 + 5678 = 6912", "content")
    check("1234+5678" in message.reasoning_content, "reasoning_content")
    check(answer.usage.total_tokens > 10, "usage")
    check_equal([m.id for m in c.models.list()], [MODEL], "models")


def streaming(c):
    stream = c.chat.completions.create(model=MODEL, messages=USER, temperature=0, stream=True,
                                       stream_options={"include_usage": True})
    content, usage = "", None
    for chunk in stream:
        if chunk.choices:
            content += chunk.choices[0].delta.content or ""
        usage = chunk.usage or usage
    check(content.strip() != "", "streamed content")
    check(usage and usage.completion_tokens > 0, "usage in the last chunk")


def aborted(s, c):
    """A client that goes away is charged for what was generated, once."""
    stream = c.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Tell me something."}],
        temperature=1.9, seed=3, max_tokens=1500, stream=True, stop=None)
    seen = 0
    for chunk in stream:
        seen += 1
        if seen == 4:
            break
    request_id = stream.response.headers["x-request-id"]
    stream.close()
    event = s.usage_event(request_id)
    check(event["outcome"] in ("cancelled", "finished"), f"outcome: {event['outcome']}")
    check(event["completion_tokens"] >= 1 and int(event["cost_pico"]) > 0, "charged what was made")


def refused(s):
    try:
        client(s, "sk-tg-wrong").models.list()
        check(False, "a wrong key must raise")
    except openai.AuthenticationError as e:
        check_equal((e.status_code, e.code), (401, "invalid_api_key"), "wrong key")
    try:
        client(s, s.new_key()).chat.completions.create(model="none", messages=USER)
        check(False, "an unknown model must raise")
    except openai.NotFoundError as e:
        check_equal(e.code, "model_not_found", "unknown model")
    try:
        client(s, s.new_key()).chat.completions.create(model=MODEL, messages=USER, temperature=9)
        check(False, "a bad value must raise")
    except openai.BadRequestError as e:
        check_equal(e.param, "temperature", "param")


def limited(s):
    """At 60 a minute a burst runs dry; the client waits as told and gets its answer."""
    key = s.new_key("limited")
    s.cli("limit", "set", "--key", "limited", "--tenant", "acme", "--project", "main",
          "--requests-per-min", "60")
    hello = [{"role": "user", "content": "Hello!"}]
    impatient, patient = client(s, key, max_retries=0), client(s, key, max_retries=5)

    def dry():
        try:
            impatient.chat.completions.create(model=MODEL, messages=hello, max_tokens=1)
        except openai.RateLimitError as e:
            return e
    error = wait_for("a rate limit", dry)
    check_equal(error.code, "rate_limit_exceeded", "rate limit code")
    answer = patient.chat.completions.create(model=MODEL, messages=hello, max_tokens=1)
    check_equal(answer.usage.completion_tokens, 1, "after its automatic retry")


def from_npm(s):
    key = s.new_key("npm-limited")
    s.cli("limit", "set", "--key", "npm-limited", "--tenant", "acme", "--project", "main",
          "--requests-per-min", "60")
    lines = npm(s, "openai_npm.mjs", LIMITED_KEY=key)
    aborted_id = [line.split()[1] for line in lines if line.startswith("aborted ")]
    check_equal(len(aborted_id), 1, "the aborted request's id")
    event = s.usage_event(aborted_id[0])
    check(int(event["cost_pico"]) > 0, "the aborted request is charged")


with Stack(backend="cpu") as s:
    key = s.new_key()
    c = client(s, key)
    plain(c)
    streaming(c)
    aborted(s, c)
    refused(s)
    limited(s)
    from_npm(s)
done()
