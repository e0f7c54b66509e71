// Checks texts (grammar_driver's lines) against their schemas with ajv: each parses and validates.
//
//   node grammar_check.mjs SCHEMAS TEXTS
import { readFileSync } from "node:fs";
import Ajv from "ajv/dist/2020.js";
import addFormats from "ajv-formats";

const lines = (path) => readFileSync(path, "utf8").split("\n").filter(Boolean);
const schemas = lines(process.argv[2]).map((line) => line.split("\t"));
let texts = 0, failed = 0;
const fail = (what, number, text) => {
  if (++failed <= 10) console.log(`${what}: schema ${number} ${schemas[number][0]}\n    ${text}`);
};

const validators = schemas.map(([text, ...documents], number) => {
  const ajv = new Ajv.default({ strict: false, logger: false });
  addFormats.default(ajv);
  const validate = ajv.compile(JSON.parse(text));
  for (const document of documents)
    if (!validate(JSON.parse(document))) fail("the test's own document does not validate", number, document);
  return validate;
});
for (const line of lines(process.argv[3])) {
  const [number, way, quoted] = line.split("\t");
  const text = JSON.parse(quoted);
  texts++;
  if (way === "refused") {
    fail("refused", number, text);
    continue;
  }
  let value;
  try {
    value = JSON.parse(text);
  } catch (error) {
    fail(`${way}: ${error.message}`, number, text);
    continue;
  }
  const validate = validators[number];
  if (!validate(value)) fail(`${way}: ${validate.errors[0].instancePath} ${validate.errors[0].message}`, number, text);
}
console.log(`${schemas.length} schemas, ${texts} texts, ${failed} failed`);
process.exit(failed || texts < schemas.length ? 1 : 0);
