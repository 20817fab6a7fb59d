// What a multisig answers, in the words of cw3.

import { Entries, Env, Json, Writer, unknown } from "./kit";
import { Ballot, Proposal, ballots, members, proposals, rules } from "./state";

const usual: u32 = 10;
const most: u32 = 30;

export function query(env: Env, msg: Json): Writer {
  const m = msg.variant();
  const w = new Writer();
  if (m.named("threshold")) return threshold(m, w);
  if (m.named("rules")) return told(m, w);
  if (m.named("proposal")) return proposal(env, m, w);
  if (m.named("list_proposals")) return listed(env, m, "start_after", w);
  if (m.named("reverse_proposals")) return listed(env, m, "start_before", w);
  if (m.named("vote")) return vote(m, w);
  if (m.named("list_votes")) return votes(m, w);
  if (m.named("voter")) return voter(m, w);
  if (m.named("list_voters")) return voters(m, w);
  throw new Error(unknown(m));
}

function page(m: Json): u32 {
  const limit = m.maybe("limit");
  m.done();
  const n = limit === null ? usual : limit.u32();
  return n < most ? n : most;
}

function threshold(m: Json, w: Writer): Writer {
  m.done();
  return rules().load().threshold(w);
}

function told(m: Json, w: Writer): Writer {
  m.done();
  const r = rules().load();
  r.threshold(w.object().field("threshold"));
  w.field("max_voting_period").object().field("time").u64(r.period).end();
  return w.field("delay").u64(r.delay).end();
}

function shown(env: Env, era: u64, id: u64, p: Proposal, w: Writer): void {
  w.object().field("id").u64(id).field("title").text(p.title).field("description").text(p.description);
  w.field("msgs").json(p.msgs).field("status").text(p.status(env, era));
  w.field("expires").object().field("at_time").u64Text(p.expires).end();
  w.field("threshold").object().field("absolute_count").object().field("weight").u64(p.need).field("total_weight").u64(p.total).end().end();
  w.field("proposer").text(p.proposer).field("deposit").null();
  w.field("yes").u64(p.yes).field("executable_at");
  if (p.agreed == 0) w.null();
  else w.u64Text(p.ready());
  w.end();
}

function proposal(env: Env, m: Json, w: Writer): Writer {
  const id = m.field("proposal_id").u64();
  m.done();
  shown(env, rules().load().era, id, proposals().load(id), w);
  return w;
}

function from(json: Json | null, up: bool): Entries<u64, Proposal> {
  if (json === null) return up ? proposals().up() : proposals().down();
  return up ? proposals().upAfter(json.u64()) : proposals().downBefore(json.u64());
}

function listed(env: Env, m: Json, start: string, w: Writer): Writer {
  const walk = from(m.maybe(start), start == "start_after");
  const era = rules().load().era;
  w.object().field("proposals").list();
  for (let left = page(m); left > 0 && walk.next(); left--) shown(env, era, walk.key(), walk.value(), w);
  return w.end().end();
}

function ballot(id: u64, who: string, b: Ballot, w: Writer): void {
  w.object().field("proposal_id").u64(id).field("voter").text(who).field("vote").text(b.vote).field("weight").u64(b.weight).end();
}

function vote(m: Json, w: Writer): Writer {
  const id = m.field("proposal_id").u64();
  const who = m.field("voter").text();
  m.done();
  w.object().field("vote");
  if (ballots(id).has(who)) ballot(id, who, ballots(id).load(who), w);
  else w.null();
  return w.end();
}

function votes(m: Json, w: Writer): Writer {
  const id = m.field("proposal_id").u64();
  const after = m.maybe("start_after");
  const walk = after === null ? ballots(id).up() : ballots(id).upAfter(after.text());
  w.object().field("votes").list();
  for (let left = page(m); left > 0 && walk.next(); left--) ballot(id, walk.key(), walk.value(), w);
  return w.end().end();
}

function voter(m: Json, w: Writer): Writer {
  const who = m.field("address").text();
  m.done();
  const has = members().or(who, 0);
  w.object().field("weight");
  return (has == 0 ? w.null() : w.u64(has)).end();
}

function voters(m: Json, w: Writer): Writer {
  const after = m.maybe("start_after");
  const walk = after === null ? members().up() : members().upAfter(after.text());
  w.object().field("voters").list();
  for (let left = page(m); left > 0 && walk.next(); left--) w.object().field("addr").text(walk.key()).field("weight").u64(walk.value()).end();
  return w.end().end();
}
