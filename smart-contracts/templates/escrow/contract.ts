// Money that a client has put down for a worker, paid milestone by milestone; what they cannot
// agree on is decided by an arbiter. Each milestone's money goes out once, all of it.

import { Bank, Coins, Env, Info, Json, Query, Response, U128, Writer, address, hexadecimal, unknown, version } from "./kit";
import { Deal, Milestone, deals, dealsOf, held, last, milestones, orders } from "./state";
export { query } from "./queries";

const maxMilestones = 20;
const maxLetters = 512; // of a title, of a note
const minPeriod: u64 = 60; // seconds
const maxPeriod: u64 = 10 * 366 * 86400;

export function instantiate(_env: Env, info: Info, msg: Json): Response {
  info.noFunds();
  msg.done();
  version("hypermesh:escrow", "1.0.0");
  last().save(0);
  return new Response();
}

export function execute(env: Env, info: Info, msg: Json): Response {
  const m = msg.variant();
  if (m.named("open")) return open(env, info, m);
  info.noFunds();
  if (m.named("cancel")) return cancel(info.sender, m);
  if (m.named("accept")) return accept(info.sender, m);
  if (m.named("submit")) return submit(Case.of(env, info.sender, m), m);
  if (m.named("extend")) return extend(Case.of(env, info.sender, m), m);
  if (m.named("dispute")) return dispute(Case.of(env, info.sender, m), m);
  if (m.named("decide")) return decide(Case.of(env, info.sender, m), m);
  if (m.named("release")) return release(Case.alone(env, info.sender, m));
  if (m.named("prove")) return prove(Case.alone(env, info.sender, m));
  if (m.named("give_back")) return giveBack(Case.alone(env, info.sender, m));
  if (m.named("refund")) return refund(Case.alone(env, info.sender, m));
  if (m.named("settle")) return settle(Case.alone(env, info.sender, m));
  throw new Error(unknown(m));
}

function letters(json: Json): string {
  const text = json.text();
  if (text.length > maxLetters) throw new Error("a text is too long");
  return text;
}

function period(json: Json): u64 {
  const n = json.u64();
  if (n < minPeriod || n > maxPeriod) throw new Error("a period has 60 seconds to 10 years");
  return n;
}

// newMilestone reads what a milestone begins with.
function newMilestone(env: Env, d: Deal, json: Json): Milestone {
  const m = new Milestone();
  m.title = letters(json.field("title"));
  m.amount = json.field("amount").u128();
  m.due = json.field("due").u64();
  const order = json.maybe("order");
  if (order !== null) m.order = hexadecimal(order.text());
  json.done();
  if (m.order.length > 0) {
    // one result pays once
    if (orders(d.client).has(m.order)) throw new Error("another milestone names the order");
    orders(d.client).save(m.order, true);
  }
  if (m.amount.isZero()) throw new Error("a milestone of nothing");
  if (m.amount < d.fee) throw new Error("a milestone of less than the arbiter's fee");
  if (m.due <= env.seconds()) throw new Error("a milestone is due already");
  within(m.due, env.seconds());
  return m;
}

// within refuses times until which nobody would want to wait for the money.
function within(due: u64, now: u64): void {
  if (due > now + maxPeriod) throw new Error("a milestone is due within 10 years");
}

// free lets the client name an order again, whose milestone was not paid.
function free(d: Deal, m: Milestone): void {
  if (m.order.length > 0) orders(d.client).remove(m.order);
}

function open(env: Env, info: Info, m: Json): Response {
  const d = new Deal();
  d.client = info.sender;
  d.worker = address(m.field("worker").text());
  d.arbiter = address(m.field("arbiter").text());
  d.fee = m.field("fee").u128();
  d.review = period(m.field("review_seconds"));
  d.arbitration = period(m.field("arbitration_seconds"));
  d.unjudged = m.field("unjudged_percent").u32();
  let one = m.field("milestones").head();
  m.done();
  if (d.worker == d.client || d.arbiter == d.client || d.arbiter == d.worker) throw new Error("client, worker and arbiter are three");
  if (d.unjudged > 100) throw new Error("more than 100 percent");
  const id = last().load() + 1;
  while (one !== null) {
    if (d.count == maxMilestones) throw new Error("a deal has 1 to 20 milestones");
    const milestone = newMilestone(env, d, one);
    milestones(id).save(d.count++, milestone);
    d.held = d.held + milestone.amount;
    one = one.tail();
  }
  if (d.count == 0) throw new Error("a deal has 1 to 20 milestones");
  const coin = info.funds().first;
  if (coin === null || coin.next !== null) throw new Error("want one coin");
  if (coin.amount != d.held) throw new Error("the milestones come to " + d.held.toString() + ", sent were " + coin.amount.toString());
  d.denom = coin.denom;
  last().save(id);
  deals().save(id, d);
  dealsOf(d.client).save(id, true);
  dealsOf(d.worker).save(id, true);
  dealsOf(d.arbiter).save(id, true);
  held().save(d.denom, held().or(d.denom, new U128()) + d.held);
  return done("open", id).attribute("client", d.client).attribute("worker", d.worker).attribute("amount", d.held.toString());
}

function done(action: string, id: u64): Response {
  return new Response().attribute("action", action).attribute("deal", id.toString());
}

// waiting returns a deal that its worker has not accepted yet.
function waiting(id: u64): Deal {
  const d = deals().load(id);
  if (d.accepted) throw new Error("the worker has accepted");
  return d;
}

function cancel(sender: string, m: Json): Response {
  const id = m.field("deal").u64();
  m.done();
  const d = waiting(id);
  if (d.client != sender) throw new Error("only the client may");
  const r = done("cancel", id);
  pay(r, d, d.client, d.held);
  for (let i: u32 = 0; i < d.count; i++) {
    free(d, milestones(id).load(i));
    milestones(id).remove(i);
  }
  deals().remove(id);
  dealsOf(d.client).remove(id);
  dealsOf(d.worker).remove(id);
  dealsOf(d.arbiter).remove(id);
  return r;
}

function accept(sender: string, m: Json): Response {
  const id = m.field("deal").u64();
  m.done();
  const d = waiting(id);
  if (d.worker != sender) throw new Error("only the worker may");
  d.accepted = true;
  deals().save(id, d);
  return done("accept", id);
}

// pay sends what a deal holds.
function pay(r: Response, d: Deal, to: string, amount: U128): void {
  if (amount.isZero()) return;
  d.held = d.held - amount;
  held().save(d.denom, held().load(d.denom) - amount);
  r.message(Bank.send(to, Coins.of(amount, d.denom)));
}

// Case is a milestone that somebody does something about.
@final
class Case {
  d: Deal;
  m: Milestone;
  private r: Response;

  constructor(
    action: string,
    private sender: string,
    private id: u64,
    private n: u32,
    public time: u64,
  ) {
    this.d = deals().load(id);
    this.m = milestones(id).load(n);
    this.r = done(action, id).attribute("milestone", n.toString());
  }

  static of(env: Env, sender: string, m: Json): Case {
    const c = new Case(m.name(), sender, m.field("deal").u64(), m.field("milestone").u32(), env.seconds());
    if (!c.d.accepted) throw new Error("the worker has not accepted");
    if (!c.m.held()) throw new Error("the milestone is " + c.m.stage);
    return c;
  }

  // alone is of for messages that say nothing else.
  static alone(env: Env, sender: string, m: Json): Case {
    const c = Case.of(env, sender, m);
    m.done();
    return c;
  }

  isClient(): bool {
    return this.sender == this.d.client;
  }

  isWorker(): bool {
    return this.sender == this.d.worker;
  }

  isArbiter(): bool {
    return this.sender == this.d.arbiter;
  }

  at(stage: string): bool {
    return this.m.stage == stage;
  }

  // need refuses milestones that are at another stage.
  need(stage: string): void {
    if (!this.at(stage)) throw new Error("the milestone is " + this.m.stage);
  }

  // after tells whether so much time has gone since the last step, late whether it is due.
  after(seconds: u64): bool {
    return this.time >= this.m.since + seconds;
  }

  late(): bool {
    return this.time >= this.m.due;
  }

  // step goes on to another stage, in which the money is held still.
  step(stage: string, note: string): Response {
    this.m.stage = stage;
    this.m.since = this.time;
    this.m.note = note;
    return this.save();
  }

  // end pays the milestone out: to the worker, to the arbiter, and what is left to the client.
  end(stage: string, worker: U128, arbiter: U128 = new U128()): Response {
    const client = this.m.amount - worker - arbiter;
    pay(this.r, this.d, this.d.worker, worker);
    pay(this.r, this.d, this.d.arbiter, arbiter);
    pay(this.r, this.d, this.d.client, client);
    this.m.stage = stage;
    this.m.paid = worker;
    if (stage == "returned") free(this.d, this.m);
    this.r.attribute("worker", worker.toString()).attribute("client", client.toString());
    return this.save();
  }

  save(): Response {
    deals().save(this.id, this.d);
    milestones(this.id).save(this.n, this.m);
    return this.r;
  }
}

function submit(c: Case, m: Json): Response {
  const evidence = letters(m.field("evidence"));
  m.done();
  if (!c.isWorker()) throw new Error("only the worker may");
  c.need("open");
  if (c.late()) throw new Error("it was due");
  return c.step("submitted", evidence);
}

// extend gives the worker more time.
function extend(c: Case, m: Json): Response {
  const due = m.field("due").u64();
  m.done();
  if (!c.isClient()) throw new Error("only the client may");
  c.need("open");
  if (due <= c.m.due) throw new Error("that is not later");
  within(due, c.time);
  c.m.due = due;
  return c.save();
}

// dispute hands a milestone to the arbiter: the client what was submitted and is not as agreed, the
// worker what cannot be done as agreed, while it is not due.
function dispute(c: Case, m: Json): Response {
  const reason = letters(m.field("reason"));
  m.done();
  if (c.isClient()) {
    c.need("submitted");
    if (c.after(c.d.review)) throw new Error("the review is over");
  } else if (c.isWorker()) {
    c.need("open");
    if (c.late()) throw new Error("it was due");
  } else throw new Error("only the client or the worker may");
  return c.step("disputed", reason);
}

function decide(c: Case, m: Json): Response {
  const worker = m.field("worker_gets").u128();
  c.m.note = letters(m.field("reason"));
  m.done();
  if (!c.isArbiter()) throw new Error("only the arbiter may");
  c.need("disputed");
  if (worker > c.m.amount - c.d.fee) throw new Error("more than there is");
  return c.end("decided", worker, c.d.fee);
}

// release pays the worker: the client may at any time, anybody when the client was silent.
function release(c: Case): Response {
  if (!c.isClient()) {
    c.need("submitted");
    if (!c.after(c.d.review)) throw new Error("the client may look at it still");
  }
  return c.end("paid", c.m.amount);
}

// prove pays the worker for a verified result of the order that the milestone names.
function prove(c: Case): Response {
  if (c.m.order.length == 0) throw new Error("the milestone names no order");
  if (c.at("disputed")) throw new Error("the milestone is disputed");
  if (!verified(c.m.order, c.d.worker)) throw new Error("the order has no verified result of the worker");
  return c.end("paid", c.m.amount);
}

// verified asks the chain whether a provider's result of an order was settled and verified, and
// the job did not fail.
function verified(order: string, provider: string): bool {
  const asked = new Writer().object().field("order").object().field("id").text(order).end().end();
  const found = Query.custom(asked).maybe("order");
  if (found === null) return false;
  let claim = found.field("claims").head();
  while (claim !== null) {
    const good = claim.field("settled").bool() && claim.field("verified").bool() && claim.field("exit").text() == "ok";
    if (good && claim.field("provider").text() == provider) return true;
    claim = claim.tail();
  }
  return false;
}

// giveBack is the worker's word that the money is the client's.
function giveBack(c: Case): Response {
  if (!c.isWorker()) throw new Error("only the worker may");
  return c.end("returned", new U128());
}

// refund takes back what was due and never submitted.
function refund(c: Case): Response {
  if (!c.isClient()) throw new Error("only the client may");
  c.need("open");
  if (!c.late()) throw new Error("it is not due yet");
  return c.end("returned", new U128());
}

// settle ends a dispute on which the arbiter was silent, as was agreed for that.
function settle(c: Case): Response {
  if (!c.isClient() && !c.isWorker()) throw new Error("only the client or the worker may");
  c.need("disputed");
  if (!c.after(c.d.arbitration)) throw new Error("the arbiter has time still");
  return c.end("decided", c.m.amount.share(U128.of(c.d.unjudged), U128.of(100)));
}
