// What only this chain has: escrow, channels and leases of compute, what became of
// orders, what is known of nodes, and proofs. Keys, digests and field elements are
// texts of 64 hexadecimal digits.

import { Bytes } from "./abi";
import { Json, Writer } from "./json";
import { U128 } from "./ints";
import { custom } from "./messages";
import { Query } from "./queries";

// hexadecimal holds a text to the 64 digits that keys, digests and elements have.
export function hexadecimal(text: string): string {
  let ok = text.length == 64;
  for (let i = 0; ok && i < 64; i++) {
    const c = text.charCodeAt(i);
    ok = (c >= 0x30 && c <= 0x39) || (c >= 0x61 && c <= 0x66);
  }
  if (!ok) throw new Error("want 64 hexadecimal digits");
  return text;
}

// begin opens the object that names a message or a question, and that of its fields.
function begin(name: string): Writer {
  return new Writer().object().field(name).object();
}

function sent(w: Writer): Bytes {
  return custom(w.end().end());
}

function asked(w: Writer): Json {
  return Query.custom(w.end().end());
}

// Compute has the messages by which a contract pays for compute, out of what it has.
export namespace Compute {
  // deposit puts money into the contract's escrow at a cluster; withdraw takes it out,
  // and the chain brings it after a delay.
  export function deposit(cluster: string, amount: U128): Bytes {
    return sent(begin("deposit").field("cluster").text(cluster).field("amount").u128(amount));
  }

  export function withdraw(cluster: string, amount: U128): Bytes {
    return sent(begin("withdraw").field("cluster").text(cluster).field("amount").u128(amount));
  }

  // openChannel sets money aside for somebody, who gets of it what a key signs for. The
  // rest comes back when it was closed and its window, in milliseconds, is over.
  export function openChannel(payee: string, nonce: u64, signer: string, amount: U128, window: u64): Bytes {
    const w = begin("open_channel").field("payee").text(payee).field("nonce").u64Text(nonce);
    return sent(w.field("signer").text(signer).field("amount").u128(amount).field("window_ms").u64Text(window));
  }

  export function fundChannel(channel: string, amount: U128): Bytes {
    return sent(begin("fund_channel").field("channel").text(channel).field("amount").u128(amount));
  }

  export function closeChannel(channel: string): Bytes {
    return sent(begin("close_channel").field("channel").text(channel));
  }

  export function extendLease(node: string, order: string, amount: U128): Bytes {
    return sent(begin("extend_lease").field("node").text(node).field("order").text(order).field("amount").u128(amount));
  }
}

// ClaimState is a run that a node has claimed payment for.
@final
export class ClaimState {
  next: ClaimState | null = null; // of a list
  node: string;
  provider: string;
  sequence: u64;
  result: string;
  exit: string; // "ok", or why the run ended
  settled: bool; // it was paid, all of it
  verified: bool; // and a proof, or others who ran the same, show the result
  cost: U128;

  constructor(json: Json) {
    this.node = json.field("node").text();
    this.provider = json.field("provider").text();
    this.sequence = json.field("sequence").u64Text();
    this.result = json.field("result").text();
    this.exit = json.field("exit").text();
    this.settled = json.field("settled").bool();
    this.verified = json.field("verified").bool();
    this.cost = json.field("cost").u128();
  }
}

// OrderState is an order that has claims.
@final
export class OrderState {
  consumer: string;
  cluster: string;
  policy: string; // how its results are verified
  most: U128; // that it may cost
  spent: U128;
  deadline: u64; // in milliseconds since 1970
  closed: bool; // it is paid in full
  claims: ClaimState | null = null; // the first of them

  constructor(json: Json) {
    this.consumer = json.field("consumer").text();
    this.cluster = json.field("cluster").text();
    this.policy = json.field("policy").text();
    this.most = json.field("max_cost").u128();
    this.spent = json.field("spent").u128();
    this.deadline = json.field("deadline_ms").u64Text();
    this.closed = json.field("closed").bool();
    let last: ClaimState | null = null;
    let one = json.field("claims").head();
    while (one !== null) {
      const claim = new ClaimState(one);
      if (last === null) this.claims = claim;
      else last.next = claim;
      last = claim;
      one = one.tail();
    }
  }
}

// LeaseState is what a node keeps for a consumer.
@final
export class LeaseState {
  consumer: string;
  provider: string;
  cluster: string;
  terms: string; // the order whose terms hold
  rate: u64; // 10⁻¹⁸ HYPER a second
  held: U128; // what is left for the time after paid
  paid: u64; // up to when the provider was paid, in milliseconds since 1970
  expires: u64; // when it ends, if nobody adds to it
  closing: bool; // notice was given: it ends then, and nobody can add to it

  constructor(json: Json) {
    this.consumer = json.field("consumer").text();
    this.provider = json.field("provider").text();
    this.cluster = json.field("cluster").text();
    this.terms = json.field("terms").text();
    this.rate = json.field("rate").u64Text();
    this.held = json.field("held").u128();
    this.paid = json.field("paid_ms").u64Text();
    this.expires = json.field("expires_ms").u64Text();
    this.closing = json.field("closing").bool();
  }
}

// NodeState is a provider's node.
@final
export class NodeState {
  owner: string;
  bond: U128;
  score: u64; // of its reputation, in parts of a million

  constructor(json: Json) {
    this.owner = json.field("owner").text();
    this.bond = json.field("bond").u128();
    this.score = json.field("score").u64Text();
  }
}

// Statement is what a proof shows: that a kernel makes outputs of inputs. What it is
// bound to is of no meaning to the kernel: a proof for one is none for another.
@final
export class Statement {
  constructor(
    public kernel: string,
    public inputs: string[],
    public outputs: string[],
    public bind: string,
  ) {}
}

function elements(w: Writer, name: string, all: string[]): Writer {
  w.field(name).list();
  for (let i = 0; i < all.length; i++) w.text(all[i]);
  return w.end();
}

// Chain has the questions that only this chain answers.
export namespace Chain {
  // escrow returns how much a consumer has in escrow at a cluster.
  export function escrow(consumer: string, cluster: string): U128 {
    return asked(begin("escrow").field("consumer").text(consumer).field("cluster").text(cluster)).field("balance").u128();
  }

  // order returns what became of an order, nothing if it had no claim yet, or is too
  // long ago.
  export function order(id: string): OrderState | null {
    const found = asked(begin("order").field("id").text(id)).maybe("order");
    return found === null ? null : new OrderState(found);
  }

  // lease returns what a node keeps for a consumer by the order that it began with, nothing
  // if there is none, or it is over.
  export function lease(node: string, order: string): LeaseState | null {
    const found = asked(begin("lease").field("node").text(node).field("order").text(order)).maybe("lease");
    return found === null ? null : new LeaseState(found);
  }

  // node returns what is known of a node, nothing if nothing is.
  export function node(id: string): NodeState | null {
    const found = asked(begin("node").field("id").text(id)).maybe("node");
    return found === null ? null : new NodeState(found);
  }

  // proven tells whether a proof shows a statement, under the key that genesis pins.
  export function proven(statement: Statement, proof: Bytes): bool {
    const w = begin("verify_proof").field("kernel").text(statement.kernel);
    elements(elements(w, "inputs", statement.inputs), "outputs", statement.outputs);
    return asked(w.field("bind").text(statement.bind).field("proof").binary(proof)).field("valid").bool();
  }
}
