// What a collection answers.

import { Entries, Env, Json, Writer, address, unknown } from "./kit";
import { Approval, Token, collection, count, maybe, operators, owned, ownership, purse, tokens } from "./state";

export function query(env: Env, msg: Json): Writer {
  const m = msg.variant();
  const w = new Writer();
  if (m.named("owner_of")) ownerOf(env, m, w);
  else if (m.named("approval")) approval(env, m, w);
  else if (m.named("approvals")) approvals(env, m, w);
  else if (m.named("operator")) operator(env, m, w);
  else if (m.named("all_operators")) allOperators(env, m, w);
  else if (m.named("num_tokens")) numTokens(m, w);
  else if (m.named("contract_info")) contractInfo(m, w);
  else if (m.named("nft_info")) nftInfo(m, w);
  else if (m.named("all_nft_info")) allNftInfo(env, m, w);
  else if (m.named("tokens")) ownersTokens(m, w);
  else if (m.named("all_tokens")) allTokens(m, w);
  else if (m.named("minter")) whoMints(m, w);
  else if (m.named("ownership")) whose(m, w);
  else if (m.named("get_withdraw_address")) whoWithdraws(m, w);
  else if (m.named("extension")) extension(m, w);
  else throw new Error(unknown(m));
  return w;
}

// when is the block by which rights are over, none if all are asked for.
function when(env: Env, m: Json): Env | null {
  const all = m.maybe("include_expired");
  return all !== null && all.bool() ? null : env;
}

function access(t: Token, at: Env | null, w: Writer): void {
  w.object().field("owner").text(t.owner).field("approvals");
  t.approvals(w, at);
  w.end();
}

function ownerOf(env: Env, m: Json, w: Writer): void {
  const id = m.field("token_id").text();
  const at = when(env, m);
  m.done();
  access(tokens().load(id), at, w);
}

function approval(env: Env, m: Json, w: Writer): void {
  const t = tokens().load(m.field("token_id").text());
  const spender = m.field("spender").text();
  const at = when(env, m);
  m.done();
  let found = t.approval(spender);
  if (t.owner == spender) found = new Approval(spender);
  if (found === null || (at !== null && found.expires.passed(at))) throw new Error("no approval");
  w.object().field("approval");
  found.write(w);
  w.end();
}

function approvals(env: Env, m: Json, w: Writer): void {
  const id = m.field("token_id").text();
  const at = when(env, m);
  m.done();
  w.object().field("approvals");
  tokens().load(id).approvals(w, at);
  w.end();
}

function operator(env: Env, m: Json, w: Writer): void {
  const owner = address(m.field("owner").text());
  const who = address(m.field("operator").text());
  const at = when(env, m);
  m.done();
  if (!operators(owner).has(who)) throw new Error("no approval");
  const found = new Approval(who, operators(owner).load(who));
  if (at !== null && found.expires.passed(at)) throw new Error("no approval");
  w.object().field("approval");
  found.write(w);
  w.end();
}

const usual: u32 = 10;
const most: u32 = 100;

// limit is how many entries a page has.
function limit(m: Json): u32 {
  const n = m.maybe("limit");
  if (n === null) return usual;
  const asked = n.u32();
  return asked < most ? asked : most;
}

function allOperators(env: Env, m: Json, w: Writer): void {
  const all = operators(address(m.field("owner").text()));
  const after = m.maybe("start_after");
  const at = when(env, m);
  let n = limit(m);
  m.done();
  const entries = after === null ? all.up() : all.upAfter(address(after.text()));
  w.object().field("operators").list();
  while (n > 0 && entries.next()) {
    const found = new Approval(entries.key(), entries.value());
    if (at !== null && found.expires.passed(at)) continue;
    found.write(w);
    n--;
  }
  w.end().end();
}

function numTokens(m: Json, w: Writer): void {
  m.done();
  w.object().field("count").u64(count().load()).end();
}

function contractInfo(m: Json, w: Writer): void {
  m.done();
  collection().load().write(w);
}

function info(t: Token, w: Writer): void {
  t.info(w.object());
  w.end();
}

function nftInfo(m: Json, w: Writer): void {
  const id = m.field("token_id").text();
  m.done();
  info(tokens().load(id), w);
}

function allNftInfo(env: Env, m: Json, w: Writer): void {
  const t = tokens().load(m.field("token_id").text());
  const at = when(env, m);
  m.done();
  w.object().field("access");
  access(t, at, w);
  w.field("info");
  info(t, w);
  w.end();
}

function listed<V>(entries: Entries<string, V>, n: u32, w: Writer): void {
  w.object().field("tokens").list();
  for (; n > 0 && entries.next(); n--) w.text(entries.key());
  w.end().end();
}

function ownersTokens(m: Json, w: Writer): void {
  const all = owned(address(m.field("owner").text()));
  const after = m.maybe("start_after");
  const n = limit(m);
  m.done();
  listed<bool>(after === null ? all.up() : all.upAfter(after.text()), n, w);
}

function allTokens(m: Json, w: Writer): void {
  const after = m.maybe("start_after");
  const n = limit(m);
  m.done();
  listed<Token>(after === null ? tokens().up() : tokens().upAfter(after.text()), n, w);
}

function whoMints(m: Json, w: Writer): void {
  m.done();
  maybe(w.object().field("minter"), ownership().load().owner);
  w.end();
}

function whose(m: Json, w: Writer): void {
  m.done();
  ownership().load().write(w);
}

function whoWithdraws(m: Json, w: Writer): void {
  m.done();
  maybe(w, purse().or(""));
}

// extension answers nothing: what it is for, collections with queries of their own have.
function extension(m: Json, w: Writer): void {
  m.field("msg").done();
  m.done();
  w.null();
}
