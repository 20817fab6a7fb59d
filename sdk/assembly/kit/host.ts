// What contracts may call of the chain. Pointers are to regions; the kit's other
// files make of these calls what contracts use.

@external("env", "abort")
export declare function abort(text: usize): void;

@external("env", "debug")
export declare function debug(text: usize): void;

@external("env", "db_read")
export declare function db_read(key: usize): usize;

@external("env", "db_write")
export declare function db_write(key: usize, value: usize): void;

@external("env", "db_remove")
export declare function db_remove(key: usize): void;

@external("env", "db_scan")
export declare function db_scan(start: usize, end: usize, order: i32): u32;

@external("env", "db_next")
export declare function db_next(walk: u32): usize;

@external("env", "addr_validate")
export declare function addr_validate(address: usize): usize;

@external("env", "addr_canonicalize")
export declare function addr_canonicalize(address: usize, out: usize): usize;

@external("env", "addr_humanize")
export declare function addr_humanize(canonical: usize, out: usize): usize;

@external("env", "secp256k1_verify")
export declare function secp256k1_verify(hash: usize, signature: usize, key: usize): u32;

@external("env", "secp256k1_recover_pubkey")
export declare function secp256k1_recover_pubkey(hash: usize, signature: usize, parity: u32): u64;

@external("env", "secp256r1_verify")
export declare function secp256r1_verify(hash: usize, signature: usize, key: usize): u32;

@external("env", "secp256r1_recover_pubkey")
export declare function secp256r1_recover_pubkey(hash: usize, signature: usize, parity: u32): u64;

@external("env", "ed25519_verify")
export declare function ed25519_verify(message: usize, signature: usize, key: usize): u32;

@external("env", "ed25519_batch_verify")
export declare function ed25519_batch_verify(messages: usize, signatures: usize, keys: usize): u32;

@external("env", "query_chain")
export declare function query_chain(request: usize): usize;

// A hash function of 0 is SHA-256.
@external("env", "bls12_381_aggregate_g1")
export declare function bls12_381_aggregate_g1(points: usize, out: usize): u32;

@external("env", "bls12_381_aggregate_g2")
export declare function bls12_381_aggregate_g2(points: usize, out: usize): u32;

@external("env", "bls12_381_hash_to_g1")
export declare function bls12_381_hash_to_g1(hash: u32, message: usize, domain: usize, out: usize): u32;

@external("env", "bls12_381_hash_to_g2")
export declare function bls12_381_hash_to_g2(hash: u32, message: usize, domain: usize, out: usize): u32;

@external("env", "bls12_381_pairing_equality")
export declare function bls12_381_pairing_equality(ps: usize, qs: usize, r: usize, s: usize): u32;
