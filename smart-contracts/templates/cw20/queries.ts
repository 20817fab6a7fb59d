// What a token answers.

import { Entries, Env, Json, U128, Writer, address, unknown } from "./kit";
import { Allowance, Marketing, allowances, balances, grants, marketing, text, token } from "./state";
import { Logo, logo } from "./logo";

export function query(_env: Env, msg: Json): Writer {
  const m = msg.variant();
  const w = new Writer();
  if (m.named("balance")) balance(m, w);
  else if (m.named("token_info")) tokenInfo(m, w);
  else if (m.named("minter")) minter(m, w);
  else if (m.named("allowance")) allowance(m, w);
  else if (m.named("all_allowances")) allAllowances(m, w);
  else if (m.named("all_spender_allowances")) allGrants(m, w);
  else if (m.named("all_accounts")) allAccounts(m, w);
  else if (m.named("marketing_info")) marketingInfo(m, w);
  else if (m.named("download_logo")) downloadLogo(m, w);
  else throw new Error(unknown(m));
  return w;
}

function balance(m: Json, w: Writer): void {
  const account = address(m.field("address").text());
  m.done();
  w.object().field("balance").u128(balances().or(account, new U128())).end();
}

function tokenInfo(m: Json, w: Writer): void {
  m.done();
  token().load().fields(w).end();
}

function minter(m: Json, w: Writer): void {
  m.done();
  const mint = token().load().mint;
  if (mint === null) w.null();
  else mint.write(w);
}

function allowance(m: Json, w: Writer): void {
  const owner = address(m.field("owner").text());
  const spender = address(m.field("spender").text());
  m.done();
  allowances(owner).or(spender, new Allowance()).write(w);
}

const usual: u32 = 10;
const most: u32 = 30;

// limit is how many entries a page has.
function limit(m: Json): u32 {
  const n = m.maybe("limit");
  if (n === null) return usual;
  const asked = n.u32();
  return asked < most ? asked : most;
}

function allAllowances(m: Json, w: Writer): void {
  const all = allowances(address(m.field("owner").text()));
  const after = m.maybe("start_after");
  const n = limit(m);
  m.done();
  listAllowances(w, "spender", after === null ? all.up() : all.upAfter(after.text()), n);
}

function allGrants(m: Json, w: Writer): void {
  const all = grants(address(m.field("spender").text()));
  const after = m.maybe("start_after");
  const n = limit(m);
  m.done();
  listAllowances(w, "owner", after === null ? all.up() : all.upAfter(after.text()), n);
}

function listAllowances(w: Writer, name: string, entries: Entries<string, Allowance>, n: u32): void {
  w.object().field("allowances").list();
  for (; n > 0 && entries.next(); n--) {
    w.object().field(name).text(entries.key());
    entries.value().fields(w);
    w.end();
  }
  w.end().end();
}

function allAccounts(m: Json, w: Writer): void {
  const after = m.maybe("start_after");
  let n = limit(m);
  m.done();
  const entries = after === null ? balances().up() : balances().upAfter(after.text());
  w.object().field("accounts").list();
  for (; n > 0 && entries.next(); n--) w.text(entries.key());
  w.end().end();
}

function marketingInfo(m: Json, w: Writer): void {
  m.done();
  const shown = marketing().or(new Marketing());
  shown.fields(w);
  w.field("logo");
  if (!logo().has()) w.null();
  else {
    const l = logo().load();
    if (l.kind == "url") l.write(w);
    else w.text("embedded");
  }
  w.field("marketing");
  text(w, shown.marketing);
  w.end();
}

function downloadLogo(m: Json, w: Writer): void {
  m.done();
  const l = logo().or(new Logo());
  if (l.kind == "url") throw new Error("there is no logo here");
  w.object().field("mime_type").text(l.kind == "svg" ? "image/svg+xml" : "image/png").field("data").binary(l.data).end();
}
