// Random JSON Schemas with valid documents of each: lines of them, parted by tabs.
//
//   node grammar_schemas.mjs COUNT [SEED]
const count = Number(process.argv[2] ?? 1000);
let state = Number(process.argv[3] ?? 1) >>> 0;

function random() { // mulberry32
  state = (state + 0x6d2b79f5) >>> 0;
  let t = state;
  t = Math.imul(t ^ (t >>> 15), t | 1);
  t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
}
const below = (n) => Math.floor(random() * n);
const pick = (list) => list[below(list.length)];
const chance = (p) => random() < p;
const times = (n, f) => Array.from({ length: n }, (_, i) => f(i));

const characters = [..."abcXYZ019 _-.,:{}[]\"\\/\n\t\u0001éß€日本😀\u007f"];
const text = (n) => times(n, () => pick(characters)).join("");
const letters = (n, set = "abcdefgh") => times(n, () => pick([...set])).join("");

// Each pattern with a maker of texts that match it.
const patterns = [
  ["^[a-z]+$", () => letters(1 + below(6))],
  ["^\\d{3}-\\d{4}$", () => `${letters(3, "0123456789")}-${letters(4, "0123456789")}`],
  ["ab|cd", () => text(below(4)) + pick(["ab", "cd"]) + text(below(4))],
  ["^(foo|ba[rz])(,(foo|ba[rz]))*$", () => times(1 + below(4), () => pick(["foo", "bar", "baz"])).join(",")],
  ["^[^\\s]{2,5}$", () => letters(2 + below(4), "ab\"\\é€😀")],
  ["^.*$", () => text(below(8)).replace(/[\n\r]/g, "")],
  ["\\.(png|jpe?g)$", () => text(below(5)) + pick([".png", ".jpg", ".jpeg"])],
  ["^#[0-9a-fA-F]{6}$", () => "#" + letters(6, "0123456789abcdefABCDEF")],
  ["^\\w+(\\.\\w+)?$", () => letters(3) + (chance(0.5) ? "." + letters(2) : "")],
  ["^[\\u00e0-\\u00ff\\u4e00-\\u9fff]*$", () => letters(below(5), "éàÿ日本")],
  ["^[\\u{1F600}-\\u{1F64F}]+$", () => times(1 + below(4), () => String.fromCodePoint(0x1f600 + below(80))).join("")],
  ["^(?:[\"\\\\]|\\n)+$", () => letters(1 + below(5), "\"\\\n")],
  ["x$|^y", () => (chance(0.5) ? text(below(3)) + "x" : "y" + text(below(3)))],
];

// A random expression with a maker of texts that it matches, nested up to a depth.
function expression(depth) {
  const kind = depth > 0 ? below(9) : below(4);
  if (kind === 0) {
    const c = pick([..."abxyz09 ,é日😀\"-_"]);
    return [c, () => c];
  }
  if (kind === 1) {
    const c = pick([..."^$\\.*+?()[]{}|/"]);
    return ["\\" + c, () => c];
  }
  if (kind === 2) return pick([["\\d", () => letters(1, "0123456789")], ["\\w", () => letters(1, "aZ_5")], ["\\s", () => pick([" ", "\t", "\u3000"])], [".", () => pick(["q", "€", "\u0085"])], ["\\D", () => pick(["x", "日"])], ["\\W", () => pick(["-", "é"])], ["\\S", () => pick(["~", "ÿ"])]]);
  if (kind === 3) return pick([["[a-f0-9]", () => letters(1, "abf059")], ["[^a-y]", () => pick(["z", "0", "\n", "😀"])], ["[\\w.-]", () => pick(["a", ".", "-"])], ["[é-ü\u4e00-\u9fff]", () => pick(["é", "日"])], ["[\\]\\\\^]", () => pick(["]", "\\", "^"])], ["[^\\s\"]", () => "k"], ["[\\x41-\\u0043]", () => letters(1, "ABC")]]);
  if (kind < 6) {
    const parts = times(1 + below(4), () => expression(depth - 1));
    return [parts.map(([e]) => e).join(""), () => parts.map(([, m]) => m()).join("")];
  }
  if (kind === 6) {
    const parts = times(1 + below(3), () => expression(depth - 1));
    return [pick(["(", "(?:", "(?<n" + below(1e9) + ">"]) + parts.map(([e]) => e).join("|") + ")", () => pick(parts)[1]()];
  }
  const [inner, make] = expression(depth - 1);
  const least = below(3), most = least + below(3);
  const [how, low, high] = pick([["*", 0, 3], ["+", 1, 3], ["?", 0, 1], [`{${most}}`, most, most], [`{${least},}`, least, least + 2], [`{${least},${most}}`, least, most], ["*?", 0, 2]]);
  return [`(?:${inner})${how}`, () => times(low + below(high - low + 1), make).join("")];
}

function randomPattern() {
  const [inner, make] = expression(3);
  const [head, tail] = pick([["^", "$"], ["^", ""], ["", "$"], ["", ""]]);
  return [`${head}(?:${inner})${tail}`, () => (head ? "" : text(below(3))) + make() + (tail ? "" : text(below(3)))];
}

const two = (n) => String(n).padStart(2, "0");
const date = () => `${2000 + below(50)}-${two(1 + below(12))}-${two(1 + below(28))}`;
const time = () => `${two(below(24))}:${two(below(60))}:${two(below(60))}${pick(["Z", "+02:00", ".25Z", "-11:30"])}`;
const formats = {
  date,
  time,
  "date-time": () => `${date()}T${time()}`,
  uuid: () => [8, 4, 4, 4, 12].map((n) => letters(n, "0123456789abcdef")).join("-"),
  email: () => `${letters(4)}.${letters(2)}@${letters(5)}.example.org`,
  ipv4: () => times(4, () => below(256)).join("."),
};

// Each maker returns [schema, maker of valid documents].
function string() {
  const kind = below(6);
  if (kind === 0) return [{ type: "string" }, () => text(below(10))];
  if (kind === 1) {
    const least = below(6), most = least + below(8);
    const bounds = pick([{ minLength: least }, { maxLength: most }, { minLength: least, maxLength: most }]);
    return [{ type: "string", ...bounds }, () => text(least + below(most - least + 1))];
  }
  if (kind === 2) {
    const [pattern, make] = chance(0.4) ? pick(patterns) : randomPattern();
    return [{ type: "string", pattern }, make];
  }
  if (kind === 3) {
    // Lengths around what the pattern can make; the sample says what they are.
    const [pattern, make] = chance(0.4) ? pick(patterns) : randomPattern();
    const sample = make(), length = [...sample].length;
    return [{ type: "string", pattern, minLength: Math.max(0, length - below(3)), maxLength: length + below(4) }, () => sample];
  }
  if (kind === 4) {
    const format = pick(Object.keys(formats));
    return [{ type: "string", format }, formats[format]];
  }
  const values = [...new Set(times(1 + below(5), () => text(below(6))))];
  return [{ type: "string", enum: values }, () => pick(values)];
}

function integer() {
  const low = chance(0.5) ? Math.floor((random() - 0.5) * 10 ** below(12)) : pick([0, 1, -1, 10, -37, 99, 1000, -123456, 2 ** 40]);
  const high = low + pick([0, 1, 5, 90, 900, 12345, 1e9]);
  const kind = below(6);
  if (kind === 0) return [{ type: "integer" }, () => below(2000) - 1000];
  if (kind === 1) return [{ type: "integer", minimum: low }, () => low + below(1000)];
  if (kind === 2) return [{ type: "integer", maximum: high }, () => high - below(1000)];
  const within = () => low + Math.floor(random() * (high - low + 1));
  if (kind === 3) return [{ type: "integer", exclusiveMinimum: low - 1, exclusiveMaximum: high + 1 }, within];
  if (kind === 4) return [{ type: "integer", minimum: low - 0.5, maximum: high + 0.25 }, within];
  return [{ type: "integer", minimum: low, maximum: high }, within];
}

function number() {
  const some = Number(((random() - 0.5) * 10 ** below(7)).toFixed(below(6)));
  const low = chance(0.5) ? some : pick([0, 0.5, -0.25, 1e-3, -12.75, 100, -3, 0.1]);
  const high = low + pick([0.5, 1, 10, 0.125, 1000]);
  const within = () => Number(Math.min(Math.max(low + random() * (high - low), low + 1e-5), high - 1e-5).toFixed(6));
  const kind = below(5);
  if (kind === 0) return [{ type: "number" }, () => pick([0, 1.5, -2e-7, 1e21, 123456.789, 0.1 + 0.2, -1])];
  if (kind === 1) return [{ type: "number", minimum: low }, within];
  if (kind === 2) return [{ type: "number", maximum: high }, within];
  if (kind === 3) return [{ type: "number", exclusiveMinimum: low, exclusiveMaximum: high }, within];
  return [{ type: "number", minimum: low, maximum: high }, () => (chance(0.3) ? pick([low, high]) : within())];
}

const free = () => pick([null, true, 0, -1.5, "a\"b", [], [1, "x"], {}, { k: [{}] }]);

function array(depth, refs) {
  const [items, make] = schema(depth - 1, refs);
  const least = below(3), most = least + below(4);
  const kind = below(4);
  if (kind === 0) return [{ type: "array", items }, () => times(below(4), make)];
  if (kind === 1) return [{ type: "array", items, minItems: least }, () => times(least + below(3), make)];
  if (kind === 2) return [{ type: "array", items, maxItems: most }, () => times(below(most + 1), make)];
  return [{ type: "array", items, minItems: least, maxItems: most }, () => times(least + below(most - least + 1), make)];
}

const names = ["name", "na", "n", "id", "value", "it's", "a b", "é", "quote\"d", "back\\slash", "tab\t", "日", "type", ""];

function object(depth, refs) {
  const kind = below(5);
  const keys = [...new Set(times(below(5), () => pick(names)))];
  const members = keys.map((key) => [key, ...schema(depth - 1, refs)]);
  const required = kind === 0 ? keys : keys.filter(() => chance(0.5));
  const properties = Object.fromEntries(members.map(([key, s]) => [key, s]));
  const s = { type: "object", properties, required };
  let others = () => ({});
  if (kind === 0 || kind === 1) s.additionalProperties = false;
  if (kind === 2) {
    const [extra, make] = schema(0, refs);
    s.additionalProperties = extra;
    others = () => Object.fromEntries(times(below(3), (i) => ["other" + i, make()]));
  }
  if (kind === 3) {
    s.additionalProperties = true;
    others = () => Object.fromEntries(times(below(3), (i) => ["x" + i, free()]));
  }
  const make = () => ({
    ...Object.fromEntries(members.filter(([key]) => required.includes(key) || chance(0.5)).map(([key, , m]) => [key, m()])),
    ...others(),
  });
  return [s, make];
}

function any(depth, refs) {
  const branches = times(1 + below(4), () => schema(depth - 1, refs));
  return [{ anyOf: branches.map(([s]) => s) }, () => pick(branches)[1]()];
}

// Items one by one, then more of one kind, none, or any.
function tuple(depth, refs) {
  const parts = times(1 + below(3), () => schema(depth - 1, refs));
  const s = { type: "array", prefixItems: parts.map(([p]) => p) };
  const first = () => parts.map(([, m]) => m());
  const kind = below(4);
  if (kind === 0) return [{ ...s, items: false, minItems: parts.length }, first];
  if (kind === 1) return [{ ...s, items: false }, () => first().slice(0, below(parts.length + 1))];
  if (kind === 2) return [s, () => (chance(0.5) ? [...first(), free()] : first().slice(0, below(parts.length + 1)))];
  const [items, make] = schema(depth - 1, refs), most = parts.length + below(3), least = below(most + 1);
  return [{ ...s, items, minItems: least, maxItems: most },
    () => [...first(), ...times(2, make)].slice(0, least + below(most - least + 1))];
}

// Exactly one: told apart by a member, by type, by values.
function one(depth, refs) {
  const kind = below(3);
  if (kind === 0) {
    const tag = pick(names), kinds = [...new Set(times(1 + below(4), () => pick(["a", "ab", "b", 1, null])))];
    const branches = kinds.map((k) => {
      const [s, make] = object(depth, refs);
      const { [tag]: gone, ...properties } = s.properties;
      const rest = (o) => Object.fromEntries(Object.entries(o).filter(([key]) => key !== tag));
      return [{ ...s, properties: { [tag]: chance(0.5) ? { const: k } : { enum: [k] }, ...properties }, required: [...new Set([tag, ...s.required])] },
        () => ({ [tag]: k, ...rest(make()) })];
    });
    return [{ oneOf: branches.map(([s]) => s), ...(chance(0.3) ? { discriminator: { propertyName: tag } } : {}) }, () => pick(branches)[1]()];
  }
  if (kind === 1) {
    const branches = [string, integer, array, object, () => [{ type: "null" }, () => null], () => [{ const: true }, () => true]]
      .filter(() => chance(0.6)).map((f) => f(depth, refs));
    if (!branches.length) return string();
    return [{ oneOf: branches.map(([s]) => s) }, () => pick(branches)[1]()];
  }
  return [{ oneOf: [{ enum: ["a", 1] }, { const: "b" }, { enum: [null, 2, {}] }] }, () => pick(["a", 1, "b", null, 2, {}])];
}

// One schema taken apart, its parts to hold together, and beside them what says no more.
function all(depth, refs) {
  const [s, make] = pick([() => object(depth, refs), string, integer, number, () => array(depth, refs)])();
  const { type, ...rest } = s;
  if (type !== "object") {
    const parts = Object.entries(rest).map(([key, value]) => (chance(0.5) ? { type, [key]: value } : { [key]: value }));
    return [{ ...(chance(0.5) ? { type } : {}), allOf: [{ type }, ...parts, ...(chance(0.3) ? parts.slice(0, 1) : [])] }, make];
  }
  const { properties, required, ...others } = s;
  const half = Object.keys(properties).filter(() => chance(0.5));
  const only = (o, keep) => Object.fromEntries(Object.entries(o).filter(([key]) => half.includes(key) === keep));
  const closed = others.additionalProperties !== undefined;
  // A part that forbids or restricts other members names them all.
  const first = closed ? { type, properties, ...others } : { type, properties: only(properties, true) };
  const second = { properties: only(properties, false), required };
  if (others.additionalProperties === undefined && !Object.keys(second.properties).length) delete second.properties;
  if (closed && !Object.keys(second.properties).length) delete second.properties;
  if (others.additionalProperties !== undefined && others.additionalProperties !== false && second.properties)
    second.additionalProperties = true;
  const order = [...Object.keys(first.properties), ...Object.keys(properties)];
  const ordered = () => {
    const o = make();
    return Object.fromEntries([...new Set([...order, ...Object.keys(o)])].filter((key) => Object.hasOwn(o, key)).map((key) => [key, o[key]]));
  };
  return [chance(0.5) ? { allOf: [first, second] } : { ...second, allOf: [first, true] }, ordered];
}

// Leaves as a rule; with depth left, containers; and what the definitions hold.
function schema(depth, refs) {
  if (refs.length && chance(0.2)) return pick(refs);
  if (depth > 0 && chance(0.65)) return pick([array, tuple, object, object, any, one, all])(depth, refs);
  const literal = free();
  return pick([
    string, string, integer, number,
    () => [{ type: "boolean" }, () => chance(0.5)],
    () => [{ type: "null" }, () => null],
    () => [{ const: literal }, () => literal],
    () => [{ enum: [literal, 1, "one"] }, () => pick([literal, 1, "one"])],
    () => [{ type: ["string", "null", "integer"], maxLength: 5 }, () => pick([null, 7, "abc"])],
    () => [{ type: "object" }, () => pick([{}, { a: free() }])],
    () => [{}, free],
    () => [true, free],
  ])();
}

// A list, a tree or a pair of definitions that refer to each other.
function recursive() {
  const [leaf, make] = schema(0, []);
  const kind = below(3);
  if (kind === 0) {
    const tree = (deep) => ({ value: make(), children: deep ? times(below(3), () => tree(deep - 1)) : [] });
    return [{ tree: { type: "object", properties: { value: leaf, children: { type: "array", items: { $ref: "#/$defs/tree" } } }, required: ["value", "children"], additionalProperties: false } },
      [[{ $ref: "#/$defs/tree" }, () => tree(2)]]];
  }
  if (kind === 1) {
    const list = (deep) => (deep ? { head: make(), tail: list(deep - 1) } : null);
    return [{ list: { anyOf: [{ type: "null" }, { type: "object", properties: { head: leaf, tail: { $ref: "#/$defs/list" } }, required: ["head", "tail"] }] } },
      [[{ $ref: "#/$defs/list" }, () => list(below(4))]]];
  }
  const even = (deep) => (deep ? [odd(deep - 1)] : []), odd = (deep) => ({ of: even(Math.max(0, deep - 1)) });
  return [{ even: { type: "array", items: { $ref: "#/$defs/odd" } }, odd: { type: "object", properties: { of: { $ref: "#/$defs/even" } }, required: ["of"] } },
    [[{ $ref: "#/$defs/even" }, () => even(3)], [{ $ref: "#/$defs/odd" }, () => odd(3)]]];
}

for (let i = 0; i < count; i++) {
  const [$defs, refs] = chance(0.3) ? recursive() : [null, []];
  let [s, make] = schema(3, refs);
  if (typeof s === "boolean") s = {};
  if ($defs) s = s.$ref ? { anyOf: [s], $defs } : { ...s, $defs };
  const documents = times(3, () => JSON.stringify(make()));
  process.stdout.write([JSON.stringify(s), ...documents].join("\t") + "\n");
}
