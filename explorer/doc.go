// Package explorer is a disposable index of the chain and the web pages that
// show it.
//
// A follower reads finalized blocks from a node by height and writes them to
// SQLite; the pages read the index, and ask nodes and Nexus servers for what
// only they know: balances, the committee, and jobs on their way.
//
// Invariants:
//
//  1. The index is a function of the chain: wiped and replayed, its tables are
//     the same. A block and the cursor that says so are one SQLite transaction,
//     and each block's parent is the block before it. An index of another
//     schema, another chain or another genesis is wiped and built again.
//  2. The index never slows the chain: it pulls at its own pace, holds at most
//     queueBytes of blocks that are fetched and not yet written, and says how
//     far it is behind.
//  3. Heights that the nodes no longer keep are recorded as gaps and shown.
//     Claims, orders, resource records and registrations outlive retention;
//     blocks, transactions and account activity leave with it.
//  4. Every page works without JavaScript. What strangers wrote (memos,
//     regions, endpoints, reasons, labels) is escaped by html/template and
//     quoted where it could pose as text of the page. The content security
//     policy admits this server's own files alone; nothing is inline.
//  5. Whatever a visitor sends is bounded: header bytes, connections, requests,
//     live streams, the search's text, and the time for each.
//
// Failure modes: a node or Nexus server that does not answer is passed over for
// the next, and what it alone knows is shown as unknown; the index keeps
// serving and shows its age. A damaged index file is removed and built again.
// Errors of the disk end Run.
//
// Goroutines: Run starts one that serves HTTP (and net/http's, one for each
// connection) and one that follows the chain, which has four of its own: to
// watch the node, to hear of new heights, to fetch and to write. All have ended when Run returns.
//
// It takes its nodes' word: it checks that blocks are well formed and that each
// names its parent, but no signatures, certificates or proofs. Who wants proof
// asks package sdk.
package explorer
