"""Renders chat_kinds.json: conversations of ours through the publishers' templates, by Jinja.

    python3 tests/golden/make_chat_kinds.py DIR > tests/golden/chat_kinds.json

DIR holds the templates as FILE.jinja (see TEMPLATES): the chat_template of the named model's
tokenizer_config.json, or its chat_template.jinja. They belong to their publishers and are not kept
here. Of their texts the golden file has only which of MARKERS each holds; chat.c tells templates
apart by those. Needs jinja2.
"""
import copy
import datetime
import json
import sys

import jinja2

WALL_S = 1753660800  # 28 Jul 2025
# file: the kind that it is (None: none that is known), the model whose template it is
TEMPLATES = {
    "ds-v2-lite": ("DeepSeek-V2", "DeepSeek-V2-Lite-Chat"),
    "ds-v25": ("DeepSeek-V3", "DeepSeek-V2.5"),
    "ds-v3": ("DeepSeek-V3", "DeepSeek-V3"),
    "ds-v3-0324": ("DeepSeek-V3-0324", "DeepSeek-V3-0324"),
    "ds-r1": ("DeepSeek-R1", "DeepSeek-R1"),
    "ds-r1-early": ("DeepSeek-R1 (first)", "DeepSeek-R1 of January 2025"),
    "ds-distill": ("DeepSeek-R1-Distill", "DeepSeek-R1-Distill-Qwen-7B, -Llama-8B"),
    "ds-distill-early": ("DeepSeek-R1-Distill (first)", "the same of January 2025"),
    "ds-r1-0528": ("DeepSeek-R1-0528", "DeepSeek-R1-0528-Qwen3-8B"),
    "ds-v31": ("DeepSeek-V3.1", "DeepSeek-V3.1"),
    "ds-v31-terminus": ("DeepSeek-V3.1-Terminus", "DeepSeek-V3.1-Terminus, V3.2-Exp"),
    "qwen15": ("Qwen1.5", "Qwen1.5-0.5B"),
    "qwen2": ("Qwen2", "Qwen2-7B-Instruct, Qwen1.5-4B-Chat"),
    "qwen25": ("Qwen2.5", "Qwen2.5-3B-Instruct"),
    "qwen25-first": ("Qwen2.5 (first)", "Qwen2.5-0.5B-Instruct of September 2024"),
    "qwen3": ("Qwen3", "Qwen3-8B"),
    "qwen3-later": ("Qwen3", "Qwen3-0.6B of July 2025"),
    "qwen3-thinking": ("Qwen3-Thinking", "Qwen3-30B-A3B-Thinking-2507"),
    "qwen3-instruct": ("Qwen3-Instruct", "Qwen3-30B-A3B-Instruct-2507"),
    "qwq": ("QwQ", "QwQ-32B"),
    "qwq-preview": ("QwQ-Preview", "QwQ-32B-Preview"),
    "llama2": ("Llama 2", "Llama-2-7b-chat-hf"),
    "llama3": ("Llama 3", "Meta-Llama-3-8B-Instruct"),
    "llama3-first": ("Llama 3", "Meta-Llama-3-8B-Instruct of April 2024"),
    "llama31": ("Llama 3.1", "Llama-3.1-8B-Instruct, Llama-3.3-70B-Instruct"),
    "llama32": ("Llama 3.2", "Llama-3.2-3B-Instruct"),
    "mixtral": ("Mixtral", "Mixtral-8x7B-Instruct-v0.1, Mistral-7B-Instruct-v0.1"),
    "mixtral-first": ("Mixtral (first)", "Mixtral-8x7B-Instruct-v0.1 of December 2023"),
    "mistral-first": ("Mistral (first)", "Mistral-7B-Instruct-v0.1 of 2023"),
    "mistral-v03": ("Mistral v0.3", "Mistral-7B-Instruct-v0.3"),
    "mistral-nemo": ("Mistral Nemo", "Mistral-Nemo-Instruct-2407"),
    "mixtral-8x22b": ("Mixtral 8x22B", "Mixtral-8x22B-Instruct-v0.1, the default one"),
    "mistral-small": (None, "Mistral-Small-24B-Instruct-2501"),
    "mistral-large": (None, "Mistral-Large-Instruct-2411"),
    "qwen3-coder": ("Qwen3-Coder", "Qwen3-Coder-30B-A3B-Instruct"),
    "qwen3-coder-first": ("Qwen3-Coder (first)", "Qwen3-Coder-480B-A35B-Instruct of July 2025"),
    "qwen3-coder-other": (None, "Qwen3-Coder as llama.cpp has it"),
}
MARKERS = [
    "'User: ' + message['content']", "'Assistant: ' + message['content'] + eos_token", "tool",
    "<｜User｜>", "```json", "is_last_user", "think>", "'tool_calls' in message", "if tools",
    "<｜Assistant｜><think>", "</think>", "<think>", "enable_thinking", "set thinking", "thinking",
    "<｜tool▁sep｜>", "is_only_sys", "{{additional_tool_calls}}",
    "<|im_start|>", "You are a helpful assistant<|im_end|>", "You are a helpful assistant.<|im_end|>",
    "You are Qwen, created by Alibaba Cloud.", "<tool_call>", "<tool_response>", "<function=",
    "{{\\\"name\\\"", "You should think step-by-step.", "<|im_start|>assistant\\n<think>\\n",
    "last_query_index", "<|im_start|>assistant\\n'", "set content = message.content", "think",
    "You are a", "You are Qwen", "boxed", "bos_token",
    "<<SYS>>", "{% set system_message = false %}", "bos_token + '[INST] ' + content",
    "' ' + eos_token", "true == true", "elif not", "+ content + ' [/INST]'",
    "<|start_header_id|>", "loop_messages", "{% set content = bos_token + content %}", "ipython",
    "function", "Cutting Knowledge Date: December 2023", "strftime_now", "image",
    "' [INST] ' + system_message", "' [/INST]'", "' ' + message['content'] + eos_token",
    "'[INST] ' + message['content'] + ' [/INST]'", "Only user and assistant roles are supported!",
    "eos_token + ' '", "system",
    "You have access to the following functions:", "render_extra_keys(param_fields, handled_keys)",
    "| tojson | safe if args_value is mapping else args_value | string",
    "render_item_list(param_fields.enum, 'enum')", "[AVAILABLE_TOOLS] [", "[AVAILABLE_TOOLS][",
    "\"[INST] \" + message[\"content\"] + \"[/INST]\"", "[SYSTEM_PROMPT]",
    "\"[INST]\" + message[\"content\"] + \"[/INST]\"",
    "Tool call IDs should be alphanumeric strings with length 9!",
    "'[INST] ' + message['content'] + '[/INST]'", "loop.last and system_message is defined",
]
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
CODER_TOOLS = [  # Qwen3-Coder's shows schemas as tags
    {"type": "function", "function": {
        "name": "get_weather", "description": " The weather of a \"city\".\nNow. ",
        "parameters": {
            "type": "object", "properties": {
                "city": {"type": "string", "description": " Münch\u0007en\n"},
                "days": {"type": "integer", "enum": [1, 2, 3], "default": 2.5},
                "unit": {"type": ["string", "null"], "enum": ["c", "it's", "\"x\"", None]},
                "more": {},
                "nest": {"type": "object", "required": ["a"], "additionalProperties": False,
                         "properties": {"a": {"type": "array", "items": {"type": "number"}}}},
                "x-y z": {"$ref": "#/$defs/a", "x-deep key": True, "e": 1e30, "f": 1.5e-7,
                          "l": ["ü", "\u200b", "it's \"q\"", {"a": None}]}},
            "required": ["city", "days"], "$defs": {"a": {"type": "string"}}}}},
    TOOLS[1],
]


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def calls(text, *arguments, **more):
    return assistant(text, tool_calls=[
        {"id": f"call0000{i}", "type": "function", "function": {"name": name, "arguments": args}}
        for i, (name, args) in enumerate(arguments)], **more)


def tool(text):
    return {"role": "tool", "content": text, "tool_call_id": "call00000"}


def system(text):
    return {"role": "system", "content": text}


WEATHER = ("get_weather", '{"city": "Paris", "days": 1}')
ODD = ("get_weather", '{"city":"Münch\\u0007en \\"x\\"","days":2,"more":{"a":[1,2.5,true,null]}}')
ADD = ("add", '{"a": 1.5}')
CONVERSATIONS = {
    "plain": [user("Hello")],
    "turns": [user("Hi"), assistant("Hello!"), user("Ünïcode 漢字 🙂\n\n\"quotes\" \\ back")],
    "system": [system("Be brief.\n"), user(" What is 2 + 2? ")],
    "spaces": [system("Be brief."), user("a "), assistant(" b "), user("\n c\n"),
               assistant("d\n"), user("e")],
    "systems": [system("Be brief."), system("Be kind."), user("a"), assistant("b"),
                system("Be quick."), user("c")],
    "ends on an answer": [user("a"), assistant("b")],
    "thought": [user("2 + 2?"), assistant("<think>\n2 and 2\n</think>\n\n4"), user("3 + 3?")],
    "reason": [user("q"), assistant("x", reasoning_content="because\n"), user("r")],
    "reason and call": [user("q"), calls("", WEATHER, reasoning_content="I look"), tool("20 C"),
                        calls("text", ADD, reasoning_content="and add"), tool("1")],
    "call": [user("Weather?"), calls("", WEATHER), tool("20 C, \"sunny\"")],
    "call done": [system("Be brief."), user("Weather?"), calls("", ODD), tool('{"t": 20}'),
                  assistant("It is 20 C."), user("Thanks")],
    "two calls": [user("Weather?"), calls("", WEATHER, ADD), tool("20 C"), tool("1")],
    "text and calls": [user("Weather?"), calls("I look.", WEATHER, ADD), tool("20 C"), tool("1"),
                       assistant("Done."), user("Thanks")],
    "rounds": [user("go"), calls("", WEATHER), tool("x"), calls("", ADD), tool("y"),
               assistant("z"), user("again"), calls("", WEATHER), tool("q")],
    "continue": [system("s"), user("q"), assistant("a"), user("b"), assistant("so ", prefix=True)],
}
PLAIN = ["plain", "turns", "system", "spaces", "systems", "ends on an answer"]
CALLED = ["call", "call done", "text and calls", "two calls", "rounds"]
THINKS = ["ds-r1", "ds-r1-early", "ds-distill", "ds-distill-early", "ds-r1-0528", "ds-v31",
          "ds-v31-terminus", "qwen3", "qwen3-later", "qwen3-thinking", "qwq"]
CHOOSES = ["ds-v31", "ds-v31-terminus", "qwen3", "qwen3-later"]
SHOWS = ["qwen25", "qwen25-first", "qwen3", "qwen3-later", "qwen3-thinking", "qwen3-instruct",
         "qwq", "qwq-preview", "llama31", "llama32", "qwen3-coder", "qwen3-coder-first",
         "mistral-v03", "mistral-nemo"]
# What is left out: where chat.c differs on purpose (docs/decisions/071-known-templates.md).
LEFT_OUT = {
    "ds-v25": ["system", "spaces", "systems", "call", "call done", "text and calls", "rounds"],
    "ds-v3": ["call", "call done", "text and calls", "rounds"],
    "ds-distill": ["systems", "call", "call done", "text and calls", "rounds"],
    "ds-distill-early": ["systems", "call", "call done", "text and calls", "rounds"],
    "ds-r1": ["rounds"],
    "ds-r1-early": ["rounds"],
    "llama31": ["two calls", "text and calls"],
    "llama32": ["two calls", "text and calls"],
}


def conversations(name):
    yield from PLAIN
    if name in THINKS:
        yield "thought"
    if name.startswith("qwen3") and name in THINKS:
        yield from ("reason", "reason and call")
    if name in SHOWS or name.startswith("ds-") and name != "ds-v2-lite":
        yield from CALLED
    if name.startswith("ds-v31"):
        yield "continue"


def with_tools(name, conversation):
    return name in SHOWS and conversation not in ("turns", "spaces", "systems", "thought", "reason")


def as_publishers_take_it(name, messages):
    """Their programs parse the arguments, but for DeepSeek's, which want no text as none."""
    out = copy.deepcopy(messages)
    for m in out:
        for call in m.get("tool_calls", []):
            if not name.startswith("ds-"):
                call["function"]["arguments"] = json.loads(call["function"]["arguments"])
        if name.startswith("ds-") and name != "ds-r1-0528" and "tool_calls" in m:
            m["content"] = m["content"] or None
    return out


def renderer(text):
    def refuse(why):
        raise jinja2.TemplateError(why)

    env = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    env.filters["tojson"] = lambda v, indent=None: json.dumps(v, ensure_ascii=False, indent=indent)
    env.globals["raise_exception"] = refuse
    env.globals["strftime_now"] = lambda form: datetime.datetime.fromtimestamp(
        WALL_S, datetime.timezone.utc).strftime(form)
    return env.from_string(text)


def bos_eos(name):
    if name.startswith("ds-"):
        return "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
    if name.startswith("llama3"):
        return "<|begin_of_text|>", "<|eot_id|>"
    return "<s>", "</s>"


def cases(name, template):
    bos, eos = bos_eos(name)
    for key in conversations(name):
        if key in LEFT_OUT.get(name, []):
            continue
        given = as_publishers_take_it(name, CONVERSATIONS[key])
        shown = CODER_TOOLS if "coder" in name else TOOLS
        tools = {"tools": shown} if with_tools(name, key) else {}
        for thinking in [False, True] if name in CHOOSES else [False]:
            try:
                text = template.render(messages=given, add_generation_prompt=True, bos_token=bos,
                                       eos_token=eos, thinking=thinking, enable_thinking=thinking,
                                       **tools)
            except jinja2.TemplateError:
                continue  # it takes no system text, or not there
            yield {"template": name, "conversation": key, "tools": bool(tools),
                   "coder": shown is CODER_TOOLS, "thinking": thinking, "rendered": text}


def lines(of):
    return ",\n".join(json.dumps(x, ensure_ascii=False) for x in of)


def main():
    templates, rendered = [], []
    for name, (kind, model) in TEMPLATES.items():
        with open(f"{sys.argv[1]}/{name}.jinja", encoding="utf-8") as f:
            text = f.read()
        templates.append({"name": name, "model": model, "kind": kind,
                          "holds": [m for m in MARKERS if m in text]})
        if kind:
            rendered += cases(name, renderer(text))
    conversations = ",\n".join(f"{json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}"
                               for k, v in CONVERSATIONS.items())
    print(f'{{"wall_s": {WALL_S},\n"markers": {json.dumps(MARKERS, ensure_ascii=False)},\n'
          f'"tools": {json.dumps(TOOLS, ensure_ascii=False)},\n'
          f'"coder_tools": {json.dumps(CODER_TOOLS, ensure_ascii=False)},\n'
          f'"conversations": {{\n{conversations}\n}},\n'
          f'"templates": [\n{lines(templates)}\n],\n"cases": [\n{lines(rendered)}\n]}}')


main()
