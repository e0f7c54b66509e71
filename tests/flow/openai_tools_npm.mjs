// Tools through the openai client of npm; tests/flow/test_openai_tools.py starts it.
import { createRequire } from 'node:module';
import assert from 'node:assert/strict';

const require = createRequire(`${process.env.CLIENTS}/`);
const OpenAI = require('openai');
const { URL_BASE: baseURL, KEY: apiKey, MODEL: model } = process.env;
const client = new OpenAI({ baseURL, apiKey });
const common = { model, temperature: 0 };
const ask = [{ role: 'user', content: 'What is the weather in Paris?' }];
const weather = {
  name: 'get_weather',
  description: 'Get the weather for a city.',
  parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
};

let asked = null;
const runner = client.chat.completions.runTools({
  ...common, messages: ask,
  tools: [{ type: 'function', function: { ...weather, parse: JSON.parse,
    function: (args) => { asked = args; return '{"temperature":20,"condition":"sunny"}'; } } }],
});
assert.equal((await runner.finalContent()).trim(), 'The weather in Paris is sunny with 20 degrees.');
assert.deepEqual(asked, { city: 'Paris' });
console.log('runTools: ok');

const stream = client.chat.completions.stream({
  ...common, messages: ask, tools: [{ type: 'function', function: weather }],
});
const { message, finish_reason } = (await stream.finalChatCompletion()).choices[0];
assert.equal(finish_reason, 'tool_calls');
assert.equal(message.tool_calls[0].function.name, 'get_weather');
assert.deepEqual(JSON.parse(message.tool_calls[0].function.arguments), { city: 'Paris' });
console.log('streamed call: ok');

const several = await client.chat.completions.create({
  ...common, messages: ask, n: 2, logprobs: true, top_logprobs: 1, stream: true,
});
const texts = ['', ''], tokens = ['', ''];
for await (const { choices: [choice] } of several) {
  texts[choice.index] += choice.delta.content ?? '';
  for (const item of choice.logprobs?.content ?? []) tokens[choice.index] += item.token;
}
assert.ok(texts[0].length > 0);
assert.deepEqual(tokens, texts);
console.log('choices and logprobs: ok');
