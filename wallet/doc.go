// Package wallet is keys at rest and signing, without a network.
//
// A Wallet is a BIP-39 phrase and named accounts. A derived account's key is
// SLIP-0010 ed25519 at m/44'/1213812818'/account' of the phrase's seed without
// a BIP-39 passphrase: 1213812818 is "HYPR" in ASCII, a coin type that
// SLIP-0044 lists for nobody else, and ed25519 derivation is hardened
// throughout. An imported account has a key of its own. Both are chain.Signer;
// so would be an account on a hardware device, whose Sign asks a person.
//
// A Keystore keeps a wallet in one file: JSON with a format and a version,
// encrypted with age under a passphrase (scrypt), so that `age --decrypt` opens
// it too. Preview and PreviewOrder say in words what a signature would commit
// to.
//
// Invariants:
//
//  1. A wallet on disk is whole: it is written beside its place, synced and
//     moved there; its mode is 0600.
//  2. Names are unique in a wallet, and so are addresses.
//  3. Phrases and accounts print as what they are, never as their secret.
//  4. Opening a file costs at most 2^MaxWorkFactor scrypt rounds and
//     maxFileBytes, whatever the file says.
//
// Failure modes: ErrPassphrase (wrong), ErrNoKeystore, ErrKeystoreExists,
// ErrNoAccount, ErrDuplicate, *WordError, *LengthError, ErrChecksum,
// *FormatError, and the operating system's errors.
//
// A Wallet is not safe for concurrent use; an Account is. Two processes that
// save one file at the same time leave one of the two wallets, whole. The
// package does not wipe memory: Go's collector copies as it likes.
package wallet
