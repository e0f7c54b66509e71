"""Schemas through the parse helpers of the openai clients of PyPI and npm, and tools that must be
called: the form holds whatever the model would like to say."""
import json

from openai_clients import ASK, COMMON, TIME, WEATHER, client, holds, npm, openai
from pydantic import BaseModel
from stack import MODEL, Stack, check, check_equal, done


class Person(BaseModel):
    name: str
    age: int


class get_weather(BaseModel):
    """Get the weather for a city."""
    city: str


def chosen(c):
    """tool_choice: none of them, one by name, at least one; whatever the words would suggest."""
    hello = [{"role": "user", "content": "Hello!"}]
    def message(**fields):
        return c.chat.completions.create(messages=hello, tools=[WEATHER, TIME], **COMMON,
                                         **fields).choices[0].message
    check(not message(tool_choice="none").tool_calls, "none")
    named = message(tool_choice={"type": "function", "function": {"name": "get_time"}})
    check_equal([x.function.name for x in named.tool_calls or []], ["get_time"], "by name")
    for one in (True, False):
        calls = message(tool_choice="required", parallel_tool_calls=not one).tool_calls or []
        check(len(calls) == 1 if one else len(calls) >= 1, f"required: {len(calls)} calls")
        for call in calls:
            check("city" in json.loads(call.function.arguments), "arguments by the schema")
            check(call.function.name in ("get_weather", "get_time"), "one of the functions")


def parsed(c):
    """The client's parse helpers: pydantic models in, pydantic objects out."""
    ask = [{"role": "user", "content": "Return JSON with keys name and age for Anna, 31."}]
    answer = c.chat.completions.parse(messages=ask, response_format=Person, **COMMON)
    check_equal(answer.choices[0].message.parsed, Person(name="Anna", age=31), "a parsed answer")
    # Draws at a high temperature: the form holds, whatever stands in it.
    whole = 0
    for seed in range(20):
        try:
            answer = c.chat.completions.parse(
                model=MODEL, temperature=1.5, seed=seed, max_tokens=300, response_format=Person,
                messages=[{"role": "user", "content": "Tell me something."}])
            whole += isinstance(answer.choices[0].message.parsed, Person)
        except openai.LengthFinishReasonError:
            pass  # a string that goes on and on; the client raises on finish_reason length
    check(whole >= 10, f"{whole} of 20 draws came to an end, and each of them parses")
    answer = c.chat.completions.parse(messages=ASK, tools=[openai.pydantic_function_tool(get_weather)],
                                      tool_choice="required", **COMMON)
    call = answer.choices[0].message.tool_calls[0]
    check_equal(call.function.parsed_arguments, get_weather(city="Paris"), "parsed arguments")
    text = c.chat.completions.create(messages=ask, response_format={"type": "json_object"},
                                     **COMMON).choices[0].message.content
    check_equal(json.loads(text), {"name": "Anna", "age": 31}, "json_object")


def refused(c):
    def error(param, **fields):
        try:
            c.chat.completions.create(messages=ASK, **COMMON, **fields)
            check(False, f"{param} must be refused")
        except openai.BadRequestError as e:
            check((e.param or "").startswith(param), f"param of {fields}: {e.param!r}, {e.message}")
    schema = {"type": "object", "properties": {"a": {"type": "strange"}}, "required": ["a"],
              "additionalProperties": False}
    error("response_format", response_format={"type": "json_schema", "json_schema": {
        "name": "x", "strict": True, "schema": schema}})
    error("tools[0].function", tool_choice="required", tools=[
        {"type": "function", "function": {"name": "f", "strict": True, "parameters": schema}}])


with Stack(backend="cpu") as s:
    c = client(s, s.new_key())
    chosen(c)
    parsed(c)
    refused(c)
    npm(s, "openai_schema_npm.mjs")
    holds(s)
done()
