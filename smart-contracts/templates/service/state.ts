// What an agreement stores.

import { Bytes, Coins, Bank, Env, Item, Json, Map, Response, U128, Writer, address, hexadecimal, sha256 } from "./kit";

export const nano: u64 = 1000000000;
export const denom = "nhyper";
const maxSeconds: u64 = 366 * 86400;
const maxElements = 8; // of a statement, as the chain has it

// Terms are what both sides agreed upon for all tasks.
@final
export class Terms {
  client: string = ""; // asks for work, and pays
  provider: string = ""; // does it
  arbiter: string = ""; // decides where they do not agree
  due: u64 = 0; // seconds from a task's acceptance until it is late
  grace: u64 = 0; // and until it is too late
  lateEvery: u64 = 1; // for each that has begun of so many seconds that it is late,
  latePermille: u64 = 0; // so many thousandths of the price are the client's
  dispute: u64 = 0; // seconds in which a word may be disputed
  ruling: u64 = 0; // and then be decided upon
  node: string = ""; // the provider's, which must be as good as this; empty: none is named
  minBond: U128 = new U128();
  minScore: u64 = 0;

  read(json: Json): void {
    this.client = address(json.field("client").text());
    this.provider = address(json.field("provider").text());
    this.arbiter = address(json.field("arbiter").text());
    const sla = json.field("sla");
    this.due = sla.field("due").u64();
    this.grace = sla.field("grace").u64();
    this.lateEvery = sla.field("late_every").u64();
    this.latePermille = sla.field("late_permille").u64();
    sla.done();
    this.dispute = json.field("dispute").u64();
    this.ruling = json.field("ruling").u64();
    const node = json.maybe("node");
    if (node !== null) {
      this.node = hexadecimal(node.field("id").text());
      this.minBond = node.field("min_bond").u128();
      this.minScore = node.field("min_score").u64();
      node.done();
    }
    json.done();
  }

  write(w: Writer): void {
    w.object().field("client").text(this.client).field("provider").text(this.provider).field("arbiter").text(this.arbiter);
    w.field("sla").object().field("due").u64(this.due).field("grace").u64(this.grace);
    w.field("late_every").u64(this.lateEvery).field("late_permille").u64(this.latePermille).end();
    w.field("dispute").u64(this.dispute).field("ruling").u64(this.ruling).field("node");
    if (this.node.length == 0) w.null();
    else w.object().field("id").text(this.node).field("min_bond").u128(this.minBond).field("min_score").u64(this.minScore).end();
    w.end();
  }

  check(): void {
    if (this.client == this.provider || this.client == this.arbiter || this.provider == this.arbiter) throw new Error("client, provider and arbiter are three");
    if (!lasts(this.due) || !lasts(this.lateEvery) || !lasts(this.dispute) || !lasts(this.ruling) || this.grace > maxSeconds)
      throw new Error("a time is from a second to a year");
    if (this.latePermille > 1000) throw new Error("late work costs at most the price");
  }

  // earned is what a price comes to if the work was there at a time.
  earned(price: U128, due: u64, at: u64): U128 {
    if (at <= due) return price;
    const step = this.lateEvery * nano;
    const cut = ((at - due - 1) / step + 1) * this.latePermille;
    return cut >= 1000 ? new U128() : price.share(U128.of(1000 - cut), U128.of(1000));
  }
}

function lasts(seconds: u64): bool {
  return seconds > 0 && seconds <= maxSeconds;
}

// elements reads a list of them.
export function elements(json: Json): string[] {
  const all: string[] = [];
  let one = json.head();
  while (one !== null) {
    if (all.length == maxElements) throw new Error("too many elements");
    all.push(hexadecimal(one.text()));
    one = one.tail();
  }
  if (all.length == 0) throw new Error("no elements");
  return all;
}

function list(w: Writer, all: string[]): void {
  w.list();
  for (let i = 0; i < all.length; i++) w.text(all[i]);
  w.end();
}

// Evidence is what a task is paid against: {"order": …}, a result that the chain has
// paid for and verified; {"proof": …}, a proof that is shown to this contract; or
// {"word": {}}, the provider's word, which the client may dispute.
@final
export class Evidence {
  kind: string = "";
  order: string = "";
  result: string = ""; // of the order; empty: any
  kernel: string = "";
  inputs: string[] = [];
  outputs: string[] = []; // of the kernel; empty: any

  read(json: Json): void {
    const v = json.variant();
    this.kind = v.name();
    if (v.named("order")) {
      this.order = hexadecimal(v.field("id").text());
      const result = v.maybe("result");
      if (result !== null) this.result = hexadecimal(result.text());
    } else if (v.named("proof")) {
      this.kernel = v.field("kernel").text();
      this.inputs = elements(v.field("inputs"));
      const outputs = v.maybe("outputs");
      if (outputs !== null) this.outputs = elements(outputs);
    } else if (!v.named("word")) throw new Error("unknown evidence " + this.kind);
    v.done();
  }

  write(w: Writer): void {
    w.object().field(this.kind).object();
    if (this.kind == "order") {
      w.field("id").text(this.order).field("result");
      if (this.result.length == 0) w.null();
      else w.text(this.result);
    } else if (this.kind == "proof") {
      list(w.field("kernel").text(this.kernel).field("inputs"), this.inputs);
      w.field("outputs");
      if (this.outputs.length == 0) w.null();
      else list(w, this.outputs);
    }
    w.end().end();
  }
}

// Task is one piece of work.
@final
export class Task {
  evidence: Evidence = new Evidence();
  price: U128 = new U128();
  stake: U128 = new U128(); // that the provider loses if the work is never there
  state: string = "offered"; // accepted, delivered, disputed; then paid, failed, ruled, lapsed or withdrawn
  due: u64 = 0; // in nanoseconds, as the next three
  last: u64 = 0;
  delivered: u64 = 0;
  disputed: u64 = 0;
  reference: string = ""; // where the work is, as the provider says

  read(json: Json): void {
    this.evidence.read(json.field("evidence"));
    this.price = json.field("price").u128();
    this.stake = json.field("stake").u128();
    this.state = json.field("state").text();
    this.due = json.field("due").u64Text();
    this.last = json.field("last").u64Text();
    this.delivered = json.field("delivered").u64Text();
    this.disputed = json.field("disputed").u64Text();
    this.reference = json.field("reference").text();
  }

  // fields writes what it has, and leaves the object open.
  fields(w: Writer): Writer {
    this.evidence.write(w.field("evidence"));
    w.field("price").u128(this.price).field("stake").u128(this.stake).field("state").text(this.state);
    w.field("due").u64Text(this.due).field("last").u64Text(this.last);
    return w.field("delivered").u64Text(this.delivered).field("disputed").u64Text(this.disputed).field("reference").text(this.reference);
  }

  write(w: Writer): void {
    this.fields(w.object()).end();
  }

  // mustBe refuses what a task in another state is not for.
  mustBe(state: string): void {
    if (this.state != state) throw new Error("the task is " + this.state);
  }
}

export function terms(): Item<Terms> {
  return new Item<Terms>("terms");
}

export function tasks(): Map<u64, Task> {
  return new Map<u64, Task>("tasks");
}

// orders are those that tasks are for: for each a task that is open, or was paid or ruled upon.
export function orders(): Map<string, bool> {
  return new Map<string, bool>("orders");
}

export function last(): Item<u64> {
  return new Item<u64>("task_count");
}

// held is what of the contract's money is in tasks.
export function held(): Item<U128> {
  return new Item<U128>("held");
}

// words writes a number for an attribute.
export function words(n: u64): string {
  return U128.of(n).toString();
}

// bind is what the proof of a task must be bound to: a proof for one is none for another.
// Its first byte is zero, so that it is an element of every field.
export function bind(env: Env, id: u64): string {
  const digest = sha256(Bytes.of("hypermesh service task " + words(id) + " of " + env.contract()));
  let text = "00";
  for (let i: usize = 0; i < 31; i++) {
    const b = <u32>digest.byte(i);
    text += "0123456789abcdef".charAt(b >> 4) + "0123456789abcdef".charAt(b & 15);
  }
  return text;
}

// pay sends somebody money.
export function pay(r: Response, to: string, amount: U128): Response {
  return amount.isZero() ? r : r.message(Bank.send(to, Coins.of(amount, denom)));
}
