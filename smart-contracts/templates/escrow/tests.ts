// Tests of the escrow, for hypermesh contract test.

export { allocate, deallocate, interface_version_8 } from "./kit/abi";

import { Bytes, Coins, U128, Writer } from "./kit";
import { Tests, answers, chosen, env, equal, from, json, listTests, parsed, refuses, runTest } from "./kit/testing";
import * as contract from "./contract";

const order = "0100000000000000000000000000000000000000000000000000000000000000";

// open is a deal of two milestones, and an arbiter who takes 10.
function open(coins: Coins): void {
  contract.instantiate(env(), from("owner"), parsed("{}"));
  const terms = '{"worker":"will","arbiter":"ann","fee":"10","review_seconds":600,"arbitration_seconds":3600,"unjudged_percent":50,';
  const milestones =
    '"milestones":[{"title":"one","amount":"70","due":1700001000},{"title":"two","amount":"30","due":1700002000,"order":"' + order + '"}]';
  contract.execute(env(), from("carl", coins), parsed('{"open":' + terms + milestones + "}}"));
}

function begin(): void {
  open(Coins.of(U128.of(100), "hyper"));
  act("will", '{"accept":{"deal":1}}');
}

// act returns the messages and attributes of a call.
function act(who: string, msg: string, seconds: u64 = 1700000000): string {
  return contract.execute(env(seconds), from(who), parsed(msg)).bytes().text();
}

function held(): string {
  return json(contract.query(env(), parsed('{"held":{"denom":"hyper"}}')));
}

function tests(t: Tests): Tests {
  t.test("what is not paid in full is refused", () => {
    refuses("the milestones come to 100, sent were 99");
    open(Coins.of(U128.of(99), "hyper"));
  });

  t.test("a client who was not accepted yet has all back", () => {
    open(Coins.of(U128.of(100), "hyper"));
    equal(held(), '{"amount":"100"}');
    const r = act("carl", '{"cancel":{"deal":1}}');
    equal(r.includes('"to_address":"carl","amount":[{"denom":"hyper","amount":"100"}]') ? "all" : r, "all");
    equal(held(), '{"amount":"0"}');
    equal(json(contract.query(env(), parsed('{"deals":{"party":"ann"}}'))), '{"deals":[]}');
  });

  t.test("an order is named by one milestone", () => {
    begin();
    refuses("another milestone names the order");
    open(Coins.of(U128.of(100), "hyper"));
  });

  t.test("and by another when that one is cancelled", () => {
    open(Coins.of(U128.of(100), "hyper"));
    act("carl", '{"cancel":{"deal":1}}');
    open(Coins.of(U128.of(100), "hyper"));
    equal(held(), '{"amount":"100"}');
  });

  t.test("a deal that was accepted is not cancelled", () => {
    begin();
    refuses("the worker has accepted");
    act("carl", '{"cancel":{"deal":1}}');
  });

  t.test("nobody but the client releases before the review is over", () => {
    begin();
    act("will", '{"submit":{"deal":1,"milestone":0,"evidence":"here"}}');
    refuses("the client may look at it still");
    act("will", '{"release":{"deal":1,"milestone":0}}', 1700000599);
  });

  t.test("whose client is silent is paid", () => {
    begin();
    act("will", '{"submit":{"deal":1,"milestone":0,"evidence":"here"}}');
    act("will", '{"release":{"deal":1,"milestone":0}}', 1700000600);
    equal(held(), '{"amount":"30"}');
  });

  t.test("nothing is paid twice", () => {
    begin();
    act("carl", '{"release":{"deal":1,"milestone":0}}');
    refuses("the milestone is paid");
    act("carl", '{"release":{"deal":1,"milestone":0}}');
  });

  t.test("the arbiter leaves enough for the fee", () => {
    begin();
    act("will", '{"dispute":{"deal":1,"milestone":0,"reason":"no access"}}');
    refuses("more than there is");
    act("ann", '{"decide":{"deal":1,"milestone":0,"worker_gets":"61","reason":""}}');
  });

  t.test("a silent arbiter gets nothing", () => {
    begin();
    act("will", '{"dispute":{"deal":1,"milestone":1,"reason":"no access"}}');
    act("carl", '{"settle":{"deal":1,"milestone":1}}', 1700003600);
    equal(held(), '{"amount":"70"}');
  });

  t.test("a verified result is paid", () => {
    begin();
    const claim = '{"settled":true,"verified":true,"exit":"ok","provider":"will"}';
    answers('{"custom":{"order":{"id":"' + order + '"}}}', ok('{"order":{"claims":[' + claim + "]}}"));
    act("anyone", '{"prove":{"deal":1,"milestone":1}}');
    equal(held(), '{"amount":"70"}');
  });

  t.test("a result that was paid and not verified is not", () => {
    begin();
    const claim = '{"settled":true,"verified":false,"exit":"ok","provider":"will"}';
    answers('{"custom":{"order":{"id":"' + order + '"}}}', ok('{"order":{"claims":[' + claim + "]}}"));
    refuses("the order has no verified result of the worker");
    act("anyone", '{"prove":{"deal":1,"milestone":1}}');
  });
  return t;
}

// ok is how the chain writes an answer.
function ok(answer: string): string {
  return new Writer().object().field("ok").object().field("ok").binary(Bytes.of(answer)).end().end().bytes().text();
}

export function query(_env: usize, _msg: usize): usize {
  return listTests(tests(new Tests(-1)));
}

export function execute(_env: usize, _info: usize, msg: usize): usize {
  tests(new Tests(chosen(msg)));
  return runTest();
}
