// Tests of the multisig.

export { allocate, deallocate, interface_version_8 } from "./kit/abi";

import { Env } from "./kit";
import { Tests, chosen, env, equal, from, json, listTests, parsed, refuses, runTest } from "./kit/testing";
import * as contract from "./contract";

const start: u64 = 1700000000;

function begin(): void {
  const msg =
    '{"voters":[{"addr":"alice","weight":1},{"addr":"bob","weight":1},{"addr":"carol","weight":1}],"threshold":{"absolute_count":{"weight":2}},"max_voting_period":{"time":1000},"delay":100}';
  contract.instantiate(env(), from("alice"), parsed(msg));
}

function does(sender: string, msg: string, at: Env = env()): string {
  return contract.execute(at, from(sender), parsed(msg)).bytes().text();
}

function says(msg: string, want: string): void {
  equal(json(contract.query(env(), parsed(msg))), want);
}

function propose(): void {
  does("alice", '{"propose":{"title":"t","description":"d","msgs":[ {"bank": {"burn":{"amount":[]}} } ]}}');
}

function tests(t: Tests): Tests {
  t.test("sends what two agreed to, after the delay", () => {
    begin();
    propose();
    does("carol", '{"vote":{"proposal_id":1,"vote":"yes"}}');
    equal(
      does("dave", '{"execute":{"proposal_id":1}}', env(start + 100)),
      '{"messages":[{"id":0,"msg":{"bank": {"burn":{"amount":[]}} },"gas_limit":null,"reply_on":"never"}],"attributes":[{"key":"action","value":"execute"},{"key":"sender","value":"dave"},{"key":"proposal_id","value":"1"}],"events":[],"data":null}',
    );
  });
  t.test("waits", () => {
    begin();
    propose();
    does("carol", '{"vote":{"proposal_id":1,"vote":"yes"}}');
    refuses("it waits still");
    does("dave", '{"execute":{"proposal_id":1}}', env(start + 99));
  });
  t.test("one is not enough", () => {
    begin();
    propose();
    refuses("not enough agree");
    does("alice", '{"execute":{"proposal_id":1}}', env(start + 500));
  });
  t.test("who thinks again is not counted", () => {
    begin();
    propose();
    does("bob", '{"vote":{"proposal_id":1,"vote":"yes"}}');
    does("bob", '{"vote":{"proposal_id":1,"vote":"abstain"}}');
    refuses("not enough agree");
    does("alice", '{"execute":{"proposal_id":1}}', env(start + 500));
  });
  t.test("is over in the end", () => {
    begin();
    propose();
    refuses("the proposal is over");
    does("bob", '{"vote":{"proposal_id":1,"vote":"yes"}}', env(start + 1000));
  });
  t.test("is of its members alone", () => {
    begin();
    says('{"voter":{"address":"dave"}}', '{"weight":null}');
    refuses("only members may");
    does("dave", '{"propose":{"title":"t","description":"","msgs":[]}}');
  });
  t.test("changes itself, and nobody else does", () => {
    begin();
    does("contract", '{"update":{"add":[{"addr":"dave","weight":3}],"remove":["bob","carol"],"threshold":{"absolute_count":{"weight":4}}}}');
    says('{"list_voters":{}}', '{"voters":[{"addr":"alice","weight":1},{"addr":"dave","weight":3}]}');
    says('{"threshold":{}}', '{"absolute_count":{"weight":4,"total_weight":4}}');
    refuses("only the multisig itself may");
    does("alice", '{"update":{"add":[],"remove":[]}}');
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

