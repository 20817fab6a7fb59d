// What the vouchers' contract answers.

import { Entries, Env, Json, Map, Writer, unknown } from "./kit";
import { denom, held, history, listed, offers, offersFor, owned, redemptions, redemptionsOf, terms, vouchers } from "./state";

export function query(_env: Env, msg: Json): Writer {
  const m = msg.variant();
  const w = new Writer();
  if (m.named("voucher")) voucher(m, w);
  else if (m.named("terms")) terms().load(one(m, "terms")).write(w);
  else if (m.named("offer")) offers().load(one(m, "offer")).write(w);
  else if (m.named("redemption")) redemptions().load(one(m, "redemption")).write(w);
  else if (m.named("vouchers")) numbers(m, "vouchers", owned(m.field("owner").text()), w);
  else if (m.named("listed")) numbers(m, "vouchers", listed(), w);
  else if (m.named("offers")) numbers(m, "offers", offersFor(m.field("voucher").u64()), w);
  else if (m.named("redemptions")) numbers(m, "redemptions", redemptionsOf(m.field("party").text()), w);
  else if (m.named("history")) past(m, w);
  else if (m.named("held")) money(m, w);
  else throw new Error(unknown(m));
  return w;
}

function one(m: Json, name: string): u64 {
  const id = m.field(name).u64();
  m.done();
  return id;
}

function voucher(m: Json, w: Writer): void {
  vouchers().load(one(m, "voucher")).write(w);
}

const usual: u32 = 10;
const most: u32 = 100;

function limit(m: Json): u32 {
  const n = m.maybe("limit");
  if (n === null) return usual;
  const asked = n.u32();
  return asked < most ? asked : most;
}

// page begins a walk behind the last entry of the page before.
function page<V>(m: Json, all: Map<u64, V>): Entries<u64, V> {
  const after = m.maybe("start_after");
  return after === null ? all.up() : all.upAfter(after.u64());
}

function numbers(m: Json, name: string, all: Map<u64, bool>, w: Writer): void {
  const entries = page<bool>(m, all);
  let n = limit(m);
  m.done();
  w.object().field(name).list();
  for (; n > 0 && entries.next(); n--) w.u64(entries.key());
  w.end().end();
}

function past(m: Json, w: Writer): void {
  const entries = page(m, history(m.field("voucher").u64()));
  let n = limit(m);
  m.done();
  w.object().field("owners").list();
  for (; n > 0 && entries.next(); n--) entries.value().write(w);
  w.end().end();
}

function money(m: Json, w: Writer): void {
  m.done();
  w.object().field("denom").text(denom().load()).field("amount").u128(held().load()).end();
}
