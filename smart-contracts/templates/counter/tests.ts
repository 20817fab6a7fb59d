// Tests of the counter, for hypermesh contract test.

export { allocate, deallocate, interface_version_8 } from "./kit/abi";

import { Coins, U128 } from "./kit";
import { Tests, chosen, env, equal, from, json, listTests, parsed, refuses, runTest } from "./kit/testing";
import * as contract from "./contract";

function tests(t: Tests): Tests {
  t.test("counts up from where it began", () => {
    begin();
    contract.execute(env(), from("bob"), parsed('{"increment":{}}'));
    contract.execute(env(), from("carol"), parsed('{"increment":{}}'));
    equal(json(contract.query(env(), parsed('{"count":{}}'))), '{"count":7}');
  });

  t.test("its owner sets it back", () => {
    begin();
    contract.execute(env(), from("alice"), parsed('{"reset":{"count":1}}'));
    equal(json(contract.query(env(), parsed('{"count":{}}'))), '{"count":1}');
  });

  t.test("nobody else sets it back", () => {
    begin();
    refuses("only the owner may");
    contract.execute(env(), from("bob"), parsed('{"reset":{"count":1}}'));
  });

  t.test("it does not count beyond what it can", () => {
    contract.instantiate(env(), from("alice"), parsed('{"count":18446744073709551615}'));
    refuses("the counter is full");
    contract.execute(env(), from("bob"), parsed('{"increment":{}}'));
  });

  t.test("a message that it does not know is refused", () => {
    begin();
    refuses("unknown message decrement");
    contract.execute(env(), from("bob"), parsed('{"decrement":{}}'));
  });

  t.test("money is refused", () => {
    begin();
    refuses("no funds are taken");
    contract.execute(env(), from("bob", Coins.of(U128.of(1), "hyper")), parsed('{"increment":{}}'));
  });
  return t;
}

function begin(): void {
  contract.instantiate(env(), from("alice"), parsed('{"count":5}'));
}

export function query(_env: usize, _msg: usize): usize {
  return listTests(tests(new Tests(-1)));
}

export function execute(_env: usize, _info: usize, msg: usize): usize {
  tests(new Tests(chosen(msg)));
  return runTest();
}
