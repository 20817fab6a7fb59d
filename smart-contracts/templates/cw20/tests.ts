// Tests of the token.

export { allocate, deallocate, interface_version_8 } from "./kit/abi";

import { Env } from "./kit";
import { Tests, chosen, env, equal, from, json, listTests, parsed, refuses, runTest } from "./kit/testing";
import * as contract from "./contract";

function begin(): void {
  const msg =
    '{"name":"Test token","symbol":"TEST","decimals":6,"initial_balances":[{"address":"alice","amount":"100"}],"mint":{"minter":"mint","cap":"150"}}';
  contract.instantiate(env(), from("alice"), parsed(msg));
}

function does(sender: string, msg: string, at: Env = env()): string {
  return contract.execute(at, from(sender), parsed(msg)).bytes().text();
}

function says(msg: string, want: string): void {
  equal(json(contract.query(env(), parsed(msg))), want);
}

function tests(t: Tests): Tests {
  t.test("moves", () => {
    begin();
    does("alice", '{"transfer":{"recipient":"bob","amount":"40"}}');
    says('{"balance":{"address":"alice"}}', '{"balance":"60"}');
    says('{"balance":{"address":"bob"}}', '{"balance":"40"}');
    refuses("not enough tokens");
    does("bob", '{"transfer":{"recipient":"alice","amount":"41"}}');
  });
  t.test("to oneself is neither more nor less", () => {
    begin();
    does("alice", '{"transfer":{"recipient":"alice","amount":"100"}}');
    says('{"balance":{"address":"alice"}}', '{"balance":"100"}');
  });
  t.test("is made up to the cap", () => {
    begin();
    does("mint", '{"mint":{"recipient":"bob","amount":"50"}}');
    says('{"token_info":{}}', '{"name":"Test token","symbol":"TEST","decimals":6,"total_supply":"150"}');
    refuses("more than the cap");
    does("mint", '{"mint":{"recipient":"bob","amount":"1"}}');
  });
  t.test("is made by the minter alone", () => {
    begin();
    refuses("only the minter may");
    does("alice", '{"mint":{"recipient":"bob","amount":"1"}}');
  });
  t.test("a contract is told", () => {
    begin();
    equal(
      does("alice", '{"send":{"contract":"shop","amount":"5","msg":"e30="}}'),
      '{"messages":[{"id":0,"msg":{"wasm":{"execute":{"contract_addr":"shop","msg":"eyJyZWNlaXZlIjp7InNlbmRlciI6ImFsaWNlIiwiYW1vdW50IjoiNSIsIm1zZyI6ImUzMD0ifX0=","funds":[]}}},"gas_limit":null,"reply_on":"never"}],"attributes":[{"key":"action","value":"send"},{"key":"from","value":"alice"},{"key":"to","value":"shop"},{"key":"amount","value":"5"}],"events":[],"data":null}',
    );
  });
  t.test("an allowance is used up", () => {
    begin();
    does("alice", '{"increase_allowance":{"spender":"bob","amount":"10"}}');
    does("bob", '{"transfer_from":{"owner":"alice","recipient":"carol","amount":"10"}}');
    says('{"allowance":{"owner":"alice","spender":"bob"}}', '{"allowance":"0","expires":{"never":{}}}');
    refuses("not allowed so much");
    does("bob", '{"transfer_from":{"owner":"alice","recipient":"carol","amount":"1"}}');
  });
  t.test("an allowance ends", () => {
    begin();
    does("alice", '{"increase_allowance":{"spender":"bob","amount":"10","expires":{"at_time":"1700000001000000000"}}}');
    does("bob", '{"burn_from":{"owner":"alice","amount":"1"}}');
    refuses("the allowance is over");
    does("bob", '{"burn_from":{"owner":"alice","amount":"1"}}', env(1700000001));
  });
  return t;
}

export function query(_env: usize, _msg: usize): usize {
  return listTests(tests(new Tests(-1)));
}

export function execute(_env: usize, _info: usize, msg: usize): usize {
  tests(new Tests(chosen(msg)));
  return runTest();
}
