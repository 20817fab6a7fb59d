// A contract with one message and two queries, for the tests of its schema.

export { allocate, deallocate, interface_version_8 } from "./kit/abi";

import { Response, Writer, answer, answerQuery, message, unknown } from "./kit";

export function instantiate(_env: usize, _info: usize, msg: usize): usize {
  message(msg).done();
  return answer(new Response());
}

export function execute(_env: usize, _info: usize, msg: usize): usize {
  const m = message(msg).variant();
  if (!m.named("go")) throw new Error(unknown(m));
  return answer(new Response());
}

export function query(_env: usize, msg: usize): usize {
  const m = message(msg).variant();
  if (m.named("tell")) {
    m.field("n").u64();
    m.done();
  } else if (!m.named("ask")) throw new Error(unknown(m));
  return answerQuery(new Writer().text("yes"));
}
