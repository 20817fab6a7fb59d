// Calling in what vouchers promise, and what is done if holder and issuer cannot agree.

import { Env, Info, Json, Response, U128 } from "./kit";
import { Redemption, Terms, numbered, redemptions, redemptionsOf, terms, votes } from "./state";
import { done, free, letters, pay, use } from "./vouchers";

// redeem calls in some units. Their part of the money is held until the holder confirms, the time
// for that is over, or the arbiters decide.
export function redeem(env: Env, info: Info, m: Json): Response {
  const voucher = m.field("voucher").u64();
  const units = m.field("units").u128();
  const note = letters(m.field("note"));
  m.done();
  const v = free(env, voucher, info.sender);
  if (v.isDiscount()) throw new Error("a discount is used when something is bought");
  const c = new Redemption();
  c.voucher = voucher;
  c.terms = v.terms;
  c.holder = info.sender;
  c.issuer = v.issuer;
  c.units = units;
  c.amount = use(voucher, v, units);
  c.note = note;
  const id = numbered("redemption");
  redemptionsOf(c.holder).save(id, true);
  redemptionsOf(c.issuer).save(id, true);
  const r = done("redeem", "redemption", id).attribute("voucher", voucher.toString()).attribute("units", units.toString());
  if (c.amount.isZero() || c.holder == c.issuer) return end(r, id, c, "paid", new U128());
  return step(r, env, id, c, "claimed");
}

function step(r: Response, env: Env, id: u64, c: Redemption, stage: string): Response {
  c.stage = stage;
  c.since = env.seconds();
  redemptions().save(id, c);
  return r;
}

// end pays what the holder gets, and the rest to the issuer.
function end(r: Response, id: u64, c: Redemption, stage: string, holder: U128): Response {
  c.stage = stage;
  redemptions().save(id, c);
  pay(r, c.holder, holder);
  pay(r, c.issuer, c.amount - holder);
  return r.attribute("holder", holder.toString()).attribute("issuer", (c.amount - holder).toString());
}

// pending returns a redemption whose money is held.
function pending(id: u64): Redemption {
  const c = redemptions().load(id);
  if (c.stage != "claimed" && c.stage != "disputed") throw new Error("the redemption is " + c.stage);
  return c;
}

// only refuses redemptions that are at another stage.
function only(c: Redemption, stage: string): void {
  if (c.stage != stage) throw new Error("the redemption is " + c.stage);
}

function named(m: Json): u64 {
  const id = m.field("redemption").u64();
  m.done();
  return id;
}

// confirm pays the issuer: the holder may at any time, anybody when the holder was silent.
export function confirm(env: Env, info: Info, m: Json): Response {
  const id = named(m);
  const c = pending(id);
  if (c.holder != info.sender) {
    only(c, "claimed");
    if (env.seconds() < c.since + terms().load(c.terms).confirm) throw new Error("the holder may look at it still");
  }
  return end(done("confirm", "redemption", id), id, c, "paid", new U128());
}

// giveBack is the issuer's word that the money is the holder's.
export function giveBack(info: Info, m: Json): Response {
  const id = named(m);
  const c = pending(id);
  if (c.issuer != info.sender) throw new Error("only the issuer may");
  return end(done("give_back", "redemption", id), id, c, "returned", c.amount);
}

export function dispute(env: Env, info: Info, m: Json): Response {
  const id = m.field("redemption").u64();
  const reason = letters(m.field("reason"));
  m.done();
  const c = pending(id);
  const t = terms().load(c.terms);
  only(c, "claimed");
  if (c.holder != info.sender) throw new Error("only the holder may");
  if (env.seconds() >= c.since + t.confirm) throw new Error("the time to look at it is over");
  if (t.arbiters.length == 0) throw new Error("there are no arbiters");
  c.note = reason;
  return step(done("dispute", "redemption", id), env, id, c, "disputed");
}

function judges(t: Terms, who: string): bool {
  for (let i = 0; i < t.arbiters.length; i++) {
    if (t.arbiters[i] == who) return true;
  }
  return false;
}

// vote is what an arbiter says; more than half of all arbiters decide.
export function vote(info: Info, m: Json): Response {
  const id = m.field("redemption").u64();
  const holder = m.field("for_holder").bool();
  m.done();
  const c = pending(id);
  const t = terms().load(c.terms);
  only(c, "disputed");
  if (!judges(t, info.sender)) throw new Error("only an arbiter may");
  if (c.holder == info.sender) throw new Error("nobody judges for themselves");
  if (votes(id).has(info.sender)) throw new Error("the arbiter has voted");
  votes(id).save(info.sender, holder);
  if (holder) c.forHolder++;
  else c.forIssuer++;
  const r = done("vote", "redemption", id).attribute("for", holder ? "holder" : "issuer");
  if (c.forHolder * 2 > t.arbiters.length) return end(r, id, c, "decided", c.amount);
  if (c.forIssuer * 2 > t.arbiters.length) return end(r, id, c, "decided", new U128());
  redemptions().save(id, c);
  return r;
}

// settle ends a dispute for which the arbiters had their time: those who have voted decide, and if there
// is a tie, each side gets half.
export function settle(env: Env, info: Info, m: Json): Response {
  const id = named(m);
  const c = pending(id);
  only(c, "disputed");
  if (c.holder != info.sender && c.issuer != info.sender) throw new Error("only the holder or the issuer may");
  if (env.seconds() < c.since + terms().load(c.terms).arbitration) throw new Error("the arbiters have time still");
  let holder = c.amount - c.amount / U128.of(2);
  if (c.forHolder > c.forIssuer) holder = c.amount;
  if (c.forHolder < c.forIssuer) holder = new U128();
  return end(done("settle", "redemption", id), id, c, "decided", holder);
}
