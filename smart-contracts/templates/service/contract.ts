// An agreement between a client and a provider: for each task the client's price and the
// provider's stake are kept here, and the price is paid against a result that the chain
// has verified, a proof, or a word that nobody disputes. Who is late gets less, who does
// not deliver loses the stake, and an arbiter decides upon disputes.

import { Chain, Compute, Env, Info, Json, Query, Response, Statement, U128, hexadecimal, unknown, version } from "./kit";
import { Evidence, Task, Terms, bind, denom, elements, held, last, nano, orders, pay, tasks, terms, words } from "./state";
export { query } from "./queries";

const maxReference = 512;

export function instantiate(_env: Env, info: Info, msg: Json): Response {
  info.noFunds();
  version("hypermesh:service", "1.0.0");
  const t = new Terms();
  t.read(msg);
  t.check();
  terms().save(t);
  held().save(new U128());
  return new Response().attribute("action", "instantiate");
}

export function execute(env: Env, info: Info, msg: Json): Response {
  const m = msg.variant();
  if (m.named("offer")) return offer(info, m);
  if (m.named("accept")) return accept(env, info, m);
  if (m.named("rent")) return rent(info, m);
  info.noFunds();
  if (m.named("withdraw")) return withdraw(info.sender, m);
  if (m.named("deliver")) return deliver(env, info.sender, m);
  if (m.named("approve")) return approve(info.sender, m);
  if (m.named("dispute")) return dispute(env, info.sender, m);
  if (m.named("rule")) return rule(info.sender, m);
  if (m.named("release")) return release(env, m);
  if (m.named("reclaim")) return reclaim(env, info.sender, m);
  if (m.named("give_up")) return giveUp(info.sender, m);
  if (m.named("lapse")) return lapse(env, info.sender, m);
  if (m.named("end_rent")) return endRent(info.sender, m);
  if (m.named("collect")) return collect(env, info.sender, m);
  throw new Error(unknown(m));
}

function byClient(sender: string): Terms {
  const t = terms().load();
  if (sender != t.client) throw new Error("only the client may");
  return t;
}

function byProvider(sender: string): Terms {
  const t = terms().load();
  if (sender != t.provider) throw new Error("only the provider may");
  return t;
}

function done(action: string, id: u64, t: Task): Response {
  return new Response().attribute("action", action).attribute("task", words(id)).attribute("state", t.state);
}

// saved keeps a task in a new state.
function saved(action: string, id: u64, t: Task, state: string): Response {
  t.state = state;
  tasks().save(id, t);
  return done(action, id, t);
}

// ended pays out all that a task holds: to the provider so much, the rest to the client. An order whose task paid nothing may
// be another's.
function ended(action: string, id: u64, t: Task, state: string, toProvider: U128): Response {
  const all = t.price + t.stake;
  const toClient = all - toProvider;
  const now = held().load();
  held().save(now - all);
  if (t.evidence.kind == "order" && (state == "withdrawn" || state == "failed" || state == "lapsed")) orders().remove(t.evidence.order);
  const r = saved(action, id, t, state).attribute("to_provider", toProvider.toString()).attribute("to_client", toClient.toString());
  const who = terms().load();
  return pay(pay(r, who.provider, toProvider), who.client, toClient);
}

function hold(amount: U128): void {
  held().save(held().load() + amount);
}

// only reads a message that names a task and nothing else.
function only(m: Json): u64 {
  const id = m.field("task").u64();
  m.done();
  return id;
}

// goodNode holds the provider's node to what was agreed upon.
function goodNode(t: Terms): void {
  if (t.node.length == 0) return;
  const node = Chain.node(t.node);
  if (node === null || node.owner != t.provider) throw new Error("the node is not the provider's");
  if (node.bond < t.minBond) throw new Error("the node's bond is too small");
  if (node.score < t.minScore) throw new Error("the node's score is too low");
}

// offer is a task, with its price.
function offer(info: Info, m: Json): Response {
  byClient(info.sender);
  const t = new Task();
  t.evidence.read(m.field("evidence"));
  t.stake = m.field("stake").u128();
  m.done();
  if (t.evidence.kind == "order") {
    // one result pays once
    if (orders().has(t.evidence.order)) throw new Error("another task is for the order");
    orders().save(t.evidence.order, true);
  }
  t.price = info.funds().only(denom);
  if (t.price.isZero()) throw new Error("a task without a price");
  hold(t.price);
  const id = last().or(0) + 1;
  last().save(id);
  return saved("offer", id, t, "offered");
}

function withdraw(sender: string, m: Json): Response {
  byClient(sender);
  const id = only(m);
  const t = tasks().load(id);
  t.mustBe("offered");
  t.stake = new U128(); // which nobody has brought
  return ended("withdraw", id, t, "withdrawn", new U128());
}

// accept is the provider's word that it will be done, with the stake.
function accept(env: Env, info: Info, m: Json): Response {
  const who = byProvider(info.sender);
  const id = only(m);
  const t = tasks().load(id);
  t.mustBe("offered");
  if (info.funds().only(denom) != t.stake) throw new Error("the stake is " + t.stake.toString());
  goodNode(who);
  hold(t.stake);
  t.due = env.time() + who.due * nano;
  t.last = t.due + who.grace * nano;
  return saved("accept", id, t, "accepted");
}

// settled finds among the order's claims one that is as agreed: of the provider, or of whom the provider has
// hired by an order of their own. What the client had others do is nothing of the provider's.
function settled(e: Evidence, provider: string): void {
  const order = Chain.order(e.order);
  if (order === null) throw new Error("the order has no claim");
  let one = order.claims;
  while (one !== null) {
    const good = one.settled && one.verified && one.exit == "ok" && (e.result.length == 0 || one.result == e.result);
    if (good && (one.provider == provider || order.consumer == provider)) return;
    one = one.next;
  }
  throw new Error("no result of the order is paid, verified and as agreed");
}

// proven has the chain verify the provider's proof.
function proven(env: Env, id: u64, e: Evidence, m: Json): void {
  const shown = m.maybe("outputs");
  if (shown !== null) {
    if (e.outputs.length > 0) throw new Error("the outputs are agreed upon");
    e.outputs = elements(shown);
  }
  if (e.outputs.length == 0) throw new Error("a proof of which outputs");
  if (!Chain.proven(new Statement(e.kernel, e.inputs, e.outputs, bind(env, id)), m.field("proof").bytes())) throw new Error("the proof does not hold");
}

// deliver shows the evidence. What the chain has verified is paid at once; a word waits.
function deliver(env: Env, sender: string, m: Json): Response {
  const who = byProvider(sender);
  const id = m.field("task").u64();
  const t = tasks().load(id);
  t.mustBe("accepted");
  if (env.time() > t.last) throw new Error("it is too late");
  const reference = m.maybe("reference");
  if (reference !== null) t.reference = reference.text();
  if (t.reference.length > maxReference) throw new Error("the reference is too long");
  t.delivered = env.time();
  if (t.evidence.kind == "order") settled(t.evidence, who.provider);
  if (t.evidence.kind == "proof") proven(env, id, t.evidence, m);
  m.done();
  if (t.evidence.kind == "word") return saved("deliver", id, t, "delivered");
  return ended("deliver", id, t, "paid", who.earned(t.price, t.due, t.delivered) + t.stake);
}

// open refuses what is for tasks that somebody works on, or has.
function open(t: Task): void {
  if (t.state != "accepted" && t.state != "delivered" && t.state != "disputed") throw new Error("the task is " + t.state);
}

// approve pays without evidence: it is the client's money.
function approve(sender: string, m: Json): Response {
  const who = byClient(sender);
  const id = only(m);
  const t = tasks().load(id);
  open(t);
  return ended("approve", id, t, "paid", who.earned(t.price, t.due, t.delivered) + t.stake);
}

function giveUp(sender: string, m: Json): Response {
  byProvider(sender);
  const id = only(m);
  const t = tasks().load(id);
  open(t);
  return ended("give_up", id, t, "failed", new U128());
}

function dispute(env: Env, sender: string, m: Json): Response {
  const who = byClient(sender);
  const id = only(m);
  const t = tasks().load(id);
  t.mustBe("delivered");
  if (env.time() >= t.delivered + who.dispute * nano) throw new Error("it is too late");
  t.disputed = env.time();
  return saved("dispute", id, t, "disputed");
}

// rule divides price and stake.
function rule(sender: string, m: Json): Response {
  if (sender != terms().load().arbiter) throw new Error("only the arbiter may");
  const id = m.field("task").u64();
  const toProvider = m.field("provider").u128();
  m.done();
  const t = tasks().load(id);
  t.mustBe("disputed");
  if (toProvider > t.price + t.stake) throw new Error("there is not so much");
  return ended("rule", id, t, "ruled", toProvider);
}

// release pays a word that nobody has disputed. Anybody may have it done.
function release(env: Env, m: Json): Response {
  const who = terms().load();
  const id = only(m);
  const t = tasks().load(id);
  t.mustBe("delivered");
  if (env.time() < t.delivered + who.dispute * nano) throw new Error("it may be disputed still");
  return ended("release", id, t, "paid", who.earned(t.price, t.due, t.delivered) + t.stake);
}

// reclaim ends a task of which nothing came.
function reclaim(env: Env, sender: string, m: Json): Response {
  byClient(sender);
  const id = only(m);
  const t = tasks().load(id);
  t.mustBe("accepted");
  if (env.time() <= t.last) throw new Error("there is time still");
  return ended("reclaim", id, t, "failed", new U128());
}

// lapse ends a dispute that the arbiter has not decided: each has what each brought.
function lapse(env: Env, sender: string, m: Json): Response {
  const who = terms().load();
  if (sender != who.client && sender != who.provider) throw new Error("only client and provider may");
  const id = only(m);
  const t = tasks().load(id);
  t.mustBe("disputed");
  if (env.time() < t.disputed + who.ruling * nano) throw new Error("the arbiter has time still");
  return ended("lapse", id, t, "lapsed", t.stake);
}

// rent opens a channel to the provider with what is sent along: the client's key signs,
// job by job, how much of it is the provider's.
function rent(info: Info, m: Json): Response {
  const who = byClient(info.sender);
  const signer = hexadecimal(m.field("signer").text());
  const nonce = m.field("nonce").u64();
  const window = m.field("window_ms").u64();
  m.done();
  goodNode(who);
  const amount = info.funds().only(denom);
  if (amount.isZero()) throw new Error("a channel with nothing");
  const r = new Response().attribute("action", "rent").attribute("amount", amount.toString());
  return r.message(Compute.openChannel(who.provider, nonce, signer, amount, window));
}

function endRent(sender: string, m: Json): Response {
  byClient(sender);
  const channel = hexadecimal(m.field("channel").text());
  m.done();
  return new Response().attribute("action", "end_rent").message(Compute.closeChannel(channel));
}

// collect sends the client what is in no task: what came back of channels.
function collect(env: Env, sender: string, m: Json): Response {
  byClient(sender);
  m.done();
  const free = Query.balance(env.contract(), denom) - held().load();
  if (free.isZero()) throw new Error("there is nothing to collect");
  return pay(new Response().attribute("action", "collect").attribute("amount", free.toString()), sender, free);
}
