// A collection of tokens of which each is another, with the messages of cw721-base.

import { Bank, Bytes, Coin, Coins, Env, Expires, Info, Json, Response, Wasm, Writer, address, unknown, version } from "./kit";
import { Collection, Ownership, Token, collection, count, operators, owned, ownership, purse, tokens } from "./state";
export { query } from "./queries";

const maxName = 128; // letters of a token's name

export function instantiate(_env: Env, info: Info, msg: Json): Response {
  info.noFunds();
  version("hypermesh:cw721", "1.0.0");
  const c = new Collection();
  c.name = msg.field("name").text();
  c.symbol = msg.field("symbol").text();
  const who = msg.maybe("minter");
  const to = msg.maybe("withdraw_address");
  msg.done();
  if (to !== null) purse().save(address(to.text()));
  const o = new Ownership();
  o.owner = who === null ? info.sender : address(who.text());
  ownership().save(o);
  collection().save(c);
  count().save(0);
  return new Response();
}

export function execute(env: Env, info: Info, msg: Json): Response {
  info.noFunds();
  const m = msg.variant();
  if (m.named("transfer_nft")) return transfer(env, info.sender, m);
  if (m.named("send_nft")) return send(env, info.sender, m);
  if (m.named("approve")) return approve(env, info.sender, m);
  if (m.named("revoke")) return revoke(env, info.sender, m);
  if (m.named("approve_all")) return approveAll(env, info.sender, m);
  if (m.named("revoke_all")) return revokeAll(info.sender, m);
  if (m.named("mint")) return mint(info.sender, m);
  if (m.named("burn")) return burn(env, info.sender, m);
  if (m.named("update_ownership")) return updateOwnership(env, info.sender, m);
  if (m.named("set_withdraw_address")) return setWithdrawAddress(info.sender, m);
  if (m.named("remove_withdraw_address")) return removeWithdrawAddress(info.sender, m);
  if (m.named("withdraw_funds")) return withdrawFunds(m);
  if (m.named("extension")) return extension(m);
  throw new Error(unknown(m));
}

function done(action: string, sender: string): Response {
  return new Response().attribute("action", action).attribute("sender", sender);
}

// operates tells whether somebody may move all that an owner has.
function operates(env: Env, owner: string, who: string): bool {
  return who == owner || (operators(owner).has(who) && !operators(owner).load(who).passed(env));
}

// mine returns a token whose approvals somebody may change, movable one that they may move.
function mine(env: Env, who: string, id: string): Token {
  const t = tokens().load(id);
  if (!operates(env, t.owner, who)) throw new Error("only the owner may");
  return t;
}

function movable(env: Env, who: string, id: string): Token {
  const t = tokens().load(id);
  const approval = t.approval(who);
  if (approval !== null && !approval.expires.passed(env)) return t;
  if (!operates(env, t.owner, who)) throw new Error("only the owner, or who is approved, may");
  return t;
}

function hand(id: string, t: Token, to: string): void {
  owned(t.owner).remove(id);
  t.handTo(to);
  tokens().save(id, t);
  owned(to).save(id, true);
}

function transfer(env: Env, sender: string, m: Json): Response {
  const to = address(m.field("recipient").text());
  const id = m.field("token_id").text();
  m.done();
  hand(id, movable(env, sender, id), to);
  return done("transfer_nft", sender).attribute("recipient", to).attribute("token_id", id);
}

function told(contract: string, by: string, id: string, msg: Bytes): Bytes {
  const w = new Writer().object().field("receive_nft").object();
  w.field("sender").text(by).field("token_id").text(id).field("msg").binary(msg);
  return Wasm.execute(contract, w.end().end());
}

function send(env: Env, sender: string, m: Json): Response {
  const to = address(m.field("contract").text());
  const id = m.field("token_id").text();
  const msg = m.field("msg").bytes();
  m.done();
  hand(id, movable(env, sender, id), to);
  return done("send_nft", sender).attribute("recipient", to).attribute("token_id", id).message(told(to, sender, id, msg));
}

// ends reads when a right ends, which must be later.
function ends(env: Env, m: Json): Expires {
  const e = Expires.from(m.maybe("expires"));
  if (e.passed(env)) throw new Error("it would be over already");
  return e;
}

function approve(env: Env, sender: string, m: Json): Response {
  const spender = address(m.field("spender").text());
  const id = m.field("token_id").text();
  const until = ends(env, m);
  m.done();
  const t = mine(env, sender, id);
  t.approve(spender, until);
  tokens().save(id, t);
  return done("approve", sender).attribute("spender", spender).attribute("token_id", id);
}

function revoke(env: Env, sender: string, m: Json): Response {
  const spender = address(m.field("spender").text());
  const id = m.field("token_id").text();
  m.done();
  const t = mine(env, sender, id);
  t.revoke(spender);
  tokens().save(id, t);
  return done("revoke", sender).attribute("spender", spender).attribute("token_id", id);
}

function approveAll(env: Env, sender: string, m: Json): Response {
  const operator = address(m.field("operator").text());
  const until = ends(env, m);
  m.done();
  operators(sender).save(operator, until);
  return done("approve_all", sender).attribute("operator", operator);
}

function revokeAll(sender: string, m: Json): Response {
  const operator = address(m.field("operator").text());
  m.done();
  operators(sender).remove(operator);
  return done("revoke_all", sender).attribute("operator", operator);
}

// onlyMinter refuses all but whose the collection is.
function onlyMinter(o: Ownership, sender: string): void {
  if (o.owner != sender) throw new Error("only the minter may");
}

function mint(sender: string, m: Json): Response {
  onlyMinter(ownership().load(), sender);
  const id = m.field("token_id").text();
  const t = new Token();
  t.owner = address(m.field("owner").text());
  const uri = m.maybe("token_uri");
  if (uri !== null) t.uri = uri.text();
  const extension = m.maybe("extension");
  if (extension !== null) t.extension.read(extension);
  m.done();
  if (id.length == 0 || id.length > maxName) throw new Error("a token's name has 1 to 128 letters");
  if (tokens().has(id)) throw new Error("there is a token of that name");
  tokens().save(id, t);
  owned(t.owner).save(id, true);
  count().save(count().load() + 1);
  return new Response().attribute("action", "mint").attribute("minter", sender).attribute("owner", t.owner).attribute("token_id", id);
}

function burn(env: Env, sender: string, m: Json): Response {
  const id = m.field("token_id").text();
  m.done();
  owned(movable(env, sender, id).owner).remove(id);
  tokens().remove(id);
  count().save(count().load() - 1);
  return done("burn", sender).attribute("token_id", id);
}

// What is sent to the collection's address goes to where its owner has said, and nowhere before that.
function setWithdrawAddress(sender: string, m: Json): Response {
  onlyMinter(ownership().load(), sender);
  const to = address(m.field("address").text());
  m.done();
  purse().save(to);
  return new Response().attribute("action", "set_withdraw_address").attribute("address", to);
}

function removeWithdrawAddress(sender: string, m: Json): Response {
  onlyMinter(ownership().load(), sender);
  m.done();
  const to = purse().load();
  purse().remove();
  return new Response().attribute("action", "remove_withdraw_address").attribute("address", to);
}

function withdrawFunds(m: Json): Response {
  const amount = m.field("amount");
  const coin = new Coin();
  coin.read(amount);
  amount.done();
  m.done();
  const r = new Response().attribute("action", "withdraw_funds").attribute("amount", coin.amount.toString()).attribute("denom", coin.denom);
  return r.message(Bank.send(purse().load(), Coins.of(coin.amount, coin.denom)));
}

// extension is where collections with messages of their own have them; this one has none.
function extension(m: Json): Response {
  m.field("msg").done();
  m.done();
  return new Response();
}

// updateOwnership hands the collection to somebody, whose it is once they accept it, or to nobody for good.
function updateOwnership(env: Env, sender: string, m: Json): Response {
  const now = ownership().load();
  const o = m.isText() ? decided(env, now, sender, m.text()) : offered(now, sender, m.variant());
  ownership().save(o);
  const until = o.until;
  const r = new Response().attribute("owner", orNone(o.owner)).attribute("pending_owner", orNone(o.pending));
  return r.attribute("pending_expiry", until === null ? "none" : until.toString());
}

function orNone(who: string): string {
  return who.length == 0 ? "none" : who;
}

function offered(o: Ownership, sender: string, action: Json): Ownership {
  if (!action.named("transfer_ownership")) throw new Error("unknown action " + action.name());
  onlyMinter(o, sender);
  o.pending = address(action.field("new_owner").text());
  const until = action.maybe("expiry");
  action.done();
  o.until = until === null ? null : Expires.from(until);
  return o;
}

function decided(env: Env, now: Ownership, sender: string, action: string): Ownership {
  const o = new Ownership();
  if (action == "renounce_ownership") {
    onlyMinter(now, sender);
    return o;
  }
  if (action != "accept_ownership") throw new Error("unknown action " + action);
  if (now.pending != sender) throw new Error("the collection is not offered to the sender");
  const until = now.until;
  if (until !== null && until.passed(env)) throw new Error("the offer is over");
  o.owner = sender;
  return o;
}
