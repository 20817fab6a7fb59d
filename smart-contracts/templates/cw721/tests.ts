// Tests of the collection.

export { allocate, deallocate, interface_version_8 } from "./kit/abi";

import { Env } from "./kit";
import { Tests, chosen, env, equal, from, json, listTests, parsed, refuses, runTest } from "./kit/testing";
import * as contract from "./contract";

function begin(): void {
  contract.instantiate(env(), from("alice"), parsed('{"name":"Sights","symbol":"SEE","minter":"mint"}'));
  does("mint", '{"mint":{"token_id":"one","owner":"alice","token_uri":"ipfs://x","extension":{"name":"One"}}}');
}

function does(sender: string, msg: string, at: Env = env()): void {
  contract.execute(at, from(sender), parsed(msg)).bytes();
}

function says(msg: string, want: string): void {
  equal(json(contract.query(env(), parsed(msg))), want);
}

function tests(t: Tests): Tests {
  t.test("moves, and forgets who might move it", () => {
    begin();
    does("alice", '{"approve":{"spender":"carol","token_id":"one"}}');
    does("alice", '{"transfer_nft":{"recipient":"bob","token_id":"one"}}');
    says('{"all_nft_info":{"token_id":"one"}}', '{"access":{"owner":"bob","approvals":[]},"info":{"token_uri":"ipfs://x","extension":{"name":"One"}}}');
    refuses("only the owner, or who is approved, may");
    does("carol", '{"transfer_nft":{"recipient":"carol","token_id":"one"}}');
  });
  t.test("an operator moves it until the right ends", () => {
    begin();
    does("alice", '{"approve_all":{"operator":"carol","expires":{"at_time":"1700000001000000000"}}}');
    refuses("only the owner, or who is approved, may");
    does("carol", '{"burn":{"token_id":"one"}}', env(1700000001));
  });
  t.test("a name is taken once", () => {
    begin();
    refuses("there is a token of that name");
    does("mint", '{"mint":{"token_id":"one","owner":"bob"}}');
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
