// A fungible token, with the messages of cw20-base.

import { Bytes, Env, Expires, Info, Json, Response, U128, Wasm, Writer, address, unknown, version } from "./kit";
import { Allowance, Marketing, Minter, Token, allowances, balances, grants, marketing, optional, token } from "./state";
import { keepLogo } from "./logo";
export { query } from "./queries";

const maxDecimals: u32 = 18;

export function instantiate(_env: Env, info: Info, msg: Json): Response {
  info.noFunds();
  version("hypermesh:cw20", "1.0.0");
  const t = new Token();
  t.name = msg.field("name").text();
  t.symbol = msg.field("symbol").text();
  t.decimals = msg.field("decimals").u32();
  checkName(t);
  let one = msg.field("initial_balances").head();
  while (one !== null) {
    const to = one.field("address").text();
    const amount = one.field("amount").u128();
    one.done();
    if (balances().has(address(to))) throw new Error("an account twice");
    t.supply = t.supply + amount;
    balances().save(to, amount);
    one = one.tail();
  }
  const mint = msg.maybe("mint");
  if (mint !== null) {
    const m = new Minter();
    m.read(mint);
    address(m.minter);
    if (m.cap < t.supply) throw new Error("there is more than the cap already");
    t.mint = m;
  }
  const presented = msg.maybe("marketing");
  msg.done();
  if (presented !== null) present(presented);
  token().save(t);
  return new Response();
}

function checkName(t: Token): void {
  const bytes = Bytes.of(t.name).length;
  if (bytes < 3 || bytes > 50) throw new Error("a name has 3 to 50 bytes");
  if (t.symbol.length < 3 || t.symbol.length > 12) throw new Error("a symbol has 3 to 12 letters");
  for (let i = 0; i < t.symbol.length; i++) {
    const c = t.symbol.charCodeAt(i);
    if (c != 0x2d && ((c | 0x20) < 0x61 || (c | 0x20) > 0x7a)) throw new Error("a symbol has letters and hyphens");
  }
  if (t.decimals > maxDecimals) throw new Error("too many decimals");
}

function present(msg: Json): void {
  const m = new Marketing();
  m.read(msg);
  if (m.marketing.length > 0) address(m.marketing);
  marketing().save(m);
  const logo = msg.maybe("logo");
  if (logo !== null) keepLogo(logo);
  msg.done();
}

export function execute(env: Env, info: Info, msg: Json): Response {
  info.noFunds();
  const m = msg.variant();
  if (m.named("transfer")) return transfer(info.sender, m);
  if (m.named("burn")) return burn(info.sender, m);
  if (m.named("send")) return send(info.sender, m);
  if (m.named("increase_allowance")) return increase(env, info.sender, m);
  if (m.named("decrease_allowance")) return decrease(env, info.sender, m);
  if (m.named("transfer_from")) return transferFrom(env, info.sender, m);
  if (m.named("burn_from")) return burnFrom(env, info.sender, m);
  if (m.named("send_from")) return sendFrom(env, info.sender, m);
  if (m.named("mint")) return mint(info.sender, m);
  if (m.named("update_minter")) return updateMinter(info.sender, m);
  if (m.named("update_marketing")) return updateMarketing(info.sender, m);
  if (m.named("upload_logo")) return uploadLogo(info.sender, m);
  throw new Error(unknown(m));
}

function done(action: string): Response {
  return new Response().attribute("action", action);
}

// take takes tokens of an account, and give gives them to one.
function take(from: string, amount: U128): void {
  const have = balances().or(from, new U128());
  if (have < amount) throw new Error("not enough tokens");
  const rest = have - amount;
  if (rest.isZero()) balances().remove(from);
  else balances().save(from, rest);
}

function give(to: string, amount: U128): void {
  if (!amount.isZero()) balances().save(to, balances().or(to, new U128()) + amount);
}

function destroy(from: string, amount: U128): void {
  take(from, amount);
  const t = token().load();
  t.supply = t.supply - amount;
  token().save(t);
}

function transfer(sender: string, m: Json): Response {
  const to = address(m.field("recipient").text());
  const amount = m.field("amount").u128();
  m.done();
  take(sender, amount);
  give(to, amount);
  return done("transfer").attribute("from", sender).attribute("to", to).attribute("amount", amount.toString());
}

function burn(sender: string, m: Json): Response {
  const amount = m.field("amount").u128();
  m.done();
  destroy(sender, amount);
  return done("burn").attribute("from", sender).attribute("amount", amount.toString());
}

// told is the message that a contract gets with tokens.
function told(contract: string, by: string, amount: U128, msg: Bytes): Bytes {
  const w = new Writer().object().field("receive").object();
  w.field("sender").text(by).field("amount").u128(amount).field("msg").binary(msg);
  return Wasm.execute(contract, w.end().end());
}

function send(sender: string, m: Json): Response {
  const to = address(m.field("contract").text());
  const amount = m.field("amount").u128();
  const msg = m.field("msg").bytes();
  m.done();
  take(sender, amount);
  give(to, amount);
  const r = done("send").attribute("from", sender).attribute("to", to).attribute("amount", amount.toString());
  return r.message(told(to, sender, amount, msg));
}

// allow stores an allowance, in both orders.
function allow(owner: string, spender: string, a: Allowance): void {
  allowances(owner).save(spender, a);
  grants(spender).save(owner, a);
}

function allowed(action: string, owner: string, spender: string, amount: U128): Response {
  return done(action).attribute("owner", owner).attribute("spender", spender).attribute("amount", amount.toString());
}

// until sets when an allowance ends, if a message says so.
function until(env: Env, a: Allowance, expires: Json | null): void {
  if (expires === null) return;
  a.expires = Expires.from(expires);
  if (a.expires.passed(env)) throw new Error("it would be over already");
}

function spenderOf(sender: string, m: Json): string {
  const spender = address(m.field("spender").text());
  if (spender == sender) throw new Error("an allowance for oneself");
  return spender;
}

function increase(env: Env, sender: string, m: Json): Response {
  const spender = spenderOf(sender, m);
  const amount = m.field("amount").u128();
  const expires = m.maybe("expires");
  m.done();
  const a = allowances(sender).or(spender, new Allowance());
  until(env, a, expires);
  a.amount = a.amount + amount;
  allow(sender, spender, a);
  return allowed("increase_allowance", sender, spender, amount);
}

function decrease(env: Env, sender: string, m: Json): Response {
  const spender = spenderOf(sender, m);
  const amount = m.field("amount").u128();
  const expires = m.maybe("expires");
  m.done();
  const a = allowances(sender).load(spender);
  if (amount < a.amount) {
    a.amount = a.amount - amount;
    until(env, a, expires);
    allow(sender, spender, a);
  } else {
    allowances(sender).remove(spender);
    grants(spender).remove(sender);
  }
  return allowed("decrease_allowance", sender, spender, amount);
}

// use takes of an allowance, which must be there even for nothing: who has none moves nothing in others' names.
function use(env: Env, owner: string, spender: string, amount: U128): void {
  const a = allowances(owner).or(spender, new Allowance());
  if (a.amount < amount || a.amount.isZero()) throw new Error("not allowed so much");
  if (a.expires.passed(env)) throw new Error("the allowance is over");
  a.amount = a.amount - amount;
  if (!a.amount.isZero()) return allow(owner, spender, a);
  allowances(owner).remove(spender);
  grants(spender).remove(owner);
}

function moved(action: string, from: string, to: string, by: string, amount: U128): Response {
  return done(action).attribute("from", from).attribute("to", to).attribute("by", by).attribute("amount", amount.toString());
}

function transferFrom(env: Env, sender: string, m: Json): Response {
  const owner = address(m.field("owner").text());
  const to = address(m.field("recipient").text());
  const amount = m.field("amount").u128();
  m.done();
  use(env, owner, sender, amount);
  take(owner, amount);
  give(to, amount);
  return moved("transfer_from", owner, to, sender, amount);
}

function burnFrom(env: Env, sender: string, m: Json): Response {
  const owner = address(m.field("owner").text());
  const amount = m.field("amount").u128();
  m.done();
  use(env, owner, sender, amount);
  destroy(owner, amount);
  return done("burn_from").attribute("from", owner).attribute("by", sender).attribute("amount", amount.toString());
}

function sendFrom(env: Env, sender: string, m: Json): Response {
  const owner = address(m.field("owner").text());
  const to = address(m.field("contract").text());
  const amount = m.field("amount").u128();
  const msg = m.field("msg").bytes();
  m.done();
  use(env, owner, sender, amount);
  take(owner, amount);
  give(to, amount);
  return moved("send_from", owner, to, sender, amount).message(told(to, sender, amount, msg));
}

// minter returns who may make tokens, if that is the sender.
function minter(t: Token, sender: string): Minter {
  const m = t.mint;
  if (m === null || m.minter != sender) throw new Error("only the minter may");
  return m;
}

function mint(sender: string, m: Json): Response {
  const to = address(m.field("recipient").text());
  const amount = m.field("amount").u128();
  m.done();
  const t = token().load();
  t.supply = t.supply + amount;
  if (t.supply > minter(t, sender).cap) throw new Error("more than the cap");
  token().save(t);
  give(to, amount);
  return done("mint").attribute("to", to).attribute("amount", amount.toString());
}

function updateMinter(sender: string, m: Json): Response {
  const next = m.maybe("new_minter");
  m.done();
  const t = token().load();
  const now = minter(t, sender);
  if (next === null) t.mint = null;
  else now.minter = address(next.text());
  token().save(t);
  return done("update_minter").attribute("new_minter", next === null ? "None" : now.minter);
}

// presenter returns the token's marketing, if the sender may change it.
function presenter(sender: string): Marketing {
  const now = marketing().or(new Marketing());
  if (now.marketing.length == 0 || now.marketing != sender) throw new Error("only the marketing account may");
  return now;
}

// A text of nothing but spaces takes a field away; what is left out stays.
function updateMarketing(sender: string, m: Json): Response {
  const now = presenter(sender);
  now.project = optional(m, "project", now.project);
  now.description = optional(m, "description", now.description);
  now.marketing = optional(m, "marketing", now.marketing);
  m.done();
  if (now.marketing.length > 0) address(now.marketing);
  marketing().save(now);
  return done("update_marketing");
}

function uploadLogo(sender: string, m: Json): Response {
  presenter(sender);
  keepLogo(m);
  return done("upload_logo");
}
