// BLS12-381. Points are compressed: 48 bytes of G1, 96 of G2.

import { Bytes, allocate, give, take } from "./abi";
import * as host from "./host";

const pointG1: usize = 48;
const pointG2: usize = 96;

// point reads what the chain has written, if it had what it needs.
function point(code: u32, out: usize): Bytes {
  if (code != 0) throw new Error("BLS12-381: malformed");
  return take(out);
}

// sumG1 and sumG2 add points, which lie one behind the other.
export function sumG1(points: Bytes): Bytes {
  const out = allocate(pointG1);
  return point(host.bls12_381_aggregate_g1(give(points), out), out);
}

export function sumG2(points: Bytes): Bytes {
  const out = allocate(pointG2);
  return point(host.bls12_381_aggregate_g2(give(points), out), out);
}

// hashToG1 and hashToG2 hash a message, in a domain, to a point (RFC 9380).
export function hashToG1(message: Bytes, domain: Bytes): Bytes {
  const out = allocate(pointG1);
  return point(host.bls12_381_hash_to_g1(0, give(message), give(domain), out), out);
}

export function hashToG2(message: Bytes, domain: Bytes): Bytes {
  const out = allocate(pointG2);
  return point(host.bls12_381_hash_to_g2(0, give(message), give(domain), out), out);
}

// pairingsEqual tells whether the product of the pairings of points of G1 with as many
// of G2 is the pairing of two more.
export function pairingsEqual(ps: Bytes, qs: Bytes, r: Bytes, s: Bytes): bool {
  const code = host.bls12_381_pairing_equality(give(ps), give(qs), give(r), give(s));
  if (code > 1) throw new Error("BLS12-381: malformed");
  return code == 0;
}
