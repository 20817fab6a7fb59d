// The kit: what contracts are written with.

export { Bytes } from "./abi";
export { Json, Writer } from "./json";
export { U128, U256 } from "./ints";
export { Entries, Item, Map, decode, encode } from "./storage";
export { Coin, Coins, Env, Event, Info, Reply, ReplyOn, Response, answer, answerQuery, message, unknown } from "./chain";
export { Bank, Distribution, Staking, Wasm, custom, vote } from "./messages";
export { Answer, Query, ask } from "./queries";
export { address, canonical, human } from "./addresses";
export { Batch, ed25519Verify, secp256k1Recover, secp256k1Verify, secp256r1Recover, secp256r1Verify, sha256 } from "./crypto";
export { hashToG1, hashToG2, pairingsEqual, sumG1, sumG2 } from "./bls";
export { Chain, ClaimState, Compute, LeaseState, NodeState, OrderState, Statement, hexadecimal } from "./hypermesh";
export { Expires } from "./expires";
export { version } from "./version";
