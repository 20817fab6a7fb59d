// Signatures, verified by the chain, and SHA-256.

import { Bytes, give, take } from "./abi";
import * as host from "./host";

// verdict reads what the chain answers: 0 and 1 are yes and no, the rest is a
// mistake of whoever asks.
function verdict(code: u32): bool {
  if (code > 1) throw new Error("signature: malformed");
  return code == 0;
}

function recovered(answer: u64): Bytes {
  if (answer >> 32 != 0) throw new Error("signature: malformed");
  return take(<usize>answer);
}

// secp256k1Verify verifies a signature of 64 bytes over a hash of 32.
export function secp256k1Verify(hash: Bytes, signature: Bytes, key: Bytes): bool {
  return verdict(host.secp256k1_verify(give(hash), give(signature), give(key)));
}

// secp256k1Recover returns the key that a signature is of.
export function secp256k1Recover(hash: Bytes, signature: Bytes, parity: u32): Bytes {
  return recovered(host.secp256k1_recover_pubkey(give(hash), give(signature), parity));
}

export function secp256r1Verify(hash: Bytes, signature: Bytes, key: Bytes): bool {
  return verdict(host.secp256r1_verify(give(hash), give(signature), give(key)));
}

export function secp256r1Recover(hash: Bytes, signature: Bytes, parity: u32): Bytes {
  return recovered(host.secp256r1_recover_pubkey(give(hash), give(signature), parity));
}

export function ed25519Verify(message: Bytes, signature: Bytes, key: Bytes): bool {
  return verdict(host.ed25519_verify(give(message), give(signature), give(key)));
}

// Batch is Ed25519 signatures that are verified together, which costs less.
@final
export class Batch {
  private messages: Bytes = new Bytes();
  private signatures: Bytes = new Bytes();
  private keys: Bytes = new Bytes();

  add(message: Bytes, signature: Bytes, key: Bytes): void {
    this.messages = section(this.messages, message);
    this.signatures = section(this.signatures, signature);
    this.keys = section(this.keys, key);
  }

  verify(): bool {
    return verdict(host.ed25519_batch_verify(give(this.messages), give(this.signatures), give(this.keys)));
  }
}

function section(all: Bytes, one: Bytes): Bytes {
  return all.then(one).then(Bytes.integer<u32>(one.length));
}

// The constants of FIPS 180-4 §4.2.2 and §5.3.3.
// @ts-ignore: decorator
@lazy
const rounds: StaticArray<u32> = [
  0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
  0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
  0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
  0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
  0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
  0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
  0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
  0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
];

// @ts-ignore: decorator
@lazy
const initial: StaticArray<u32> = [0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19];

// sha256 is the digest of FIPS 180-4.
export function sha256(bytes: Bytes): Bytes {
  const blocks = (bytes.length + 9 + 63) / 64;
  const text = heap.alloc(blocks * 64);
  memory.fill(text, 0, blocks * 64);
  memory.copy(text, bytes.at, bytes.length);
  store<u8>(text + bytes.length, 0x80);
  store<u64>(text + blocks * 64 - 8, bswap<u64>(<u64>bytes.length << 3));
  const state = heap.alloc(32);
  memory.copy(state, changetype<usize>(initial), 32);
  const words = heap.alloc(256);
  for (let b: usize = 0; b < blocks; b++) compress(state, text + b * 64, words);
  for (let i: usize = 0; i < 32; i += 4) store<u32>(state + i, bswap(load<u32>(state + i)));
  return new Bytes(state, 32);
}

function compress(state: usize, block: usize, words: usize): void {
  for (let i: usize = 0; i < 64; i += 4) store<u32>(words + i, bswap(load<u32>(block + i)));
  for (let i: usize = 64; i < 256; i += 4) {
    const w2 = load<u32>(words + i - 8);
    const w15 = load<u32>(words + i - 60);
    const s0 = rotr(w15, 7) ^ rotr(w15, 18) ^ (w15 >> 3);
    const s1 = rotr(w2, 17) ^ rotr(w2, 19) ^ (w2 >> 10);
    store<u32>(words + i, load<u32>(words + i - 64) + s0 + load<u32>(words + i - 28) + s1);
  }
  let a = load<u32>(state);
  let b = load<u32>(state, 4);
  let c = load<u32>(state, 8);
  let d = load<u32>(state, 12);
  let e = load<u32>(state, 16);
  let f = load<u32>(state, 20);
  let g = load<u32>(state, 24);
  let h = load<u32>(state, 28);
  for (let i: usize = 0; i < 256; i += 4) {
    const s1 = rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25);
    const t1 = h + s1 + ((e & f) ^ (~e & g)) + load<u32>(changetype<usize>(rounds) + i) + load<u32>(words + i);
    const s0 = rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22);
    h = g;
    g = f;
    f = e;
    e = d + t1;
    d = c;
    const majority = (a & b) ^ (a & c) ^ (b & c);
    c = b;
    b = a;
    a = t1 + s0 + majority;
  }
  store<u32>(state, load<u32>(state) + a);
  store<u32>(state, load<u32>(state, 4) + b, 4);
  store<u32>(state, load<u32>(state, 8) + c, 8);
  store<u32>(state, load<u32>(state, 12) + d, 12);
  store<u32>(state, load<u32>(state, 16) + e, 16);
  store<u32>(state, load<u32>(state, 20) + f, 20);
  store<u32>(state, load<u32>(state, 24) + g, 24);
  store<u32>(state, load<u32>(state, 28) + h, 28);
}
