// What the chain calls. An entry that a contract has not is not exported.

export { allocate, deallocate, interface_version_8 } from "./kit/abi";

import { Env, Info, answer, answerQuery, message } from "./kit";
import * as contract from "./contract";

export function instantiate(env: usize, info: usize, msg: usize): usize {
  return answer(contract.instantiate(Env.at(env), Info.at(info), message(msg)));
}

export function execute(env: usize, info: usize, msg: usize): usize {
  return answer(contract.execute(Env.at(env), Info.at(info), message(msg)));
}

export function query(env: usize, msg: usize): usize {
  return answerQuery(contract.query(Env.at(env), message(msg)));
}
