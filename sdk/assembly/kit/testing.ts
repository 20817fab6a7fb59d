// Tests of contracts, run on the chain's own machine by `hypermesh contract test`.
// Each test has a storage of its own. What the tests tell the host stands in that
// storage, under keys that begin with a byte that no text has.

import { Bytes, give, take } from "./abi";
import { Coins, Env, Info, answer, answerQuery, Response } from "./chain";
import { db_write } from "./host";
import { Json, Writer } from "./json";

// Tests is a list of tests, of which one is to run.
@final
export class Tests {
  private names: Writer = new Writer().list();
  private at: i32 = 0;

  constructor(private chosen: i32) {}

  // test is one test: it passes if it ends, or if it is refused as it says.
  test(name: string, body: () => void): void {
    if (this.at++ == this.chosen) body();
    this.names.text(name);
  }

  list(): Writer {
    return this.names.end();
  }
}

// listTests and runTest are the query and execute of a module of tests.
export function listTests(tests: Tests): usize {
  return answerQuery(tests.list());
}

export function runTest(): usize {
  return answer(new Response());
}

// chosen is the number of the test that a message asks for.
export function chosen(msg: usize): i32 {
  return <i32>Json.parse(take(msg)).field("run").u32();
}

function hidden(): Bytes {
  return Bytes.integer<u8>(0xff);
}

// refuses says that what follows stops the contract, with these words.
export function refuses(text: string): void {
  db_write(give(hidden()), give(Bytes.of(text)));
}

// answers says what the chain answers to a query, both as JSON.
export function answers(query: string, reply: string): void {
  db_write(give(hidden().then(Bytes.of(query))), give(Bytes.of(reply)));
}

// equal holds two values that can be written as JSON against each other.
export function equal(got: string, want: string): void {
  if (got != want) throw new Error("got " + got + ", want " + want);
}

// json returns a value as text.
export function json(w: Writer): string {
  return w.bytes().text();
}

// parsed reads a text.
export function parsed(text: string): Json {
  return Json.parse(Bytes.of(text));
}

// env is a call in some block.
export function env(seconds: u64 = 1700000000): Env {
  const w = new Writer().object().field("block").object();
  w.field("height").u64(12345).field("time").u64Text(seconds * 1000000000).field("chain_id").text("test-1").end();
  w.field("transaction").object().field("index").u64(0).end();
  return new Env(w.field("contract").object().field("address").text("contract").end().end().bytes());
}

// from is a call by somebody.
export function from(sender: string, funds: Coins = new Coins()): Info {
  const w = new Writer().object().field("sender").text(sender).field("funds");
  funds.write(w);
  return new Info(Json.parse(w.end().bytes()));
}
