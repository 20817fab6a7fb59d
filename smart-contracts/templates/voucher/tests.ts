// Tests of the vouchers, for hypermesh contract test.

export { allocate, deallocate, interface_version_8 } from "./kit/abi";

import { Coins, U128 } from "./kit";
import { Tests, chosen, env, equal, from, json, listTests, parsed, refuses, runTest } from "./kit/testing";
import * as contract from "./contract";

// act returns the messages and attributes of a call.
function act(who: string, msg: string, cash: u64 = 0, seconds: u64 = 1700000000): string {
  const funds = cash == 0 ? new Coins() : Coins.of(U128.of(cash), "hyper");
  return contract.execute(env(seconds), from(who, funds), parsed(msg)).bytes().text();
}

function ask(msg: string): string {
  return json(contract.query(env(), parsed(msg)));
}

function held(): string {
  return ask('{"held":{}}');
}

function pays(response: string, who: string, amount: string): void {
  const want = '"to_address":"' + who + '","amount":[{"denom":"hyper","amount":"' + amount + '"}]';
  equal(response.includes(want) ? want : response, want);
}

// begin has ivy promise ten hours, and sell them to bob for 100.
function begin(): void {
  contract.instantiate(env(), from("owner"), parsed('{"denom":"hyper"}'));
  mint("ivy", "10");
  act("ivy", '{"list":{"voucher":1,"price":"100"}}');
  act("bob", '{"buy":{"voucher":1,"listing":1}}', 100);
}

function mint(issuer: string, units: string): void {
  const terms = '"unit":"hour","text":"of work","refundable":true,"arbiters":["ann","art","ada"],"confirm_seconds":600,"arbitration_seconds":3600';
  act(issuer, '{"mint":{"units":"' + units + '","expires":{"at_time":"1700100000000000000"},' + terms + "}}");
}

function tests(t: Tests): Tests {
  t.test("what an issuer is paid stays in the voucher", () => {
    begin();
    equal(held(), '{"denom":"hyper","amount":"100"}');
    equal(ask('{"vouchers":{"owner":"bob"}}'), '{"vouchers":[1]}');
  });

  t.test("a part that is redeemed releases its part", () => {
    begin();
    act("bob", '{"redeem":{"voucher":1,"units":"3","note":"monday"}}');
    pays(act("bob", '{"confirm":{"redemption":1}}'), "ivy", "30");
    equal(held(), '{"denom":"hyper","amount":"70"}');
  });

  t.test("a part that is split off takes its part along", () => {
    begin();
    act("bob", '{"split":{"voucher":1,"units":"4"}}');
    act("bob", '{"transfer":{"voucher":2,"recipient":"carol"}}');
    act("carol", '{"redeem":{"voucher":2,"units":"4","note":""}}');
    pays(act("anyone", '{"confirm":{"redemption":1}}', 0, 1700000600), "ivy", "40");
    equal(
      ask('{"history":{"voucher":2}}'),
      '{"owners":[{"owner":"bob","how":"split","time":1700000000,"price":"0"},{"owner":"carol","how":"transfer","time":1700000000,"price":"0"}]}',
    );
  });

  t.test("whoever sells a voucher of somebody else is paid at once", () => {
    begin();
    act("bob", '{"list":{"voucher":1,"price":"120"}}');
    pays(act("carol", '{"buy":{"voucher":1,"listing":2}}', 120), "bob", "120");
    equal(held(), '{"denom":"hyper","amount":"100"}');
  });

  t.test("an offer of more than the price leaves a discount", () => {
    begin();
    mint("ned", "5");
    act("ned", '{"list":{"voucher":2,"price":"80"}}');
    act("bob", '{"offer":{"voucher":2,"listing":1,"vouchers":[{"voucher":1,"value":"90"}]}}', 5);
    act("ned", '{"accept":{"offer":1}}');
    equal(ask('{"vouchers":{"owner":"bob"}}'), '{"vouchers":[2,3]}');
    equal(ask('{"vouchers":{"owner":"ned"}}'), '{"vouchers":[1]}');
    // Ned takes the discount of 15 for the next thing that he sells.
    mint("ned", "1");
    act("ned", '{"list":{"voucher":4,"price":"20"}}');
    act("bob", '{"buy":{"voucher":4,"listing":1,"discounts":[3]}}', 5);
    equal(ask('{"vouchers":{"owner":"bob"}}'), '{"vouchers":[2,4]}');
    equal(held(), '{"denom":"hyper","amount":"110"}');
  });

  t.test("an offer that is withdrawn gives all back", () => {
    begin();
    mint("ned", "5");
    act("ned", '{"list":{"voucher":2,"price":"80"}}');
    act("bob", '{"offer":{"voucher":2,"listing":1,"vouchers":[{"voucher":1,"value":"90"}]}}', 5);
    pays(act("bob", '{"withdraw":{"offer":1}}'), "bob", "5");
    act("bob", '{"transfer":{"voucher":1,"recipient":"carol"}}');
  });

  t.test("what is in an offer is not redeemed", () => {
    begin();
    mint("ned", "5");
    act("ned", '{"list":{"voucher":2,"price":"80"}}');
    act("bob", '{"offer":{"voucher":2,"listing":1,"vouchers":[{"voucher":1,"value":"90"}]}}');
    refuses("the voucher is in an offer");
    act("bob", '{"redeem":{"voucher":1,"units":"1","note":""}}');
  });

  t.test("who looked at an earlier sale buys nothing", () => {
    begin();
    act("bob", '{"list":{"voucher":1,"price":"120"}}');
    act("bob", '{"unlist":{"voucher":1}}');
    act("bob", '{"split":{"voucher":1,"units":"9"}}');
    act("bob", '{"list":{"voucher":1,"price":"120"}}');
    refuses("that sale is over");
    act("carol", '{"buy":{"voucher":1,"listing":2}}', 120);
  });

  t.test("more than half of the arbiters decide", () => {
    begin();
    act("bob", '{"redeem":{"voucher":1,"units":"10","note":""}}');
    act("bob", '{"dispute":{"redemption":1,"reason":"nobody came"}}');
    act("ann", '{"vote":{"redemption":1,"for_holder":true}}');
    act("art", '{"vote":{"redemption":1,"for_holder":false}}');
    pays(act("ada", '{"vote":{"redemption":1,"for_holder":true}}'), "bob", "100");
    equal(held(), '{"denom":"hyper","amount":"0"}');
  });

  t.test("an arbiter votes once", () => {
    begin();
    act("bob", '{"redeem":{"voucher":1,"units":"10","note":""}}');
    act("bob", '{"dispute":{"redemption":1,"reason":"nobody came"}}');
    act("ann", '{"vote":{"redemption":1,"for_holder":true}}');
    refuses("the arbiter has voted");
    act("ann", '{"vote":{"redemption":1,"for_holder":true}}');
  });

  t.test("a discount that its seller sells again is paid at once", () => {
    begin();
    mint("ned", "5");
    act("ned", '{"list":{"voucher":2,"price":"80"}}');
    act("bob", '{"offer":{"voucher":2,"listing":1,"vouchers":[{"voucher":1,"value":"90"}]}}');
    act("ned", '{"accept":{"offer":1}}');
    act("bob", '{"transfer":{"voucher":3,"recipient":"ned"}}');
    act("ned", '{"list":{"voucher":3,"price":"7"}}');
    pays(act("carol", '{"buy":{"voucher":3,"listing":1}}', 7), "ned", "7");
  });

  t.test("what was never redeemed is the holder's", () => {
    begin();
    act("bob", '{"redeem":{"voucher":1,"units":"1","note":""}}');
    pays(act("anyone", '{"expire":{"voucher":1}}', 0, 1700100000), "bob", "90");
    equal(held(), '{"denom":"hyper","amount":"10"}');
  });

  t.test("a voucher that is good does not expire", () => {
    begin();
    refuses("the voucher is not over yet");
    act("bob", '{"expire":{"voucher":1}}', 0, 1700099999);
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
