// Addresses, as people write them and as bytes.

import { Bytes, allocate, give, take } from "./abi";
import { addr_canonicalize, addr_humanize, addr_validate } from "./host";

const canonicalBytes: usize = 64;

function check(complaint: usize): void {
  if (complaint != 0) throw new Error("address: " + take(complaint).text());
}

// address returns a text that is an address, as the chain writes it.
export function address(text: string): string {
  check(addr_validate(give(Bytes.of(text))));
  return text;
}

// canonical returns an address's bytes.
export function canonical(text: string): Bytes {
  const out = allocate(canonicalBytes);
  check(addr_canonicalize(give(Bytes.of(text)), out));
  return take(out);
}

// human returns the address that has some bytes.
export function human(bytes: Bytes): string {
  const out = allocate(256);
  check(addr_humanize(give(bytes), out));
  return take(out).text();
}
