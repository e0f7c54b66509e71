// Schemas through the openai client of npm; tests/flow/test_openai_schema.py starts it.
import { createRequire } from 'node:module';
import assert from 'node:assert/strict';

const require = createRequire(`${process.env.CLIENTS}/`);
const OpenAI = require('openai');
const { zodResponseFormat } = require('openai/helpers/zod');
const { z } = require('zod');
const { URL_BASE: baseURL, KEY: apiKey, MODEL: model } = process.env;
const client = new OpenAI({ baseURL, apiKey });
const common = { model, temperature: 0 };

const Person = z.object({ name: z.string(), age: z.number().int() });
const parsed = await client.chat.completions.parse({
  ...common, response_format: zodResponseFormat(Person, 'person'),
  messages: [{ role: 'user', content: 'Return JSON with keys name and age for Anna, 31.' }],
});
assert.deepEqual(parsed.choices[0].message.parsed, { name: 'Anna', age: 31 });
console.log('parse: ok');

