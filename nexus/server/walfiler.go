package server

import (
	"errors"
	"fmt"

	"github.com/hashicorp/go-hclog"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
)

// walFiler keeps the files of raft's log. It reads the segments that
// raft-wal v0.4.0 makes unreadable (its issue 31): when the log's end is taken
// back, because another leader decided otherwise, the segment that held it is
// noted as sealed, but no index is written to it. The next start would find
// "sealed segment has no index block", and raft panics at that. Such a segment
// is read through instead, as one is that was never sealed.
type walFiler struct{ *segment.Filer }

// openLog opens raft's log below dir. Its Close leaves meta open.
func openLog(dir string, meta *metadb.BoltMetaDB, logger hclog.Logger) (*wal.WAL, error) {
	return wal.Open(dir, wal.WithLogger(logger), wal.WithMetaStore(meta), wal.WithSegmentSize(walSegment),
		wal.WithSegmentFiler(walFiler{segment.NewFiler(dir, fs.New())}))
}

// Open opens a sealed segment.
func (f walFiler) Open(info types.SegmentInfo) (types.SegmentReader, error) {
	if info.IndexStart != 0 {
		return f.Filer.Open(info)
	}
	w, err := f.RecoverTail(info)
	if err != nil {
		return nil, err
	}
	if last := w.LastIndex(); last < info.MaxIndex { // what is above it the log does not ask for
		return nil, errors.Join(fmt.Errorf("%w: a segment of entries %d to %d ends with %d", types.ErrCorrupt, info.BaseIndex, info.MaxIndex, last), w.Close())
	}
	return w, nil
}
