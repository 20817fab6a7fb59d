// An account of several people: k of n agree, a time passes in which they may think
// again, and then it does what was proposed. Its messages are those of
// cw3-fixed-multisig.

import { Env, Info, Json, Response, address, unknown, version } from "./kit";
import { Ballot, Proposal, Rules, ballots, last, members, nano, proposals, rules, words } from "./state";
export { query } from "./queries";

const maxMembers: u64 = 64;
const maxMessages = 16;
const maxTitle = 128;
const maxDescription = 4096;
const maxWeight: u64 = 1000000;
const minSeconds: u64 = 60; // to agree and to execute in
const maxSeconds: u64 = 366 * 86400;

// instantiate takes HYPER: it is the members'.
export function instantiate(_env: Env, _info: Info, msg: Json): Response {
  version("hypermesh:multisig", "1.0.0");
  const r = new Rules();
  join(msg.field("voters"), r);
  r.need = weight(msg.field("threshold"));
  r.period = period(msg.field("max_voting_period"));
  const delay = msg.maybe("delay");
  if (delay !== null) r.delay = delay.u64();
  msg.done();
  keep(r);
  return new Response().attribute("action", "instantiate");
}

// keep stores rules that fit each other: with those that leave no time to agree and to execute in, nothing would ever be
// executed, an update of the rules neither.
function keep(r: Rules): void {
  if (r.need == 0 || r.need > r.total) throw new Error("the threshold is from 1 to the weight of all");
  if (r.period < minSeconds || r.period > maxSeconds) throw new Error("a voting period is from a minute to a year");
  if (r.delay > r.period - minSeconds) throw new Error("the delay leaves less than a minute to agree and to execute in");
  rules().save(r);
}

// join gives members a weight, and leave takes some out.
function join(list: Json, r: Rules): void {
  let one = list.head();
  while (one !== null) {
    const who = address(one.field("addr").text());
    const has = one.field("weight").u64();
    one.done();
    if (has == 0 || has > maxWeight) throw new Error("a weight is from 1 to 1000000");
    if (members().has(who)) throw new Error("a member twice");
    members().save(who, has);
    r.total += has;
    one = one.tail();
  }
  let count: u64 = 0;
  const all = members().up();
  while (all.next()) count++;
  if (count == 0 || count > maxMembers) throw new Error("a multisig has 1 to 64 members");
}

function leave(list: Json, r: Rules): void {
  let one = list.head();
  while (one !== null) {
    const who = one.text();
    if (!members().has(who)) throw new Error("not a member");
    r.total -= members().load(who);
    members().remove(who);
    one = one.tail();
  }
}

function weight(threshold: Json): u64 {
  const v = threshold.variant();
  if (!v.named("absolute_count")) throw new Error("only an absolute count is taken");
  const n = v.field("weight").u64();
  v.done();
  return n;
}

function period(json: Json): u64 {
  const v = json.variant();
  if (!v.named("time")) throw new Error("a voting period is in seconds");
  return v.u64();
}

export function execute(env: Env, info: Info, msg: Json): Response {
  info.noFunds();
  const m = msg.variant();
  if (m.named("propose")) return propose(env, info.sender, m);
  if (m.named("vote")) return vote(env, info.sender, m);
  if (m.named("execute")) return perform(env, info.sender, m);
  if (m.named("close")) return close(env, info.sender, m);
  if (m.named("update")) return update(env, info.sender, m);
  throw new Error(unknown(m));
}

function done(action: string, sender: string, id: u64): Response {
  return new Response().attribute("action", action).attribute("sender", sender).attribute("proposal_id", words(id));
}

// voice is a member's weight.
function voice(sender: string): u64 {
  const has = members().or(sender, 0);
  if (has == 0) throw new Error("only members may");
  return has;
}

// until is when a proposal expires: earlier than the period ends, if it says so.
function until(env: Env, r: Rules, latest: Json | null): u64 {
  const most = env.time() + r.period * nano;
  if (latest === null) return most;
  const v = latest.variant();
  if (!v.named("at_time")) throw new Error("a proposal expires at a time");
  const at = v.u64Text();
  if (at <= env.time()) throw new Error("it would be over already");
  if (at > most) throw new Error("it would be open too long");
  return at;
}

function propose(env: Env, sender: string, m: Json): Response {
  const has = voice(sender);
  const r = rules().load();
  const p = new Proposal();
  p.title = m.field("title").text();
  p.description = m.field("description").text();
  if (p.title.length == 0 || p.title.length > maxTitle) throw new Error("a title has 1 to 128 letters");
  if (p.description.length > maxDescription) throw new Error("the description is too long");
  const msgs = m.field("msgs");
  let count = 0;
  let one = msgs.head();
  while (one !== null) {
    one.variant();
    if (++count > maxMessages) throw new Error("too many messages");
    one = one.tail();
  }
  p.msgs = msgs.raw();
  p.expires = until(env, r, m.maybe("latest"));
  m.done();
  p.proposer = sender;
  p.era = r.era;
  p.need = r.need;
  p.total = r.total;
  p.delay = r.delay;
  p.count(env, 0, has);
  const id = last().or(0) + 1;
  last().save(id);
  proposals().save(id, p);
  ballots(id).save(sender, new Ballot("yes", has));
  return done("propose", sender, id).attribute("status", p.status(env, r.era));
}

// vote says what a member thinks now; who thinks again votes again.
function vote(env: Env, sender: string, m: Json): Response {
  const id = m.field("proposal_id").u64();
  const say = m.field("vote").text();
  m.done();
  if (say != "yes" && say != "no" && say != "abstain" && say != "veto") throw new Error("unknown vote " + say);
  const has = voice(sender);
  const era = rules().load().era;
  const p = proposals().load(id);
  if (p.over(env, era)) throw new Error("the proposal is over");
  const before = ballots(id).or(sender, new Ballot());
  const now = new Ballot(say, has);
  p.count(env, before.counts(), now.counts());
  ballots(id).save(sender, now);
  proposals().save(id, p);
  return done("vote", sender, id).attribute("status", p.status(env, era));
}

// perform sends what was agreed upon, when it has waited. Anybody may have it done. It is
// executed before its messages are, so that none of them executes it again.
function perform(env: Env, sender: string, m: Json): Response {
  const id = m.field("proposal_id").u64();
  m.done();
  const p = proposals().load(id);
  if (p.over(env, rules().load().era)) throw new Error("the proposal is over");
  if (p.agreed == 0) throw new Error("not enough agree");
  if (env.time() < p.ready()) throw new Error("it waits still");
  p.end = "executed";
  proposals().save(id, p);
  const r = done("execute", sender, id);
  let one = Json.parse(p.msgs).head();
  while (one !== null) {
    r.message(one.raw());
    one = one.tail();
  }
  return r;
}

// close says of a proposal that is over that it is, for those who read the storage.
function close(env: Env, sender: string, m: Json): Response {
  const id = m.field("proposal_id").u64();
  m.done();
  const p = proposals().load(id);
  if (p.end.length > 0) throw new Error("it is closed");
  if (!p.over(env, rules().load().era)) throw new Error("the proposal is not over");
  p.end = "rejected";
  proposals().save(id, p);
  return done("close", sender, id);
}

// update changes members and rules. Only the multisig itself may, by a proposal. All
// that is open is over with it, since others agreed to that.
function update(env: Env, sender: string, m: Json): Response {
  if (sender != env.contract()) throw new Error("only the multisig itself may");
  const r = rules().load();
  leave(m.field("remove"), r);
  join(m.field("add"), r);
  const threshold = m.maybe("threshold");
  if (threshold !== null) r.need = weight(threshold);
  const open = m.maybe("max_voting_period");
  if (open !== null) r.period = period(open);
  const delay = m.maybe("delay");
  if (delay !== null) r.delay = delay.u64();
  m.done();
  r.era++;
  keep(r);
  return new Response().attribute("action", "update");
}
