// Vouchers for sale, and offers of cash and other vouchers for them.

import { Env, Expires, Info, Json, Response, U128 } from "./kit";
import { Offer, Part, Voucher, listed, numbered, offers, offersFor, vouchers } from "./state";
import { add, done, free, good, hand, pay, take, unlist, use } from "./vouchers";

const maxParts = 10; // vouchers in one offer

export function list(env: Env, info: Info, m: Json): Response {
  info.noFunds();
  const id = m.field("voucher").u64();
  const price = m.field("price").u128();
  const discount = Expires.from(m.maybe("discount_expires"));
  m.done();
  const v = free(env, id, info.sender);
  if (price.isZero()) throw new Error("a price of nothing");
  if (discount.passed(env)) throw new Error("the discount would be over already");
  v.price = price;
  v.listing++;
  v.discount = discount;
  vouchers().save(id, v);
  listed().save(id, true);
  return done("list", "voucher", id).attribute("price", price.toString());
}

export function withdrawListing(info: Info, m: Json): Response {
  info.noFunds();
  const id = m.field("voucher").u64();
  m.done();
  const v = vouchers().load(id);
  if (v.owner != info.sender) throw new Error("only the owner may");
  if (!v.listed()) throw new Error("the voucher is not for sale");
  unlist(id, v);
  vouchers().save(id, v);
  return done("unlist", "voucher", id);
}

// onSale returns a voucher that somebody else sells. A sale has a number, so that nobody buys what has
// become another thing since they looked: while it is for sale, nothing of a voucher changes.
function onSale(env: Env, o: Offer): Voucher {
  const v = good(env, o.voucher);
  if (!v.listed()) throw new Error("the voucher is not for sale");
  if (v.listing != o.listing) throw new Error("that sale is over");
  if (v.owner == o.buyer) throw new Error("it is the buyer's already");
  return v;
}

// wanted reads which voucher somebody wants, and of which sale.
function wanted(info: Info, m: Json): Offer {
  const o = new Offer();
  o.voucher = m.field("voucher").u64();
  o.listing = m.field("listing").u64();
  o.buyer = info.sender;
  return o;
}

// sell hands a voucher on. What an issuer is paid in cash stays in the voucher until it is
// redeemed; anybody else is paid at once.
function sell(env: Env, r: Response, id: u64, v: Voucher, o: Offer): void {
  if (v.owner == v.issuer && !v.isDiscount()) v.backing = v.backing + o.cash;
  else pay(r, v.owner, o.cash);
  hand(env, id, v, o.buyer, "sale", o.value);
}

// buy pays the price, in cash and in discounts of the seller.
export function buy(env: Env, info: Info, m: Json): Response {
  const o = wanted(info, m);
  const discounts = m.maybe("discounts");
  m.done();
  const v = onSale(env, o);
  o.value = v.price;
  o.cash = take(info);
  const r = done("buy", "voucher", o.voucher).attribute("price", v.price.toString());
  let left = v.price;
  let one: Json | null = null;
  if (discounts !== null) one = discounts.head();
  while (one !== null) {
    left = left - discounted(env, one.u64(), v.owner, o.buyer, left);
    one = one.tail();
  }
  if (o.cash != left) throw new Error("to be paid is " + left.toString() + ", sent was " + o.cash.toString());
  sell(env, r, o.voucher, v, o);
  return r;
}

// discounted uses a discount, as far as there is something to pay, and returns how far.
function discounted(env: Env, id: u64, seller: string, buyer: string, left: U128): U128 {
  const d = free(env, id, buyer);
  if (!d.isDiscount() || d.issuer != seller) throw new Error("that is no discount of the seller");
  const off = d.units < left ? d.units : left;
  use(id, d, off);
  return off;
}

// offer binds cash and vouchers, until the seller accepts them or the buyer takes them back.
export function offer(env: Env, info: Info, m: Json): Response {
  const o = wanted(info, m);
  o.expires = Expires.from(m.maybe("expires"));
  let one = m.field("vouchers").head();
  m.done();
  o.price = onSale(env, o).price;
  if (o.expires.passed(env)) throw new Error("it would be over already");
  o.cash = take(info);
  o.value = o.cash;
  const id = numbered("offer");
  while (one !== null) {
    const part = new Part(one.field("voucher").u64(), one.field("value").u128());
    one.done();
    if (o.count == maxParts) throw new Error("an offer has at most 10 vouchers");
    const given = free(env, part.voucher, info.sender);
    given.offer = id;
    vouchers().save(part.voucher, given);
    o.add(part);
    o.value = o.value + part.value;
    one = one.tail();
  }
  if (o.cash.isZero() && o.count == 0) throw new Error("an offer of nothing");
  offers().save(id, o);
  offersFor(o.voucher).save(id, true);
  return done("offer", "offer", id).attribute("voucher", o.voucher.toString()).attribute("value", o.value.toString());
}

function forget(id: u64, o: Offer): void {
  offers().remove(id);
  offersFor(o.voucher).remove(id);
}

export function withdraw(info: Info, m: Json): Response {
  info.noFunds();
  const id = m.field("offer").u64();
  m.done();
  const o = offers().load(id);
  if (o.buyer != info.sender) throw new Error("only the buyer may");
  const r = done("withdraw", "offer", id);
  let part = o.parts;
  while (part !== null) {
    const given = vouchers().load(part.voucher);
    given.offer = 0;
    vouchers().save(part.voucher, given);
    part = part.next;
  }
  forget(id, o);
  pay(r, o.buyer, o.cash);
  return r;
}

// accept exchanges the voucher for what is offered. If that is more than was asked, the buyer gets a
// discount for the difference.
export function accept(env: Env, info: Info, m: Json): Response {
  info.noFunds();
  const id = m.field("offer").u64();
  m.done();
  const o = offers().load(id);
  const v = onSale(env, o);
  if (v.owner != info.sender) throw new Error("only the seller may");
  if (o.expires.passed(env)) throw new Error("the offer is over");
  const r = done("accept", "offer", id).attribute("voucher", o.voucher.toString());
  let part = o.parts;
  while (part !== null) {
    given(env, part, info.sender);
    part = part.next;
  }
  forget(id, o);
  const until = v.discount;
  if (o.value > o.price && until.passed(env)) throw new Error("the discount would be over already");
  sell(env, r, o.voucher, v, o);
  if (o.value > o.price) r.attribute("discount", discount(env, info.sender, o, until).toString());
  return r;
}

// given hands the seller a voucher of an offer. Its own discounts end so.
function given(env: Env, part: Part, seller: string): void {
  const v = good(env, part.voucher);
  if (v.isDiscount() && v.issuer == seller) {
    v.offer = 0;
    use(part.voucher, v, v.units);
  } else hand(env, part.voucher, v, seller, "offer", part.value);
}

// discount makes a seller's promise of the difference to the buyer.
function discount(env: Env, seller: string, o: Offer, until: Expires): u64 {
  const d = new Voucher();
  d.issuer = seller;
  d.owner = o.buyer;
  d.units = o.value - o.price;
  d.expires = until;
  return add(env, d, "discount");
}
