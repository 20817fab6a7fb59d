// What is done with vouchers and their money, for all that is agreed about them.

import { Bank, Coins, Env, Info, Json, Response, U128 } from "./kit";
import { Entry, Voucher, denom, held, history, listed, numbered, owned, vouchers } from "./state";

const maxLetters = 1024;

// letters reads a text of people.
export function letters(json: Json): string {
  const text = json.text();
  if (text.length > maxLetters) throw new Error("a text is too long");
  return text;
}

export function done(action: string, what: string, id: u64): Response {
  return new Response().attribute("action", action).attribute(what, id.toString());
}

// take returns the cash that was sent, which is held from now on.
export function take(info: Info): U128 {
  const cash = info.funds().only(denom().load());
  held().save(held().load() + cash);
  return cash;
}

// pay sends cash that was held.
export function pay(r: Response, to: string, amount: U128): void {
  if (amount.isZero()) return;
  held().save(held().load() - amount);
  r.message(Bank.send(to, Coins.of(amount, denom().load())));
}

// good returns a voucher that has units left and is not over.
export function good(env: Env, id: u64): Voucher {
  const v = vouchers().load(id);
  if (v.units.isZero()) throw new Error("the voucher is used up");
  if (v.expires.passed(env)) throw new Error("the voucher is over");
  return v;
}

// free returns a good voucher of somebody that is neither for sale nor in an offer.
export function free(env: Env, id: u64, owner: string): Voucher {
  const v = good(env, id);
  if (v.owner != owner) throw new Error("only the owner may");
  if (v.listed()) throw new Error("the voucher is for sale");
  if (v.offer != 0) throw new Error("the voucher is in an offer");
  return v;
}

// add keeps a new voucher, and returns its number.
export function add(env: Env, v: Voucher, how: string): u64 {
  const id = numbered("voucher");
  owned(v.owner).save(id, true);
  enter(env, id, v, how, new U128());
  return id;
}

function enter(env: Env, id: u64, v: Voucher, how: string, price: U128): void {
  history(id).save(v.entries++, new Entry(v.owner, how, env.seconds(), price));
  vouchers().save(id, v);
}

// hand gives a voucher to another owner.
export function hand(env: Env, id: u64, v: Voucher, to: string, how: string, price: U128 = new U128()): void {
  owned(v.owner).remove(id);
  v.owner = to;
  unlist(id, v);
  v.offer = 0;
  owned(to).save(id, true);
  enter(env, id, v, how, price);
}

// unlist ends a sale. The voucher is not kept by it.
export function unlist(id: u64, v: Voucher): void {
  v.price = new U128();
  listed().remove(id);
}

// use takes units off a voucher, and the part of the backing that is theirs.
export function use(id: u64, v: Voucher, units: U128): U128 {
  if (units.isZero()) throw new Error("no units");
  if (units > v.units) throw new Error("more units than there are");
  const amount = v.backing.share(units, v.units);
  v.units = v.units - units;
  v.backing = v.backing - amount;
  if (v.units.isZero()) owned(v.owner).remove(id);
  vouchers().save(id, v);
  return amount;
}
