// Tests of the proxy.

export { allocate, deallocate, interface_version_8 } from "./kit/abi";

import { Bytes, Env, Writer } from "./kit";
import { Tests, answers, chosen, env, equal, from, json, listTests, parsed, refuses, runTest } from "./kit/testing";
import * as contract from "./contract";

const start: u64 = 1700000000;

// knows says what the chain answers to a query of its module wasm.
function knows(query: string, answer: string): void {
  const reply = new Writer().object().field("ok").object().field("ok").binary(Bytes.of(answer)).end().end();
  answers('{"wasm":' + query + "}", json(reply));
}

function begin(): void {
  knows('{"contract_info":{"contract_addr":"contract"}}', '{"code_id":1,"creator":"alice","admin":null,"pinned":false,"ibc_port":null}');
  knows('{"contract_info":{"contract_addr":"shop"}}', '{"code_id":5,"creator":"alice","admin":"contract","pinned":false,"ibc_port":null}');
  knows('{"contract_info":{"contract_addr":"other"}}', '{"code_id":5,"creator":"alice","admin":"alice","pinned":false,"ibc_port":null}');
  knows('{"code_info":{"code_id":5}}', '{"code_id":5,"creator":"alice","checksum":"aa"}');
  knows('{"code_info":{"code_id":6}}', '{"code_id":6,"creator":"alice","checksum":"bb"}');
  contract.instantiate(env(), from("alice"), parsed('{"governor":"alice","guardian":"bob","delay":100,"grace":60}'));
}

function does(sender: string, msg: string, at: Env = env()): string {
  return contract.execute(at, from(sender), parsed(msg)).bytes().text();
}

function migrates(target: string): void {
  does("alice", '{"schedule":{"step":{"migrate":{"target":"' + target + '","code_id":6,"msg":"e30="}}}}');
}

function tests(t: Tests): Tests {
  t.test("migrates after the lock", () => {
    begin();
    migrates("shop");
    equal(
      does("alice", '{"apply":{"decision":1}}', env(start + 100)),
      '{"messages":[{"id":0,"msg":{"wasm":{"migrate":{"contract_addr":"shop","new_code_id":6,"msg":"e30="}}},"gas_limit":null,"reply_on":"never"}],"attributes":[{"key":"action","value":"apply"},{"key":"decision","value":"1"},{"key":"step","value":"migrate"},{"key":"target","value":"shop"},{"key":"from","value":"aa"},{"key":"to","value":"bb"}],"events":[],"data":null}',
    );
  });
  t.test("shows both digests", () => {
    begin();
    migrates("shop");
    equal(
      json(contract.query(env(), parsed('{"decisions":{}}'))),
      '{"decisions":[{"id":1,"step":{"migrate":{"target":"shop","from":{"code_id":5,"checksum":"aa"},"to":{"code_id":6,"checksum":"bb"},"msg":"e30="}},"note":"","ready":"1700000100000000000","over":"1700000160000000000","status":"waiting"}]}',
    );
  });
  t.test("not before", () => {
    begin();
    migrates("shop");
    refuses("it is waiting");
    does("alice", '{"apply":{"decision":1}}', env(start + 99));
  });
  t.test("not too late", () => {
    begin();
    migrates("shop");
    refuses("it is over");
    does("alice", '{"apply":{"decision":1}}', env(start + 160));
  });
  t.test("not what was cancelled", () => {
    begin();
    migrates("shop");
    does("bob", '{"cancel":{"decision":1}}');
    refuses("it is cancelled");
    does("alice", '{"apply":{"decision":1}}', env(start + 100));
  });
  t.test("only what it is the admin of", () => {
    begin();
    refuses("the proxy is not its admin");
    migrates("other");
  });
  t.test("its own delay waits as well", () => {
    begin();
    does("alice", '{"schedule":{"step":{"settings":{"governor":"carol","delay":1,"grace":60}}}}');
    does("alice", '{"apply":{"decision":1}}', env(start + 100));
    equal(json(contract.query(env(), parsed('{"settings":{}}'))), '{"governor":"carol","guardian":null,"delay":1,"grace":60}');
    refuses("only the governor may");
    migrates("shop");
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

