// The openai client of npm against a running stack; tests/flow/test_openai.py starts both.
import { createRequire } from 'node:module';
import assert from 'node:assert/strict';

const require = createRequire(`${process.env.CLIENTS}/`);
const OpenAI = require('openai');
const { URL_BASE: baseURL, KEY: apiKey, LIMITED_KEY, MODEL: model } = process.env;
const client = new OpenAI({ baseURL, apiKey });
const messages = [{ role: 'user', content: 'What is 1234 + 5678?' }];
const hello = [{ role: 'user', content: 'Hello!' }];

const plain = await client.chat.completions.create({
  model, messages, temperature: 0, thinking: { type: 'enabled' },
});
assert.equal(plain.choices[0].message.content.trim(), '1234 + 5678 = 6912');
assert.match(plain.choices[0].message.reasoning_content, /1234\+5678/);
console.log('plain: ok');

let content = '', reasoning = '', usage = null;
const stream = await client.chat.completions.create({
  model, messages, temperature: 0, stream: true, thinking: { type: 'enabled' },
  stream_options: { include_usage: true },
});
for await (const chunk of stream) {
  content += chunk.choices[0]?.delta?.content ?? '';
  reasoning += chunk.choices[0]?.delta?.reasoning_content ?? '';
  usage = chunk.usage ?? usage;
}
assert.equal(content.trim(), '1234 + 5678 = 6912');
assert.match(reasoning, /1234\+5678/);
assert.ok(usage.completion_tokens > 0);
console.log('streaming: ok');

const { data: cut, response } = await client.chat.completions
  .create({ model, messages: hello, stream: true, max_tokens: 1500, temperature: 1.9, seed: 5 })
  .withResponse();
for await (const chunk of cut) {
  if (chunk.choices[0]?.delta?.content) break; // leaving the loop aborts the request
}
console.log(`aborted ${response.headers.get('x-request-id')}`);

await assert.rejects(new OpenAI({ baseURL, apiKey: 'sk-tg-wrong' }).models.list(),
  (e) => e instanceof OpenAI.AuthenticationError && e.code === 'invalid_api_key');
console.log('wrong key: ok');

const impatient = new OpenAI({ baseURL, apiKey: LIMITED_KEY, maxRetries: 0 });
await assert.rejects(async () => {
  for (let i = 0; i < 5000; i++)
    await impatient.chat.completions.create({ model, messages: hello, max_tokens: 1 });
}, (e) => e instanceof OpenAI.RateLimitError && e.code === 'rate_limit_exceeded');
const patient = new OpenAI({ baseURL, apiKey: LIMITED_KEY, maxRetries: 5 });
const answer = await patient.chat.completions.create({ model, messages: hello, max_tokens: 1 });
assert.equal(answer.usage.completion_tokens, 1);
console.log('rate limit and retry: ok');
