// What contracts are told of a call, and what they answer.

import { Bytes, give, take } from "./abi";
import { Json, Writer } from "./json";
import { U128 } from "./ints";

// Env is where a call happens. It is read when a contract first asks.
@final
export class Env {
  private json: Json | null = null;

  constructor(private text: Bytes) {}

  static at(region: usize): Env {
    return new Env(take(region));
  }

  private field(section: string, name: string): Json {
    let json = this.json;
    if (json === null) {
      json = Json.parse(this.text);
      this.json = json;
    }
    return json.field(section).field(name);
  }

  height(): u64 {
    return this.field("block", "height").u64();
  }

  // time is in nanoseconds since 1970, seconds in seconds.
  time(): u64 {
    return this.field("block", "time").u64Text();
  }

  seconds(): u64 {
    return this.time() / 1000000000;
  }

  chain(): string {
    return this.field("block", "chain_id").text();
  }

  // contract is its address.
  contract(): string {
    return this.field("contract", "address").text();
  }
}

// Coin is an amount of a token of the chain.
@final
export class Coin {
  next: Coin | null = null; // of a list

  constructor(
    public amount: U128 = new U128(),
    public denom: string = "",
  ) {}

  read(json: Json): void {
    this.amount = json.field("amount").u128();
    this.denom = json.field("denom").text();
  }

  write(w: Writer): void {
    w.object().field("denom").text(this.denom).field("amount").u128(this.amount).end();
  }
}

// Coins is a list of coins.
@final
export class Coins {
  first: Coin | null = null;
  private last: Coin | null = null;

  static of(amount: U128, denom: string): Coins {
    return new Coins().and(amount, denom);
  }

  and(amount: U128, denom: string): Coins {
    const coin = new Coin(amount, denom);
    const last = this.last;
    if (last === null) this.first = coin;
    else last.next = coin;
    this.last = coin;
    return this;
  }

  read(json: Json): void {
    let one = json.head();
    while (one !== null) {
      this.and(one.field("amount").u128(), one.field("denom").text());
      one = one.tail();
    }
  }

  write(w: Writer): void {
    w.list();
    let one = this.first;
    while (one !== null) {
      one.write(w);
      one = one.next;
    }
    w.end();
  }

  isEmpty(): bool {
    return this.first === null;
  }

  // amount returns how much there is of a token.
  amount(denom: string): U128 {
    let sum = new U128();
    let one = this.first;
    while (one !== null) {
      if (one.denom == denom) sum = sum + one.amount;
      one = one.next;
    }
    return sum;
  }

  // only returns how much of a token there is, and refuses any other.
  only(denom: string): U128 {
    let one = this.first;
    while (one !== null) {
      if (one.denom != denom) throw new Error("only " + denom + " is taken");
      one = one.next;
    }
    return this.amount(denom);
  }
}

// Info is who calls, and what they have sent.
@final
export class Info {
  sender: string;

  constructor(private json: Json) {
    this.sender = json.field("sender").text();
  }

  static at(region: usize): Info {
    return new Info(Json.parse(take(region)));
  }

  funds(): Coins {
    const coins = new Coins();
    coins.read(this.json.field("funds"));
    return coins;
  }

  // noFunds refuses funds: a contract that has no use for them keeps them for good.
  noFunds(): void {
    if (this.json.field("funds").head() !== null) throw new Error("no funds are taken");
  }
}

// message reads the message of a call.
export function message(region: usize): Json {
  return Json.parse(take(region));
}

// unknown is why a message is refused that the contract does not know.
export function unknown(variant: Json): string {
  return "unknown message " + variant.name();
}

// ReplyOn says after which ends of a submessage the contract is called.
export enum ReplyOn {
  Always,
  Error,
  Success,
  Never,
}

// Event is something that happened, for those who watch the chain.
@final
export class Event {
  private w: Writer = new Writer();

  constructor(type: string) {
    this.w.object().field("type").text(type).field("attributes").list();
  }

  attribute(key: string, value: string): Event {
    pair(this.w, key, value);
    return this;
  }

  bytes(): Bytes {
    return this.w.end().end().bytes();
  }
}

function pair(w: Writer, key: string, value: string): void {
  w.object().field("key").text(key).field("value").text(value).end();
}

// Response is what a call answers, and what it has the chain do.
@final
export class Response {
  private messages: Writer = new Writer().list();
  private attributes: Writer = new Writer().list();
  private events: Writer = new Writer().list();
  private data: Bytes | null = null;

  // attribute says something in the contract's own event.
  attribute(key: string, value: string): Response {
    pair(this.attributes, key, value);
    return this;
  }

  event(event: Event): Response {
    this.events.json(event.bytes());
    return this;
  }

  // message has the chain do something after this call; if it fails, so does all.
  message(message: Bytes): Response {
    return this.submessage(0, message, ReplyOn.Never);
  }

  // submessage has the contract's reply called after it. A limit of 0 is none.
  submessage(id: u64, message: Bytes, on: ReplyOn, limit: u64 = 0, payload: Bytes = new Bytes()): Response {
    const w = this.messages;
    w.object().field("id").u64(id);
    if (payload.length > 0) w.field("payload").binary(payload);
    w.field("msg").json(message).field("gas_limit");
    if (limit == 0) w.null();
    else w.u64(limit);
    w.field("reply_on").text(on == ReplyOn.Never ? "never" : on == ReplyOn.Success ? "success" : on == ReplyOn.Error ? "error" : "always");
    w.end();
    return this;
  }

  // answer is data for whoever called.
  answer(data: Bytes): Response {
    this.data = data;
    return this;
  }

  bytes(): Bytes {
    const w = new Writer().object();
    w.field("messages").json(this.messages.end().bytes());
    w.field("attributes").json(this.attributes.end().bytes());
    w.field("events").json(this.events.end().bytes());
    w.field("data");
    const data = this.data;
    if (data === null) w.null();
    else w.binary(data);
    return w.end().bytes();
  }
}

// answer ends a call, and answerQuery one that asked.
export function answer(response: Response): usize {
  return give(new Writer().object().field("ok").json(response.bytes()).end().bytes());
}

export function answerQuery(w: Writer): usize {
  return give(new Writer().object().field("ok").binary(w.bytes()).end().bytes());
}

// Reply is how a submessage ended.
@final
export class Reply {
  id: u64 = 0;
  payload: Bytes = new Bytes();
  gas: u64 = 0;
  error: string = "";
  ok: Json = new Json(); // events, data, msg_responses

  static at(region: usize): Reply {
    const json = Json.parse(take(region));
    const reply = new Reply();
    reply.id = json.field("id").u64();
    reply.gas = json.field("gas_used").u64();
    const payload = json.maybe("payload");
    if (payload !== null) reply.payload = payload.bytes();
    const result = json.field("result").variant();
    if (result.named("ok")) reply.ok = result;
    else reply.error = result.text();
    return reply;
  }

  failed(): bool {
    return this.error.length > 0;
  }

  // data is what the submessage answered, nothing if it did not.
  data(): Bytes | null {
    const data = this.ok.maybe("data");
    return data === null ? null : data.bytes();
  }
}
