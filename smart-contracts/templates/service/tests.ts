// Tests of the agreement.

export { allocate, deallocate, interface_version_8 } from "./kit/abi";

import { Bytes, Coins, U128, Writer } from "./kit";
import { Tests, answers, chosen, env, equal, from, json, listTests, parsed, refuses, runTest } from "./kit/testing";
import * as contract from "./contract";

const start: u64 = 1700000000;
const order = "0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a";

function begin(): void {
  const sla = '"sla":{"due":100,"grace":50,"late_every":10,"late_permille":100}';
  contract.instantiate(env(), from("erin"), parsed('{"client":"alice","provider":"bob","arbiter":"carol",' + sla + ',"dispute":60,"ruling":80}'));
}

function does(sender: string, msg: string, at: u64 = start, funds: u64 = 0): string {
  const coins = funds == 0 ? new Coins() : Coins.of(U128.of(funds), "nhyper");
  return contract.execute(env(at), from(sender, coins), parsed(msg)).bytes().text();
}

function accepted(evidence: string): void {
  does("alice", '{"offer":{"evidence":' + evidence + ',"stake":"200"}}', start, 1000);
  does("bob", '{"accept":{"task":1}}', start, 200);
}

// found says what the chain answers of the order.
function found(claims: string): void {
  const state = '{"order":{"consumer":"alice","cluster":"c","policy":"zk(k)","max_cost":"5","spent":"5","deadline_ms":"1","closed":true,"claims":[' + claims + "]}}";
  const reply = new Writer().object().field("ok").object().field("ok").binary(Bytes.of(state)).end().end();
  answers('{"custom":{"order":{"id":"' + order + '"}}}', json(reply));
}

function claim(verified: string): string {
  return '{"node":"n","provider":"bob","sequence":"1","result":"r","exit":"ok","settled":true,"verified":' + verified + ',"cost":"5"}';
}

// paid is how an answer pays the provider.
function paid(action: string, amount: string): string {
  return (
    '{"messages":[{"id":0,"msg":{"bank":{"send":{"to_address":"bob","amount":[{"denom":"nhyper","amount":"' + amount + '"}]}}},"gas_limit":null,"reply_on":"never"}],' +
    '"attributes":[{"key":"action","value":"' + action + '"},{"key":"task","value":"1"},{"key":"state","value":"paid"},{"key":"to_provider","value":"' + amount +
    '"},{"key":"to_client","value":"0"}],"events":[],"data":null}'
  );
}

function tests(t: Tests): Tests {
  t.test("pays for a verified result", () => {
    begin();
    accepted('{"order":{"id":"' + order + '"}}');
    found(claim("false") + "," + claim("true"));
    equal(does("bob", '{"deliver":{"task":1}}'), paid("deliver", "1200"));
    equal(json(contract.query(env(), parsed('{"held":{}}'))), '{"held":"0"}');
  });
  t.test("an order is for one task", () => {
    begin();
    accepted('{"order":{"id":"' + order + '"}}');
    refuses("another task is for the order");
    does("alice", '{"offer":{"evidence":{"order":{"id":"' + order + '"}},"stake":"200"}}', start, 1000);
  });
  t.test("not for one that is not verified", () => {
    begin();
    accepted('{"order":{"id":"' + order + '"}}');
    found(claim("false"));
    refuses("no result of the order is paid, verified and as agreed");
    does("bob", '{"deliver":{"task":1}}');
  });
  t.test("a word that nobody disputes is paid", () => {
    begin();
    accepted('{"word":{}}');
    does("bob", '{"deliver":{"task":1}}');
    equal(does("dave", '{"release":{"task":1}}', start + 60), paid("release", "1200"));
  });
  t.test("a word may be disputed first", () => {
    begin();
    accepted('{"word":{}}');
    does("bob", '{"deliver":{"task":1}}');
    refuses("it may be disputed still");
    does("bob", '{"release":{"task":1}}', start + 59);
  });
  t.test("the arbiter divides what there is", () => {
    begin();
    accepted('{"word":{}}');
    does("bob", '{"deliver":{"task":1}}');
    does("alice", '{"dispute":{"task":1}}', start + 59);
    refuses("there is not so much");
    does("carol", '{"rule":{"task":1,"provider":"1201"}}', start + 59);
  });
  t.test("what never comes is taken back", () => {
    begin();
    accepted('{"word":{}}');
    refuses("there is time still");
    does("alice", '{"reclaim":{"task":1}}', start + 150);
  });
  t.test("a task needs its stake", () => {
    begin();
    does("alice", '{"offer":{"evidence":{"word":{}},"stake":"200"}}', start, 1000);
    refuses("the stake is 200");
    does("bob", '{"accept":{"task":1}}', start, 199);
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

