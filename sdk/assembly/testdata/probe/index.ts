// A contract that does with the kit what it is asked to, for the kit's tests.

export { allocate, deallocate, interface_version_8 } from "./kit/abi";

import {
  Bank, Batch, Bytes, Chain, Coin, Coins, Compute, Distribution, Entries, Env, Event, Info, Item, Json, Map, Query, Reply, ReplyOn, Response, Staking, Statement, U128, U256, Wasm, Writer,
  address, answer, answerQuery, ask, canonical, custom, decode, ed25519Verify, encode, hashToG1, hashToG2, human, message, pairingsEqual, secp256k1Recover, secp256k1Verify, secp256r1Recover, secp256r1Verify, sha256, sumG1, sumG2, unknown, vote,
} from "./kit";

class Pair {
  left: string = "";
  right: i32 = 0;
  big: U128 = new U128();

  read(json: Json): void {
    this.left = json.field("left").text();
    this.right = <i32>json.field("right").i64();
    this.big = json.field("big").u128();
    json.done();
  }

  write(w: Writer): void {
    w.object().field("left").text(this.left).field("right").i64(this.right).field("big").u128(this.big).end();
  }
}

function pairs(): Map<string, Pair> {
  return new Map<string, Pair>("pairs");
}

// keyed is values by whole numbers of one kind, within parts.
function keyed<K extends number>(under: Json): Map<K, string> {
  let map = new Map<K, string>("keyed").under<string>(nameof<K>());
  let one = under.head();
  while (one !== null) {
    if (one.isText()) map = map.under<string>(one.text());
    else map = map.under<i32>(<i32>one.i64());
    one = one.tail();
  }
  return map;
}

// place puts a value under a key of a kind, or walks over those that are there.
function place<K extends number>(m: Json, w: Writer): void {
  const map = keyed<K>(m.field("under"));
  const key = m.maybe("key");
  const after = m.maybe("after");
  const before = m.maybe("before");
  const value = m.maybe("value");
  if (value !== null) {
    map.save(decode<K>(m.field("key")), value.text());
    return;
  }
  if (key !== null) {
    w.text(map.load(decode<K>(key)));
    return;
  }
  let entries = map.up();
  if (after !== null) entries = map.upAfter(decode<K>(after));
  else if (before !== null) entries = map.downBefore(decode<K>(before));
  else if (!m.field("up").bool()) entries = map.down();
  w.list();
  while (entries.next()) {
    encode<K>(w.list(), entries.key());
    w.text(entries.value()).end();
  }
  w.end();
}

function placed(m: Json): Writer {
  const w = new Writer();
  const kind = m.field("kind").text();
  if (kind == "i8") place<i8>(m, w);
  else if (kind == "i16") place<i16>(m, w);
  else if (kind == "i32") place<i32>(m, w);
  else if (kind == "i64") place<i64>(m, w);
  else if (kind == "u8") place<u8>(m, w);
  else if (kind == "u16") place<u16>(m, w);
  else if (kind == "u32") place<u32>(m, w);
  else if (kind == "u64") place<u64>(m, w);
  else throw new Error("no such kind");
  return w;
}

function numbered(): Map<u64, string> {
  return new Map<u64, string>("numbered");
}

export function instantiate(_env: usize, _info: usize, _msg: usize): usize {
  return answer(new Response());
}

export function execute(env: usize, info: usize, msg: usize): usize {
  const e = Env.at(env);
  const m = message(msg).variant();
  if (m.named("put")) return answer(put(m));
  if (m.named("place")) {
    placed(m);
    return answer(new Response());
  }
  if (m.named("everything")) return answer(everything(e, Info.at(info)));
  if (m.named("compute")) return answer(new Response().message(compute(m)));
  throw new Error(unknown(m));
}

// put stores pairs under owners, and texts under numbers.
function put(m: Json): Response {
  const key = m.field("key").text();
  const owner = m.maybe("owner");
  const value = m.maybe("value");
  const number = m.maybe("number");
  m.done();
  if (number !== null) numbered().save(number.u64(), key);
  else {
    const map = owner === null ? pairs() : pairs().under(owner.text());
    if (value === null) map.remove(key);
    else {
      const pair = new Pair();
      pair.read(value);
      map.save(key, pair);
    }
  }
  const count = new Item<u32>("count");
  count.save(count.or(0) + 1);
  return new Response();
}

// everything has each message that there is.
function everything(env: Env, info: Info): Response {
  const coins = info.funds();
  const msg = new Writer().object().field("burn").object().end().end();
  const bytes = Bytes.of("pay");
  const coin = new Coin(U128.of(5), "hyper");
  const r = new Response().attribute("sender", info.sender).attribute("chain", env.chain()).attribute("contract", env.contract());
  r.attribute("height", U128.of(env.height()).toString()).attribute("time", U128.of(env.time()).toString());
  r.attribute("hyper", coins.amount("hyper").toString());
  r.event(new Event("sale").attribute("price", "3 €").attribute("text", "\"\\\n\u0001"));
  r.message(Bank.send("bob", coins)).message(Bank.burn(new Coins()));
  r.submessage(1, Wasm.execute("token", msg, coins), ReplyOn.Always, 5000, bytes);
  r.submessage(u64.MAX_VALUE, Wasm.instantiate(7, msg, "a token"), ReplyOn.Success);
  r.submessage(2, Wasm.instantiate2(7, msg, "a token", bytes, "alice", coins), ReplyOn.Error);
  r.message(Wasm.migrate("token", 8, msg)).message(Wasm.updateAdmin("token", "bob")).message(Wasm.clearAdmin("token"));
  r.message(Staking.delegate("val", coin)).message(Staking.undelegate("val", coin)).message(Staking.redelegate("val", "wal", coin));
  r.message(Distribution.setWithdrawAddress("bob")).message(Distribution.withdrawReward("val")).message(Distribution.fundCommunityPool(coins));
  r.message(vote(3, "no_with_veto")).message(custom(msg));
  return r.answer(bytes);
}

// wide is a key, a digest or an element.
function wide(two: string): string {
  return two.repeat(32);
}

// compute is a message that only this chain has.
function compute(m: Json): Bytes {
  const name = m.field("send").text();
  const who = m.field("who").text();
  if (name == "deposit") return Compute.deposit(wide("aa"), U128.of(5));
  if (name == "withdraw") return Compute.withdraw(wide("aa"), U128.of(5));
  if (name == "open_channel") return Compute.openChannel(who, u64.MAX_VALUE, wide("cc"), U128.of(5), 60000);
  if (name == "fund_channel") return Compute.fundChannel(wide("dd"), U128.of(5));
  if (name == "close_channel") return Compute.closeChannel(wide("dd"));
  if (name == "extend_lease") return Compute.extendLease(wide("ee"), wide("ff"), U128.of(5));
  throw new Error("the kit has no message " + name);
}

export function reply(_env: usize, told: usize): usize {
  const r = Reply.at(told);
  const response = new Response().attribute("id", U128.of(r.id).toString()).attribute("gas", U128.of(r.gas).toString());
  if (r.failed()) return answer(response.attribute("error", r.error));
  const data = r.data();
  if (data !== null) response.answer(data);
  return answer(response.attribute("payload", r.payload.text()));
}

export function query(_env: usize, msg: usize): usize {
  const m = message(msg).variant();
  if (m.named("place")) return answerQuery(placed(m));
  const w = new Writer();
  if (m.named("u128")) small(m, w);
  else if (m.named("u256")) large(m, w);
  else if (m.named("echo")) echo(m, w);
  else if (m.named("walk")) walk(m, w);
  else if (m.named("numbers")) numbers(m, w);
  else if (m.named("sha256")) w.binary(sha256(m.bytes()));
  else if (m.named("signature")) signature(m, w);
  else if (m.named("batch")) batch(m, w);
  else if (m.named("bls")) pairings(m, w);
  else if (m.named("address")) w.list().text(address(m.text())).binary(canonical(m.text())).text(human(canonical(m.text()))).end();
  else if (m.named("canonical")) w.binary(canonical(m.text()));
  else if (m.named("human")) w.text(human(m.bytes()));
  else if (m.named("ask")) questions(m, w);
  else if (m.named("chain")) chain(m, w);
  else throw new Error(unknown(m));
  return answerQuery(w);
}

function small(m: Json, w: Writer): void {
  const a = m.field("a").u128();
  const b = m.field("b").u128();
  const op = m.field("op").text();
  if (op == "+") w.u128(a + b);
  else if (op == "-") w.u128(a - b);
  else if (op == "*") w.u128(a * b);
  else if (op == "/") w.u128(a / b);
  else if (op == "%") w.u128(a % b);
  else if (op == "share") w.u128(a.share(b, m.field("c").u128()));
  else if (op == "compare") compare(w, a < b, a <= b, a == b, a != b, a >= b, a > b);
  else throw new Error("no such operation");
}

function large(m: Json, w: Writer): void {
  const a = m.field("a").u256();
  const b = m.field("b").u256();
  const op = m.field("op").text();
  if (op == "+") w.u256(a + b);
  else if (op == "-") w.u256(a - b);
  else if (op == "*") w.u256(a * b);
  else if (op == "/") w.u256(a / b);
  else if (op == "%") w.u256(a % b);
  else if (op == "narrow") w.u128(a.narrow());
  else if (op == "bytes") w.list().binary(a.toBytes()).u256(U256.unsigned(a.toBytes())).end();
  else if (op == "compare") compare(w, a < b, a <= b, a == b, a != b, a >= b, a > b);
  else throw new Error("no such operation");
}

function compare(w: Writer, a: bool, b: bool, c: bool, d: bool, e: bool, f: bool): void {
  w.list().bool(a).bool(b).bool(c).bool(d).bool(e).bool(f).end();
}

// echo writes what it has read.
function echo(m: Json, w: Writer): void {
  w.list();
  let one = m.head();
  while (one !== null) {
    const v = one.variant();
    if (v.named("text")) w.text(v.text());
    else if (v.named("bytes")) w.binary(v.bytes());
    else if (v.named("u64")) w.u64(v.u64());
    else if (v.named("u32")) w.u64(v.u32());
    else if (v.named("i64")) w.i64(v.i64());
    else if (v.named("quoted")) w.u64Text(v.u64Text());
    else if (v.named("bool")) w.bool(v.bool());
    else if (v.named("raw")) w.json(v.raw());
    else if (v.named("inner")) w.json(Json.parse(v.bytes()).raw());
    else if (v.named("u256")) w.u256(v.u256());
    else throw new Error(unknown(v));
    one = one.tail();
  }
  w.end();
}

function listed(w: Writer, entries: Entries<string, Pair>): void {
  w.list();
  while (entries.next()) {
    w.list().text(entries.key());
    encode<Pair>(w, entries.value());
    w.end();
  }
  w.end();
}

function walk(m: Json, w: Writer): void {
  const owner = m.maybe("owner");
  const after = m.maybe("after");
  const before = m.maybe("before");
  const map = owner === null ? pairs() : pairs().under(owner.text());
  if (after !== null) listed(w, map.upAfter(after.text()));
  else if (before !== null) listed(w, map.downBefore(before.text()));
  else if (m.field("up").bool()) listed(w, map.up());
  else listed(w, map.down());
}

function numbers(m: Json, w: Writer): void {
  const after = m.maybe("after");
  const entries = after === null ? numbered().down() : numbered().upAfter(after.u64());
  w.list();
  while (entries.next()) w.list().u64(entries.key()).text(entries.value()).end();
  w.end();
}

function signature(m: Json, w: Writer): void {
  const kind = m.field("kind").text();
  const hash = m.field("message").bytes();
  const made = m.field("signature").bytes();
  const key = m.maybe("key");
  if (key === null) w.binary(kind == "k1" ? secp256k1Recover(hash, made, m.field("parity").u32()) : secp256r1Recover(hash, made, m.field("parity").u32()));
  else if (kind == "k1") w.bool(secp256k1Verify(hash, made, key.bytes()));
  else if (kind == "r1") w.bool(secp256r1Verify(hash, made, key.bytes()));
  else w.bool(ed25519Verify(hash, made, key.bytes()));
}

function batch(m: Json, w: Writer): void {
  const all = new Batch();
  let one = m.head();
  while (one !== null) {
    all.add(one.field("message").bytes(), one.field("signature").bytes(), one.field("key").bytes());
    one = one.tail();
  }
  w.bool(all.verify());
}

function questions(m: Json, w: Writer): void {
  const name = m.text();
  const msg = new Writer().object().field("balance").object().end().end();
  if (name == "balance") w.u128(Query.balance("bob", "hyper"));
  else if (name == "balances") Query.balances("bob").write(w);
  else if (name == "supply") w.u128(Query.supply("hyper"));
  else if (name == "smart") w.u128(Query.smart("token", msg).field("balance").u128());
  else if (name == "raw") {
    const found = Query.raw("token", Bytes.of("count"));
    if (found === null) w.null();
    else w.binary(found);
  } else if (name == "contract") w.u64(Query.contractInfo("token").field("code_id").u64());
  else if (name == "code") w.text(Query.codeInfo(7).field("creator").text());
  else if (name == "bonded") w.text(Query.bondedDenom());
  else if (name == "delegation") w.bool(Query.delegation("bob", "val") !== null);
  else if (name == "custom") w.bool(Query.custom(msg).field("valid").bool());
  else {
    const answer = ask(new Writer().object().field("custom").json(msg.bytes()).end());
    w.list().bool(answer.ok).text(answer.why).end();
  }
}

// chain asks what only this chain answers.
function chain(m: Json, w: Writer): void {
  const name = m.field("ask").text();
  if (name == "escrow") w.u128(Chain.escrow(m.field("who").text(), wide("aa")));
  else if (name == "order") order(w);
  else if (name == "lease") lease(w);
  else if (name == "node") node(w);
  else if (name == "verify_proof") w.bool(Chain.proven(new Statement("matmul-4", [wide("0a"), wide("0b")], [wide("0c")], wide("0d")), Bytes.of("pay")));
  else throw new Error("the kit has no question " + name);
}

function order(w: Writer): void {
  const o = Chain.order(wide("aa"));
  if (o === null) {
    w.null();
    return;
  }
  w.list().text(o.consumer).text(o.cluster).text(o.policy).u128(o.most).u128(o.spent).u64(o.deadline).bool(o.closed);
  let c = o.claims;
  while (c !== null) {
    w.list().text(c.node).text(c.provider).u64(c.sequence).text(c.result).text(c.exit).bool(c.settled).bool(c.verified).u128(c.cost).end();
    c = c.next;
  }
  w.end();
}

function lease(w: Writer): void {
  const l = Chain.lease(wide("ee"), wide("ff"));
  if (l === null) {
    w.null();
    return;
  }
  w.list().text(l.consumer).text(l.provider).text(l.cluster).text(l.terms).u64(l.rate).u128(l.held).u64(l.paid).u64(l.expires).bool(l.closing).end();
}

function node(w: Writer): void {
  const n = Chain.node(wide("aa"));
  if (n === null) w.null();
  else w.list().text(n.owner).u128(n.bond).u64(n.score).end();
}

function pairings(m: Json, w: Writer): void {
  const op = m.field("op").text();
  const a = m.field("a").bytes();
  const b = m.field("b").bytes();
  if (op == "sum_g1") w.binary(sumG1(a));
  else if (op == "sum_g2") w.binary(sumG2(a));
  else if (op == "hash_g1") w.binary(hashToG1(a, b));
  else if (op == "hash_g2") w.binary(hashToG2(a, b));
  else w.bool(pairingsEqual(a, b, m.field("c").bytes(), m.field("d").bytes()));
}
