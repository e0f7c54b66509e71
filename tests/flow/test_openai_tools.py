"""Tools, choices and log probabilities through the openai clients of PyPI and npm, with their own
helpers, against the demo model: it was trained on such requests."""
import json

from openai_clients import ASK, COMMON, TIME, WEATHER, client, holds, npm
from stack import MODEL, Stack, check, check_equal, done


def whole_turn(c):
    """A question, the call, its result, the answer."""
    answer = c.chat.completions.create(messages=ASK, tools=[WEATHER, TIME], **COMMON)
    choice = answer.choices[0]
    check_equal(choice.finish_reason, "tool_calls", "finish_reason")
    if not check_equal(len(choice.message.tool_calls or []), 1, "one call"):
        return
    call = choice.message.tool_calls[0]
    check_equal(call.function.name, "get_weather", "the function")
    check_equal(json.loads(call.function.arguments), {"city": "Paris"}, "its arguments")
    turn = ASK + [choice.message, {"role": "tool", "tool_call_id": call.id,
                                   "content": '{"temperature":20,"condition":"sunny"}'}]
    answer = c.chat.completions.create(messages=turn, tools=[WEATHER, TIME], **COMMON)
    check_equal(answer.choices[0].finish_reason, "stop", "the last finish_reason")
    check_equal(answer.choices[0].message.content.strip(),
                "The weather in Paris is sunny with 20 degrees.", "the answer")


def streamed(c):
    """The client's own accumulator puts the same call together from the pieces."""
    with c.chat.completions.stream(messages=ASK, tools=[WEATHER, TIME],
                                   stream_options={"include_usage": True}, **COMMON) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    check("tool_calls.function.arguments.done" in kinds, f"events: {sorted(kinds)}")
    call = final.choices[0].message.tool_calls[0]
    check_equal((call.function.name, json.loads(call.function.arguments)),
                ("get_weather", {"city": "Paris"}), "the streamed call")
    check_equal(final.choices[0].finish_reason, "tool_calls", "the streamed finish_reason")
    check(final.usage.completion_tokens > 5, "usage of the stream")


def unasked(c):
    """No calls where none are wanted: by the question, or by tool_choice."""
    for fields in ({"messages": [{"role": "user", "content": "Hello!"}]},
                   {"messages": ASK, "tool_choice": "none"}):
        choice = c.chat.completions.create(tools=[WEATHER, TIME], **fields, **COMMON).choices[0]
        check(not choice.message.tool_calls and choice.message.content, f"no call: {fields}")
        check_equal(choice.finish_reason, "stop", "finish_reason")


def said(c):
    """Log probabilities and several choices, as the client's types have them."""
    answer = c.chat.completions.create(messages=ASK, logprobs=True, top_logprobs=2, n=2, **COMMON)
    for choice in answer.choices:
        items = choice.logprobs.content
        check_equal("".join(i.token for i in items), choice.message.content, "tokens are the text")
        check(all(len(i.top_logprobs) == 2 and i.logprob <= 0 for i in items), "candidates")
    answer = c.completions.create(model=MODEL, prompt="1, 2, 3,", max_tokens=8, temperature=0,
                                  logprobs=2)
    got = answer.choices[0]
    check_equal("".join(got.logprobs.tokens), got.text, "a completion's tokens are its text")
    check_equal(got.logprobs.text_offset[0], 0, "text_offset")
    check(all(len(t) <= 2 for t in got.logprobs.top_logprobs), "a completion's candidates")


with Stack(backend="cpu") as s:
    c = client(s, s.new_key())
    whole_turn(c)
    streamed(c)
    unasked(c)
    said(c)
    npm(s, "openai_tools_npm.mjs")
    holds(s)
done()
