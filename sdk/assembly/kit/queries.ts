// What contracts ask the chain. A query whose answer is a refusal stops the contract,
// unless it is asked through ask.

import { Bytes, give, take } from "./abi";
import { Coins } from "./chain";
import { query_chain } from "./host";
import { Json, Writer } from "./json";
import { U128 } from "./ints";

// Answer is what came of a query.
@final
export class Answer {
  constructor(
    public ok: bool,
    public data: Bytes, // if it is ok
    public why: string, // if it is not
  ) {}

  json(): Json {
    if (!this.ok) throw new Error("query: " + this.why);
    return Json.parse(this.data);
  }
}

// ask asks the chain.
export function ask(request: Writer): Answer {
  const reached = Json.parse(take(query_chain(give(request.bytes())))).variant();
  if (!reached.named("ok")) return new Answer(false, new Bytes(), reached.variant().name());
  const answered = reached.variant();
  if (!answered.named("ok")) return new Answer(false, new Bytes(), answered.text());
  return new Answer(true, answered.bytes(), "");
}

function begin(module: string, name: string): Writer {
  return new Writer().object().field(module).object().field(name).object();
}

function asked(w: Writer): Json {
  return ask(w.end().end().end()).json();
}

// Query has the questions there are.
export namespace Query {
  // balance returns how much of a token an account has.
  export function balance(address: string, denom: string): U128 {
    return asked(begin("bank", "balance").field("address").text(address).field("denom").text(denom)).field("amount").field("amount").u128();
  }

  export function balances(address: string): Coins {
    const coins = new Coins();
    coins.read(asked(begin("bank", "all_balances").field("address").text(address)).field("amount"));
    return coins;
  }

  // supply returns how much there is of a token.
  export function supply(denom: string): U128 {
    return asked(begin("bank", "supply").field("denom").text(denom)).field("amount").field("amount").u128();
  }

  // smart has a contract answer.
  export function smart(contract: string, msg: Writer): Json {
    return asked(begin("wasm", "smart").field("contract_addr").text(contract).field("msg").binary(msg.bytes()));
  }

  // raw reads a contract's storage: nothing if there is nothing under the key.
  export function raw(contract: string, key: Bytes): Bytes | null {
    const w = begin("wasm", "raw").field("contract_addr").text(contract).field("key").binary(key);
    const answer = ask(w.end().end().end());
    if (!answer.ok) throw new Error("query: " + answer.why);
    return answer.data.length == 0 ? null : answer.data;
  }

  // contractInfo has code_id, creator, admin and pinned, codeInfo has code_id, creator
  // and checksum.
  export function contractInfo(contract: string): Json {
    return asked(begin("wasm", "contract_info").field("contract_addr").text(contract));
  }

  export function codeInfo(code: u64): Json {
    return asked(begin("wasm", "code_info").field("code_id").u64(code));
  }

  export function bondedDenom(): string {
    return asked(begin("staking", "bonded_denom")).field("denom").text();
  }

  // delegation returns how much is bonded, nothing if nothing is.
  export function delegation(delegator: string, validator: string): Json | null {
    return asked(begin("staking", "delegation").field("delegator").text(delegator).field("validator").text(validator)).maybe("delegation");
  }

  // custom asks what only this chain answers.
  export function custom(request: Writer): Json {
    return ask(new Writer().object().field("custom").json(request.bytes()).end()).json();
  }
}
