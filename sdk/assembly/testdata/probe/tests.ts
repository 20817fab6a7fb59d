// Tests of the runner of tests: the third and the fourth fail, as they should.

export { allocate, deallocate, interface_version_8 } from "./kit/abi";

import { Item } from "./kit";
import { Tests, answers, chosen, equal, listTests, refuses, runTest } from "./kit/testing";
import { Query } from "./kit";

function tests(t: Tests): Tests {
  t.test("passes", () => {
    new Item<u64>("n").save(1);
    equal("a", "a");
  });
  t.test("is refused as it says", () => {
    if (new Item<u64>("n").has()) throw new Error("the storage is another test's");
    refuses("stop");
    throw new Error("stop");
  });
  t.test("fails", () => {
    equal("a", "b");
  });
  t.test("is not refused", () => {
    refuses("stop");
  });
  t.test("is refused otherwise", () => {
    refuses("stop");
    throw new Error("go");
  });
  t.test("traps", () => {
    let zero = new Item<u32>("n").or(0);
    new Item<u32>("n").save(1 / zero);
  });
  t.test("asks the chain", () => {
    answers('{"staking":{"bonded_denom":{}}}', '{"ok":{"ok":"eyJkZW5vbSI6Imh5cGVyIn0="}}');
    equal(Query.bondedDenom(), "hyper");
    refuses("query: unsupported_request");
    Query.supply("hyper");
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
