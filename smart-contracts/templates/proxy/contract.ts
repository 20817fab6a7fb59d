// An admin that gives time: it migrates the contracts that it is the admin of, but only
// to what everybody could look at for a while. The same holds for its own settings, and
// for whom it hands a contract over to.

import { Env, Info, Json, Query, Response, Writer, unknown, version } from "./kit";
import { Decision, Settings, Step, decisions, last, nano, settings, words } from "./state";

const maxNote = 1024;
const usual: u32 = 10;
const most: u32 = 30;

// instantiate takes {"governor", "guardian", "delay", "grace"}.
export function instantiate(env: Env, info: Info, msg: Json): Response {
  info.noFunds();
  version("hypermesh:proxy", "1.0.0");
  const s = new Settings();
  s.read(msg);
  if (Query.contractInfo(env.contract()).maybe("admin") !== null) throw new Error("a proxy with an admin locks nothing");
  settings().save(s);
  return new Response().attribute("action", "instantiate");
}

export function execute(env: Env, info: Info, msg: Json): Response {
  info.noFunds();
  const m = msg.variant();
  if (m.named("schedule")) return schedule(env, info.sender, m);
  if (m.named("apply")) return apply(env, info.sender, m);
  if (m.named("cancel")) return cancel(env, info.sender, m);
  throw new Error(unknown(m));
}

function only(sender: string): Settings {
  const s = settings().load();
  if (s.governor != sender) throw new Error("only the governor may");
  return s;
}

function said(action: string, id: u64, d: Decision): Response {
  return new Response().attribute("action", action).attribute("decision", words(id)).attribute("step", d.step.kind);
}

// schedule decides a step, and tells everybody: a migration with the digests of both codes.
function schedule(env: Env, sender: string, m: Json): Response {
  const s = only(sender);
  const d = new Decision();
  d.step = Step.asked(env, m.field("step"));
  const note = m.maybe("note");
  if (note !== null) d.note = note.text();
  m.done();
  if (d.note.length > maxNote) throw new Error("the note is too long");
  d.ready = env.time() + s.delay * nano;
  d.over = d.ready + s.grace * nano;
  const id = last().or(0) + 1;
  last().save(id);
  decisions().save(id, d);
  const r = said("schedule", id, d).attribute("ready", words(d.ready));
  if (d.step.kind == "migrate") r.attribute("target", d.step.target).attribute("from", d.step.from.checksum).attribute("to", d.step.to.checksum);
  return r;
}

// apply carries a step out, when it has waited.
function apply(env: Env, sender: string, m: Json): Response {
  only(sender);
  const id = m.field("decision").u64();
  m.done();
  const d = decisions().load(id);
  const status = d.status(env);
  if (status != "ready") throw new Error("it is " + status);
  d.end = "applied";
  decisions().save(id, d);
  return d.step.done(env, said("apply", id, d));
}

function cancel(env: Env, sender: string, m: Json): Response {
  const s = settings().load();
  if (sender != s.governor && (s.guardian.length == 0 || sender != s.guardian)) throw new Error("only the governor and the guardian may");
  const id = m.field("decision").u64();
  m.done();
  const d = decisions().load(id);
  const status = d.status(env);
  if (status != "waiting" && status != "ready") throw new Error("it is " + status);
  d.end = "cancelled";
  decisions().save(id, d);
  return said("cancel", id, d);
}

export function query(env: Env, msg: Json): Writer {
  const m = msg.variant();
  const w = new Writer();
  if (m.named("settings")) {
    m.done();
    settings().load().write(w);
    return w;
  }
  if (m.named("decision")) {
    const id = m.field("id").u64();
    m.done();
    shown(env, id, decisions().load(id), w);
    return w;
  }
  if (m.named("decisions")) return listed(env, m, w);
  throw new Error(unknown(m));
}

function shown(env: Env, id: u64, d: Decision, w: Writer): void {
  d.step.write(w.object().field("id").u64(id).field("step"));
  w.field("note").text(d.note).field("ready").u64Text(d.ready).field("over").u64Text(d.over).field("status").text(d.status(env)).end();
}

// listed shows the decisions, the newest first.
function listed(env: Env, m: Json, w: Writer): Writer {
  const before = m.maybe("start_before");
  const limit = m.maybe("limit");
  m.done();
  const n = limit === null ? usual : limit.u32();
  const walk = before === null ? decisions().down() : decisions().downBefore(before.u64());
  w.object().field("decisions").list();
  for (let left = n < most ? n : most; left > 0 && walk.next(); left--) shown(env, walk.key(), walk.value(), w);
  return w.end().end();
}
