// What an agreement answers.

import { Env, Json, Writer, unknown } from "./kit";
import { Task, bind, held, tasks, terms } from "./state";

const usual: u32 = 10;
const most: u32 = 30;

export function query(env: Env, msg: Json): Writer {
  const m = msg.variant();
  const w = new Writer();
  if (m.named("terms")) {
    m.done();
    terms().load().write(w);
    return w;
  }
  if (m.named("held")) {
    m.done();
    return w.object().field("held").u128(held().load()).end();
  }
  if (m.named("task")) {
    const id = m.field("id").u64();
    m.done();
    shown(env, id, tasks().load(id), w);
    return w;
  }
  if (m.named("tasks")) return listed(env, m, w);
  throw new Error(unknown(m));
}

function shown(env: Env, id: u64, t: Task, w: Writer): void {
  t.fields(w.object().field("id").u64(id)).field("bind").text(bind(env, id)).end();
}

function listed(env: Env, m: Json, w: Writer): Writer {
  const after = m.maybe("start_after");
  const limit = m.maybe("limit");
  m.done();
  const n = limit === null ? usual : limit.u32();
  const walk = after === null ? tasks().up() : tasks().upAfter(after.u64());
  w.object().field("tasks").list();
  for (let left = n < most ? n : most; left > 0 && walk.next(); left--) shown(env, walk.key(), walk.value(), w);
  return w.end().end();
}
