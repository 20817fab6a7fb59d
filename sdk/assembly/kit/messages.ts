// What contracts have the chain do. A message is JSON, for Response.message and
// Response.submessage.

import { Bytes } from "./abi";
import { Coin, Coins } from "./chain";
import { Writer } from "./json";

// begin opens the two objects that name a message's kind, and the one of its fields.
function begin(module: string, name: string): Writer {
  return new Writer().object().field(module).object().field(name).object();
}

function finish(w: Writer): Bytes {
  return w.end().end().end().bytes();
}

function funds(w: Writer, name: string, coins: Coins): Writer {
  w.field(name);
  coins.write(w);
  return w;
}

// Messages of the bank: the contract's coins.
export namespace Bank {
  export function send(to: string, amount: Coins): Bytes {
    return finish(funds(begin("bank", "send").field("to_address").text(to), "amount", amount));
  }

  export function burn(amount: Coins): Bytes {
    return finish(funds(begin("bank", "burn"), "amount", amount));
  }
}

function optional(w: Writer, name: string, text: string): Writer {
  w.field(name);
  return text.length == 0 ? w.null() : w.text(text);
}

// Messages to contracts. An admin that is empty is none.
export namespace Wasm {
  export function execute(contract: string, msg: Writer, coins: Coins = new Coins()): Bytes {
    return finish(funds(begin("wasm", "execute").field("contract_addr").text(contract).field("msg").binary(msg.bytes()), "funds", coins));
  }

  export function instantiate(code: u64, msg: Writer, label: string, admin: string = "", coins: Coins = new Coins()): Bytes {
    const w = optional(begin("wasm", "instantiate"), "admin", admin).field("code_id").u64(code).field("msg").binary(msg.bytes());
    return finish(funds(w, "funds", coins).field("label").text(label));
  }

  // instantiate2 makes a contract at an address that can be told before.
  export function instantiate2(code: u64, msg: Writer, label: string, salt: Bytes, admin: string = "", coins: Coins = new Coins()): Bytes {
    const w = optional(begin("wasm", "instantiate2"), "admin", admin).field("code_id").u64(code).field("label").text(label);
    return finish(funds(w.field("msg").binary(msg.bytes()), "funds", coins).field("salt").binary(salt));
  }

  export function migrate(contract: string, code: u64, msg: Writer): Bytes {
    return finish(begin("wasm", "migrate").field("contract_addr").text(contract).field("new_code_id").u64(code).field("msg").binary(msg.bytes()));
  }

  export function updateAdmin(contract: string, admin: string): Bytes {
    return finish(begin("wasm", "update_admin").field("contract_addr").text(contract).field("admin").text(admin));
  }

  export function clearAdmin(contract: string): Bytes {
    return finish(begin("wasm", "clear_admin").field("contract_addr").text(contract));
  }
}

function bond(name: string, validator: string, amount: Coin): Bytes {
  const w = begin("staking", name).field("validator").text(validator).field("amount");
  amount.write(w);
  return finish(w);
}

// Messages of staking.
export namespace Staking {
  export function delegate(validator: string, amount: Coin): Bytes {
    return bond("delegate", validator, amount);
  }

  export function undelegate(validator: string, amount: Coin): Bytes {
    return bond("undelegate", validator, amount);
  }

  export function redelegate(from: string, to: string, amount: Coin): Bytes {
    const w = begin("staking", "redelegate").field("src_validator").text(from).field("dst_validator").text(to).field("amount");
    amount.write(w);
    return finish(w);
  }
}

// Messages about rewards.
export namespace Distribution {
  export function setWithdrawAddress(address: string): Bytes {
    return finish(begin("distribution", "set_withdraw_address").field("address").text(address));
  }

  export function withdrawReward(validator: string): Bytes {
    return finish(begin("distribution", "withdraw_delegator_reward").field("validator").text(validator));
  }

  export function fundCommunityPool(amount: Coins): Bytes {
    return finish(funds(begin("distribution", "fund_community_pool"), "amount", amount));
  }
}

// vote votes on a proposal: yes, no, abstain or no_with_veto.
export function vote(proposal: u64, option: string): Bytes {
  return finish(begin("gov", "vote").field("proposal_id").u64(proposal).field("option").text(option));
}

// custom is a message of this chain alone.
export function custom(msg: Writer): Bytes {
  return new Writer().object().field("custom").json(msg.bytes()).end().bytes();
}
