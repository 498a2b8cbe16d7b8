// Reads events from Redis pub/sub, and checks each by its schema, without any package.
//
//   node consumer.mjs redis://localhost:6379 trade BTCUSDT [COUNT]
//
// A program of yours would use a client library for Redis. What matters here is the event: prices
// and volumes are decimal numbers as text. A JavaScript number would lose digits, a BigInt does not.
// Times in microseconds and ids are below 2^53, so a number holds them exactly.

import { readFileSync } from "node:fs";
import { connect } from "node:net";

const SCALE = 18; // digits after the point of the sums

const [url, messageType, symbol, count = "Infinity"] = process.argv.slice(2);
if (!symbol) {
  console.error("usage: consumer.mjs redis://HOST:PORT MESSAGE_TYPE SYMBOL [COUNT]");
  process.exit(2);
}
const schemaFile = new URL(`../../schemas/${messageType}.json`, import.meta.url);
const schema = JSON.parse(readFileSync(schemaFile, "utf8"));

/** Returns what is wrong with a value, or undefined. Knows the keywords that the schemas use. */
function fault(value, { type, const: only, enum: values, pattern, anyOf, ...rest }, path = "") {
  if (anyOf) {
    const faults = anyOf.map((each) => fault(value, each, path));
    return faults.includes(undefined) ? undefined : faults[0];
  }
  const found = value === null ? "null" : Array.isArray(value) ? "array" : typeof value;
  const is = found === "number" && Number.isInteger(value) ? "integer" : found;
  if (type && type !== is && !(type === "number" && is === "integer")) return `${path} is ${is}`;
  if (only !== undefined && value !== only) return `${path} is not ${only}`;
  if (values && !values.includes(value)) return `${path} is none of ${values}`;
  if (pattern && !new RegExp(pattern).test(value)) return `${path} does not match ${pattern}`;
  for (const name of rest.required ?? []) {
    if (!(name in value)) return `${path}/${name} is missing`;
  }
  for (const [name, of] of Object.entries(rest.properties ?? {})) {
    const wrong = name in value && fault(value[name], of, `${path}/${name}`);
    if (wrong) return wrong;
  }
  for (const [place, item] of Array.isArray(value) ? value.entries() : []) {
    const wrong = fault(item, rest.prefixItems?.[place] ?? rest.items ?? {}, `${path}/${place}`);
    if (wrong) return wrong;
  }
}

/** Returns a decimal number as a BigInt of 10^-SCALE. */
function exact(text) {
  const [whole, fraction = ""] = text.split(".");
  return BigInt(whole + fraction.padEnd(SCALE, "0").slice(0, SCALE));
}

function decimal(value) {
  const digits = String(value).padStart(SCALE + 1, "0");
  return `${digits.slice(0, -SCALE)}.${digits.slice(-SCALE)}`.replace(/\.?0+$/, "");
}

const seen = { events: 0, invalid: 0, missing: 0, volume: 0n };
let lastId;

function take(event) {
  seen.events += 1;
  const wrong = fault(event, schema);
  if (wrong) {
    seen.invalid += 1;
    console.error(`not a ${messageType}: ${wrong}`);
    return;
  }
  seen.volume += "volume" in event ? exact(event.volume) : 0n;
  const id = { trade: event.trade_id, agg_trade: event.agg_trade_id }[messageType];
  if (lastId !== undefined && id > lastId + 1) seen.missing += id - lastId - 1;
  lastId = id;
  if (seen.events >= Number(count)) finish();
}

function finish() {
  console.log(JSON.stringify({ ...seen, volume: decimal(seen.volume) }));
  process.exit(seen.invalid ? 1 : 0);
}

/** Takes one complete answer of Redis from the buffer: its value and the rest, or undefined. */
function answer(buffer) {
  const end = buffer.indexOf("\r\n");
  if (end < 0) return;
  const kind = String.fromCharCode(buffer[0]);
  const head = buffer.toString("utf8", 1, end);
  let rest = buffer.subarray(end + 2);
  if (kind === "$") {
    const length = Number(head);
    if (rest.length < length + 2) return;
    return [rest.toString("utf8", 0, length), rest.subarray(length + 2)];
  }
  if (kind !== "*") return [kind === "-" ? new Error(head) : head, rest];
  const items = [];
  for (let number = 0; number < Number(head); number += 1) {
    const item = answer(rest);
    if (!item) return;
    items.push(item[0]);
    rest = item[1];
  }
  return [items, rest];
}

const { hostname, port } = new URL(url);
const socket = connect(Number(port || 6379), hostname);
let buffer = Buffer.alloc(0);
socket.on("connect", () => socket.write(`SUBSCRIBE binance.spot.${messageType}:${symbol}\r\n`));
socket.on("error", (error) => {
  console.error(`${url}: ${error.message}`);
  process.exit(1);
});
socket.on("end", () => {
  console.error(`${url}: the connection was closed`);
  process.exit(1);
});
socket.on("data", (data) => {
  buffer = Buffer.concat([buffer, data]);
  for (let next = answer(buffer); next; next = answer(buffer)) {
    buffer = next[1];
    if (next[0] instanceof Error) throw next[0];
    const [kind, , payload] = next[0];
    if (kind === "subscribe") console.error(`subscribed to ${messageType} of ${symbol}`);
    else if (kind === "message") take(JSON.parse(payload));
  }
});
process.on("SIGINT", finish);
