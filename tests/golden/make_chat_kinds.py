"""Renders chat_kinds.json: conversations of ours through the publishers' templates, by Jinja.

    python3 tests/golden/make_chat_kinds.py DIR > tests/golden/chat_kinds.json

DIR holds the templates as KIND.jinja (see KINDS). They belong to their publishers and are not kept
here; what a test needs to have one recognised is in HINTS. Needs jinja2.
"""
import datetime
import json
import sys

import jinja2

WALL_S = 1753660800  # 28 Jul 2025
HINTS = {  # texts that tell the templates apart
    "deepseek-v2": "{{ 'User: ' }}{{ 'Assistant:' }}",
    "deepseek-v3": "<｜User｜> ```json",
    "deepseek-v3-0324": "<｜User｜> ```json is_last_user",
    "deepseek-r1": "<｜User｜> ```json </think> <｜Assistant｜><think>\\n",
    "deepseek-r1-0528": "<｜User｜> ```json is_last_user </think>",
    "deepseek-v3.1": "<｜User｜> is_last_user thinking <think> <｜tool▁sep｜>",
    "deepseek-v3.1-tools": "<｜User｜> is_last_user thinking <think> <｜tool▁sep｜>",
    "qwen2": "<|im_start|> You are a helpful assistant.",
    "qwen2.5": "<|im_start|> You are Qwen, created by Alibaba Cloud. <tool_call> <tool_response>",
    "qwen3": "<|im_start|> enable_thinking last_query_index <tool_call> <think>",
    "qwen3-thinking": "<|im_start|>assistant\\n<think>\\n last_query_index <tool_call>",
    "llama2": "[INST] <<SYS>>",
    "mixtral": "[INST] Only user and assistant roles are supported!",
    "llama3": "<|start_header_id|> loop_messages",
    "llama3.1": "<|start_header_id|> ipython Cutting Knowledge Date: December 2023",
    "llama3.2": "<|start_header_id|> ipython Cutting Knowledge Date: December 2023 strftime_now",
}
SHOWS_TOOLS = {"deepseek-v3.1-tools", "qwen2.5", "qwen3", "qwen3-thinking", "llama3.1", "llama3.2"}
CALLS_AS_TEXT = {"deepseek-v3", "deepseek-v3-0324", "deepseek-r1", "deepseek-r1-0528",
                 "deepseek-v3.1", "deepseek-v3.1-tools"}
DROPS_THOUGHT = {"deepseek-r1", "deepseek-r1-0528", "deepseek-v3.1", "deepseek-v3.1-tools", "qwen3",
                 "qwen3-thinking"}
THINKS = {"deepseek-v3.1", "deepseek-v3.1-tools", "qwen3"}
TOOLS = [
    {"type": "function", "function": {
        "name": "get_weather", "description": "The weather of a \"city\".\nNow.",
        "parameters": {"type": "object", "properties": {
            "city": {"type": "string", "description": "Münch\u0007en"},
            "days": {"type": "integer", "enum": [1, 2, 3]}, "more": {}, "none": []},
            "required": ["city"]}}},
    {"type": "function", "function": {
        "name": "add", "description": "Adds.",
        "parameters": {"type": "object", "properties": {"a": {"type": "number"}}}}},
]


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def calls(text, *arguments):
    return assistant(text, tool_calls=[
        {"id": f"call_{i}", "type": "function", "function": {"name": name, "arguments": args}}
        for i, (name, args) in enumerate(arguments)])


def tool(text):
    return {"role": "tool", "content": text, "tool_call_id": "call_0"}


SYSTEM = {"role": "system", "content": "Be brief."}
PLAIN = [
    [user("Hello")],
    [SYSTEM, user(" What is 2 + 2? ")],
    [user("Hi"), assistant("Hello!"), user("Ünïcode 漢字 🙂\n\n\"quotes\" \\ back")],
    [SYSTEM, user("a"), assistant(" b "), user("c"), assistant("d"), user("e")],
]
THOUGHT = [[user("2 + 2?"), assistant("<think>\n2 and 2\n</think>\n\n4"), user("3 + 3?")]]
WEATHER = ("get_weather", '{"city": "Paris", "days": 1}')
CALLED = [
    [user("Weather?"), calls("", WEATHER), tool("20 C, \"sunny\"")],
    [SYSTEM, user("Weather?"), calls("", WEATHER), tool("20 C"), assistant("It is 20 C."),
     user("Thanks")],
]
CALLED_TWICE = [
    [user("Weather?"), calls("I look.", WEATHER, ("add", '{"a": 1.5}')), tool("20 C"), tool("1")],
]


def conversations(kind):
    yield from ((m, None) for m in PLAIN if kind != "mixtral" or m[0] is not SYSTEM)
    if kind in DROPS_THOUGHT:
        yield from ((m, None) for m in THOUGHT)
    if kind in CALLS_AS_TEXT | SHOWS_TOOLS:
        shown = TOOLS if kind in SHOWS_TOOLS else None
        yield from ((m, shown) for m in [PLAIN[0], PLAIN[1]] + CALLED if shown)
        yield from ((m, None) for m in CALLED if not shown)
        if not kind.startswith("llama"):
            yield from ((m, shown) for m in CALLED_TWICE)


def with_values(messages):
    """As publishers' programs do it: the arguments are values, and the template writes them."""
    out = json.loads(json.dumps(messages))
    for m in out:
        for call in m.get("tool_calls", []):
            call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    return out


def renderer(text):
    def refuse(why):
        raise ValueError(why)

    env = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    env.filters["tojson"] = lambda v, indent=None: json.dumps(v, ensure_ascii=False, indent=indent)
    env.globals["raise_exception"] = refuse
    env.globals["strftime_now"] = lambda form: datetime.datetime.fromtimestamp(
        WALL_S, datetime.timezone.utc).strftime(form)
    return env.from_string(text)


def bos_eos(kind):
    if kind.startswith("deepseek"):
        return "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
    return ("<s>", "</s>") if kind in ("llama2", "mixtral") else ("<|begin_of_text|>", "<|eot_id|>")


def main():
    lines = []
    for kind, hint in HINTS.items():
        template = renderer(open(f"{sys.argv[1]}/{kind}.jinja", encoding="utf-8").read())
        bos, eos = bos_eos(kind)
        for messages, tools in conversations(kind):
            given = messages if kind in CALLS_AS_TEXT else with_values(messages)
            for thinking in [False, True] if kind in THINKS else [False]:
                more = {"tools": tools} if tools else {}
                text = template.render(messages=given, add_generation_prompt=True, bos_token=bos,
                                       eos_token=eos, thinking=thinking,
                                       enable_thinking=thinking, **more)
                lines.append(json.dumps({"kind": kind, "hint": hint, "messages": messages,
                                         "tools": tools, "thinking": thinking, "wall_s": WALL_S,
                                         "rendered": text}, ensure_ascii=False))
    print("[\n" + ",\n".join(lines) + "\n]")


main()
