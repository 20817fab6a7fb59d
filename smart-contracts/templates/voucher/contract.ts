// Vouchers: promises of goods or work that are sold, split, exchanged and redeemed part by part,
// with the money that was paid for them held until what they promise is delivered.

import { Env, Expires, Info, Json, Response, U128, address, unknown, version } from "./kit";
import { Terms, Voucher, denom, held, maxArbiters, numbered, offers, terms, vouchers } from "./state";
import { add, done, free, hand, letters, pay, take, unlist, use } from "./vouchers";
import * as redeeming from "./redeeming";
import * as sales from "./sales";
export { query } from "./queries";

const minPeriod: u64 = 60; // seconds
const maxPeriod: u64 = 10 * 366 * 86400;

export function instantiate(_env: Env, info: Info, msg: Json): Response {
  info.noFunds();
  const money = msg.field("denom").text();
  msg.done();
  if (money.length == 0) throw new Error("no denom");
  version("hypermesh:voucher", "1.0.0");
  denom().save(money);
  held().save(new U128());
  return new Response();
}

export function execute(env: Env, info: Info, msg: Json): Response {
  const m = msg.variant();
  if (m.named("mint")) return mint(env, info, m);
  if (m.named("buy")) return sales.buy(env, info, m);
  if (m.named("offer")) return sales.offer(env, info, m);
  info.noFunds();
  if (m.named("list")) return sales.list(env, info, m);
  if (m.named("unlist")) return sales.withdrawListing(info, m);
  if (m.named("withdraw")) return sales.withdraw(info, m);
  if (m.named("accept")) return sales.accept(env, info, m);
  if (m.named("transfer")) return transfer(env, info, m);
  if (m.named("split")) return split(env, info, m);
  if (m.named("expire")) return expire(env, m);
  if (m.named("redeem")) return redeeming.redeem(env, info, m);
  if (m.named("confirm")) return redeeming.confirm(env, info, m);
  if (m.named("give_back")) return redeeming.giveBack(info, m);
  if (m.named("dispute")) return redeeming.dispute(env, info, m);
  if (m.named("vote")) return redeeming.vote(info, m);
  if (m.named("settle")) return redeeming.settle(env, info, m);
  throw new Error(unknown(m));
}

function period(json: Json): u64 {
  const n = json.u64();
  if (n < minPeriod || n > maxPeriod) throw new Error("a period has 60 seconds to 10 years");
  return n;
}

// court reads the arbiters: an odd number of them, so that they come to an end, or none.
function court(t: Terms, list: Json): void {
  let one = list.head();
  while (one !== null) {
    const who = address(one.text());
    if (t.arbiters.length == maxArbiters) throw new Error("at most 7 arbiters");
    if (t.arbiters.includes(who)) throw new Error("an arbiter twice");
    if (who == t.issuer) throw new Error("the issuer is no arbiter");
    t.arbiters.push(who);
    one = one.tail();
  }
  if (t.arbiters.length != 0 && t.arbiters.length % 2 == 0) throw new Error("an even number of arbiters");
}

function mint(env: Env, info: Info, m: Json): Response {
  const t = new Terms();
  t.issuer = info.sender;
  t.unit = letters(m.field("unit"));
  t.text = letters(m.field("text"));
  t.refundable = m.field("refundable").bool();
  court(t, m.field("arbiters"));
  t.confirm = period(m.field("confirm_seconds"));
  t.arbitration = period(m.field("arbitration_seconds"));
  const v = new Voucher();
  v.issuer = info.sender;
  v.owner = info.sender;
  v.units = m.field("units").u128();
  v.expires = Expires.from(m.maybe("expires"));
  m.done();
  if (v.units.isZero()) throw new Error("no units");
  if (v.expires.passed(env)) throw new Error("it would be over already");
  v.backing = take(info);
  v.terms = numbered("terms");
  terms().save(v.terms, t);
  const id = add(env, v, "mint");
  return done("mint", "voucher", id).attribute("issuer", v.issuer).attribute("units", v.units.toString());
}

function transfer(env: Env, info: Info, m: Json): Response {
  const id = m.field("voucher").u64();
  const to = address(m.field("recipient").text());
  m.done();
  hand(env, id, free(env, id, info.sender), to, "transfer");
  return done("transfer", "voucher", id).attribute("recipient", to);
}

// split makes of some units a voucher of their own, with their part of the money.
function split(env: Env, info: Info, m: Json): Response {
  const id = m.field("voucher").u64();
  const units = m.field("units").u128();
  m.done();
  const v = free(env, id, info.sender);
  if (units >= v.units) throw new Error("a part is less than all");
  const part = new Voucher();
  part.issuer = v.issuer;
  part.owner = v.owner;
  part.terms = v.terms;
  part.units = units;
  part.expires = v.expires;
  part.parent = id;
  part.backing = use(id, v, units);
  const made = add(env, part, "split");
  return done("split", "voucher", id).attribute("part", made.toString()).attribute("units", units.toString());
}

// expire ends a voucher that is over, and pays its money to whom the terms say. Anybody may.
function expire(env: Env, m: Json): Response {
  const id = m.field("voucher").u64();
  m.done();
  const v = vouchers().load(id);
  if (v.units.isZero()) throw new Error("the voucher is used up");
  if (!v.expires.passed(env)) throw new Error("the voucher is not over yet");
  const r = done("expire", "voucher", id);
  if (v.listed()) unlist(id, v);
  const amount = use(id, v, v.units);
  if (!amount.isZero()) pay(r, terms().load(v.terms).refundable ? v.owner : v.issuer, amount);
  return r.attribute("amount", amount.toString());
}
