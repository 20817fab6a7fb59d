// What the escrow answers.

import { Env, Json, U128, Writer, unknown } from "./kit";
import { deals, dealsOf, held, milestones } from "./state";

const usual: u32 = 10;
const most: u32 = 100;

export function query(_env: Env, msg: Json): Writer {
  const m = msg.variant();
  const w = new Writer().object();
  if (m.named("deal")) deal(m, w);
  else if (m.named("deals")) dealsOfParty(m, w);
  else if (m.named("held")) heldOf(m, w);
  else throw new Error(unknown(m));
  return w.end();
}

function deal(m: Json, w: Writer): void {
  const id = m.field("deal").u64();
  m.done();
  const d = deals().load(id);
  d.fields(w);
  w.field("milestones").list();
  for (let i: u32 = 0; i < d.count; i++) milestones(id).load(i).write(w);
  w.end();
}

function dealsOfParty(m: Json, w: Writer): void {
  const all = dealsOf(m.field("party").text());
  const after = m.maybe("start_after");
  const limit = m.maybe("limit");
  m.done();
  let n = limit === null ? usual : limit.u32();
  if (n > most) n = most;
  const entries = after === null ? all.up() : all.upAfter(after.u64());
  w.field("deals").list();
  for (; n > 0 && entries.next(); n--) w.u64(entries.key());
  w.end();
}

function heldOf(m: Json, w: Writer): void {
  const denom = m.field("denom").text();
  m.done();
  w.field("amount").u128(held().or(denom, new U128()));
}
