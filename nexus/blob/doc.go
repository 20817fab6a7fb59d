// Package blob is content-addressed transfer: it streams, verifies, resumes and
// caches blobs, packs a directory into one, and seals what others must not read.
//
// A blob is cut into chunks of 256 KiB, the last one shorter. Its id is the
// digest, under DomainBlob, of its length (8 bytes, big endian) and the digest
// under DomainBlobList of its chunks' digests under DomainBlobChunk. Whoever
// holds the outline (the length and the chunks' digests), which the id proves,
// can verify each chunk alone.
//
// Invariants:
//
//  1. A chunk is kept or handed to a reader only after its digest has been
//     compared; corruption is named by its chunk and costs one chunk. Who sends a
//     blob compares the first chunk of an answer: the peer compares them all, and
//     asks once more from one that is corrupt on, so that a source whose disk has
//     changed learns of it.
//  2. A blob is in the store wholly or not at all: it is written beside, synced,
//     and renamed. A crash leaves at most files that the next Open removes, and
//     the verified beginnings of unfinished fetches, which the next Fetch
//     resumes.
//  3. The files of a store never exceed Config.MaxBytes, nor its blobs one for
//     every 16 KiB of it (1,024 at any size). The blobs used longest ago make
//     room, but never one that is pinned or being read.
//  4. Names on disk are digests; nothing that a peer sends becomes a path.
//  5. Pack gives the same bytes for the same names and contents on every
//     machine, and Unpack accepts only what Pack can give: regular files and
//     directories, in order, below its directory.
//  6. A sealed blob is encrypted by who makes it (Seal) and opened by who has a
//     key (Unseal): a store sees the ciphertext, and its id is the ciphertext's.
//
// Failure modes: ErrNotFound; *CorruptError; *TooLargeError, which names the
// bound; ErrFull when all that could make room is in use; ErrInUse for a second
// process; *ArchiveError; wrapped errors of the file system, after which the
// store is as it was before the call.
//
// Concurrency: a Store is safe for concurrent use. A transfer of more than one
// chunk has a goroutine of its own at each end, which has ended when the call
// returns; it holds three chunks at most.
// Fetches and uploads of one blob wait for each other, but for no upload that
// brings nothing. At most Config.MaxServing transfers
// are served at a time, half of them to one peer; one more is told so. A Blob and a reader of Pack belong
// to one goroutine.
//
// It does not decide who may read or write a blob, nor keep keys.
package blob
