// A counter: anybody counts, its owner sets it back.

import { Env, Info, Item, Json, Response, Writer, unknown } from "./kit";

// What is stored: functions make these, since nothing of a contract runs before it is
// called.
function count(): Item<u64> {
  return new Item<u64>("count");
}

function owner(): Item<string> {
  return new Item<string>("owner");
}

// instantiate takes {"count": 5}.
export function instantiate(_env: Env, info: Info, msg: Json): Response {
  info.noFunds();
  const start = msg.field("count").u64();
  msg.done();
  count().save(start);
  owner().save(info.sender);
  return new Response().attribute("action", "instantiate");
}

// execute takes {"increment": {}} and {"reset": {"count": 5}}.
export function execute(_env: Env, info: Info, msg: Json): Response {
  info.noFunds();
  const m = msg.variant();
  if (m.named("increment")) return increment(m);
  if (m.named("reset")) return reset(info, m);
  throw new Error(unknown(m));
}

function increment(m: Json): Response {
  m.done();
  const n = count().load();
  if (n == u64.MAX_VALUE) throw new Error("the counter is full");
  count().save(n + 1);
  return new Response().attribute("action", "increment");
}

function reset(info: Info, m: Json): Response {
  const to = m.field("count").u64();
  m.done();
  if (owner().load() != info.sender) throw new Error("only the owner may");
  count().save(to);
  return new Response().attribute("action", "reset");
}

// query takes {"count": {}} and answers {"count": 5}.
export function query(_env: Env, msg: Json): Writer {
  const m = msg.variant();
  if (!m.named("count")) throw new Error(unknown(m));
  m.done();
  return new Writer().object().field("count").u64(count().load()).end();
}
