// What the vouchers' contract stores.

import { Expires, Item, Json, Map, U128, Writer } from "./kit";

// maxArbiters bounds who decides what holder and issuer cannot agree on.
export const maxArbiters = 7;

// Terms are what an issuer promises, and are the same for all vouchers that one is split into.
@final
export class Terms {
  issuer: string = "";
  unit: string = ""; // what is counted: hour, night, piece
  text: string = "";
  refundable: bool = false; // whether the money of what was never redeemed is the holder's
  arbiters: string[] = [];
  confirm: u64 = 0; // seconds that a holder has to look at what was delivered
  arbitration: u64 = 0; // seconds that the arbiters have to decide

  read(json: Json): void {
    this.issuer = json.field("issuer").text();
    this.unit = json.field("unit").text();
    this.text = json.field("text").text();
    this.refundable = json.field("refundable").bool();
    let one = json.field("arbiters").head();
    while (one !== null) {
      this.arbiters.push(one.text());
      one = one.tail();
    }
    this.confirm = json.field("confirm_seconds").u64();
    this.arbitration = json.field("arbitration_seconds").u64();
  }

  write(w: Writer): void {
    w.object().field("issuer").text(this.issuer).field("unit").text(this.unit).field("text").text(this.text);
    w.field("refundable").bool(this.refundable).field("arbiters").list();
    for (let i = 0; i < this.arbiters.length; i++) w.text(this.arbiters[i]);
    w.end().field("confirm_seconds").u64(this.confirm).field("arbitration_seconds").u64(this.arbitration).end();
  }
}

// Voucher is a promise of its issuer to whoever owns it: so many units by its terms, or, if it has
// none, so much off what the issuer sells. Backing is money that is held, and released as
// units are redeemed.
@final
export class Voucher {
  issuer: string = "";
  owner: string = "";
  terms: u64 = 0; // 0: a discount
  units: U128 = new U128(); // that are left
  backing: U128 = new U128();
  expires: Expires = new Expires();
  parent: u64 = 0; // that it was split off; 0: none
  entries: u64 = 0; // of its history
  listing: u64 = 0; // how often it was for sale
  price: U128 = new U128(); // for which it is for sale; 0: it is not
  discount: Expires = new Expires(); // until when a discount is good that its buyer gets
  offer: u64 = 0; // in which it is; 0: none

  read(json: Json): void {
    this.issuer = json.field("issuer").text();
    this.owner = json.field("owner").text();
    this.terms = json.field("terms").u64();
    this.units = json.field("units").u128();
    this.backing = json.field("backing").u128();
    this.expires.read(json.field("expires"));
    this.parent = json.field("parent").u64();
    this.entries = json.field("entries").u64();
    this.listing = json.field("listing").u64();
    this.price = json.field("price").u128();
    this.discount.read(json.field("discount_expires"));
    this.offer = json.field("offer").u64();
  }

  write(w: Writer): void {
    w.object().field("issuer").text(this.issuer).field("owner").text(this.owner).field("terms").u64(this.terms);
    w.field("units").u128(this.units).field("backing").u128(this.backing).field("expires");
    this.expires.write(w);
    w.field("parent").u64(this.parent).field("entries").u64(this.entries).field("listing").u64(this.listing);
    w.field("price").u128(this.price).field("discount_expires");
    this.discount.write(w);
    w.field("offer").u64(this.offer).end();
  }

  isDiscount(): bool {
    return this.terms == 0;
  }

  listed(): bool {
    return !this.price.isZero();
  }
}

// Entry is one owner of a voucher: since when, and how it came to them.
@final
export class Entry {
  constructor(
    public owner: string = "",
    public how: string = "",
    public time: u64 = 0,
    public price: U128 = new U128(),
  ) {}

  read(json: Json): void {
    this.owner = json.field("owner").text();
    this.how = json.field("how").text();
    this.time = json.field("time").u64();
    this.price = json.field("price").u128();
  }

  write(w: Writer): void {
    w.object().field("owner").text(this.owner).field("how").text(this.how).field("time").u64(this.time);
    w.field("price").u128(this.price).end();
  }
}

// Part is a voucher in an offer, and what it is said to be worth.
@final
export class Part {
  next: Part | null = null;

  constructor(
    public voucher: u64 = 0,
    public value: U128 = new U128(),
  ) {}
}

// Offer is cash and vouchers that somebody gives for a voucher that is for sale.
@final
export class Offer {
  voucher: u64 = 0;
  listing: u64 = 0; // of the voucher's
  buyer: string = "";
  price: U128 = new U128(); // that was asked
  cash: U128 = new U128();
  value: U128 = new U128(); // of all
  expires: Expires = new Expires();
  parts: Part | null = null;
  count: i32 = 0;

  // add puts a part in front of the others.
  add(part: Part): void {
    part.next = this.parts;
    this.parts = part;
    this.count++;
  }

  read(json: Json): void {
    this.voucher = json.field("voucher").u64();
    this.listing = json.field("listing").u64();
    this.buyer = json.field("buyer").text();
    this.price = json.field("price").u128();
    this.cash = json.field("cash").u128();
    this.value = json.field("value").u128();
    this.expires.read(json.field("expires"));
    let one = json.field("vouchers").head();
    while (one !== null) {
      this.add(new Part(one.field("voucher").u64(), one.field("value").u128()));
      one = one.tail();
    }
  }

  write(w: Writer): void {
    w.object().field("voucher").u64(this.voucher).field("listing").u64(this.listing).field("buyer").text(this.buyer);
    w.field("price").u128(this.price).field("cash").u128(this.cash).field("value").u128(this.value).field("expires");
    this.expires.write(w);
    w.field("vouchers").list();
    let one = this.parts;
    while (one !== null) {
      w.object().field("voucher").u64(one.voucher).field("value").u128(one.value).end();
      one = one.next;
    }
    w.end().end();
  }
}

// Redemption is units that a holder has called in, and the money that is held for them. Its stage is
// claimed or disputed while it is, and paid, returned or decided after that.
@final
export class Redemption {
  voucher: u64 = 0;
  terms: u64 = 0;
  holder: string = "";
  issuer: string = "";
  units: U128 = new U128();
  amount: U128 = new U128();
  stage: string = "claimed";
  since: u64 = 0;
  note: string = "";
  forHolder: i32 = 0; // votes
  forIssuer: i32 = 0;

  read(json: Json): void {
    this.voucher = json.field("voucher").u64();
    this.terms = json.field("terms").u64();
    this.holder = json.field("holder").text();
    this.issuer = json.field("issuer").text();
    this.units = json.field("units").u128();
    this.amount = json.field("amount").u128();
    this.stage = json.field("stage").text();
    this.since = json.field("since").u64();
    this.note = json.field("note").text();
    this.forHolder = <i32>json.field("for_holder").u32();
    this.forIssuer = <i32>json.field("for_issuer").u32();
  }

  write(w: Writer): void {
    w.object().field("voucher").u64(this.voucher).field("terms").u64(this.terms).field("holder").text(this.holder);
    w.field("issuer").text(this.issuer).field("units").u128(this.units).field("amount").u128(this.amount);
    w.field("stage").text(this.stage).field("since").u64(this.since).field("note").text(this.note);
    w.field("for_holder").u64(this.forHolder).field("for_issuer").u64(this.forIssuer).end();
  }
}

// denom is the money that is taken.
export function denom(): Item<string> {
  return new Item<string>("denom");
}

// held is all money that is in vouchers, offers and redemptions.
export function held(): Item<U128> {
  return new Item<U128>("held");
}

// numbered returns the next number of something.
export function numbered(what: string): u64 {
  const last = new Item<u64>("last_" + what);
  const n = last.or(0) + 1;
  last.save(n);
  return n;
}

export function terms(): Map<u64, Terms> {
  return new Map<u64, Terms>("terms");
}

export function vouchers(): Map<u64, Voucher> {
  return new Map<u64, Voucher>("vouchers");
}

export function history(voucher: u64): Map<u64, Entry> {
  return new Map<u64, Entry>("history").under(voucher);
}

// owned are the vouchers of somebody that have units left, and listed those that are for sale.
export function owned(owner: string): Map<u64, bool> {
  return new Map<u64, bool>("owned").under(owner);
}

export function listed(): Map<u64, bool> {
  return new Map<u64, bool>("listed");
}

export function offers(): Map<u64, Offer> {
  return new Map<u64, Offer>("offers");
}

// offersFor are the offers for a voucher.
export function offersFor(voucher: u64): Map<u64, bool> {
  return new Map<u64, bool>("offers__voucher").under(voucher);
}

export function redemptions(): Map<u64, Redemption> {
  return new Map<u64, Redemption>("redemptions");
}

// redemptionsOf are those in which somebody is holder or issuer.
export function redemptionsOf(party: string): Map<u64, bool> {
  return new Map<u64, bool>("redemptions__party").under(party);
}

export function votes(redemption: u64): Map<string, bool> {
  return new Map<string, bool>("votes").under(redemption);
}
