package agent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
)

const (
	recordHead    = 8 // length and CRC-32C, big endian
	maxRecord     = 128 << 10
	compactBytes  = 1 << 20   // a journal above it is rewritten once it holds twice what is live, or half of maxJournal
	maxJournal    = 256 << 20 // a longer file is none of ours
	maxLaterBytes = 1 << 20   // of records that wait for somebody else's write
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// journal is an append-only file of records. Appends that come while one is being
// synced are written together by the next write. A crash in the middle of a write
// loses what nobody was told to be durable: the torn end is cut off by the next
// open. Anything else that does not read is put aside, with what follows it.
type journal struct {
	path string
	log  *slog.Logger
	live func() [][]byte // records that a rewritten journal begins with

	mu      sync.Mutex
	pending []byte // framed
	batch   *journalBatch
	writing bool
	file    *os.File
	size    int64 // of what is durable
	kept    int64 // size after the last rewriting
	rest    sync.WaitGroup
}

// journalBatch is one write, and what became of it.
type journalBatch struct {
	done chan struct{}
	err  error
}

// openJournal gives every record to load, in order, and cuts off the torn end.
func openJournal(path string, log *slog.Logger, load func([]byte) error) (j *journal, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	j = &journal{path: path, log: log, batch: &journalBatch{done: make(chan struct{})}}
	if j.file, err = os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return nil, err
	}
	if err = j.read(load); err == nil {
		err = errors.Join(j.file.Truncate(j.size), j.file.Sync(), syncDir(filepath.Dir(path)))
	}
	if err != nil {
		return nil, errors.Join(err, j.file.Close())
	}
	j.kept = j.size
	return j, nil
}

func (j *journal) read(load func([]byte) error) error {
	info, err := j.file.Stat()
	if err != nil {
		return err
	}
	if info.Size() > maxJournal {
		return fmt.Errorf("%s has %d bytes, limit %d", j.path, info.Size(), int64(maxJournal))
	}
	data, err := io.ReadAll(j.file)
	if err != nil {
		return err
	}
	for rest := data; len(rest) > 0; {
		record, why := nextRecord(rest)
		if why == "" {
			if err := load(record); err != nil {
				why = err.Error()
			}
		}
		if why != "" {
			j.log.Error("agent: the end of a journal does not read, putting it aside", "file", j.path, "at", j.size, "bytes", len(rest), "reason", why)
			return writeFile(j.path+damagedSuffix, rest)
		}
		j.size += int64(recordHead + len(record))
		rest = rest[recordHead+len(record):]
	}
	return nil
}

// nextRecord returns the first record, or why there is none.
func nextRecord(data []byte) (record []byte, why string) {
	if len(data) < recordHead {
		return nil, "torn"
	}
	n := int(binary.BigEndian.Uint32(data))
	switch {
	case n > maxRecord:
		return nil, fmt.Sprintf("a record of %d bytes, limit %d", n, maxRecord)
	case len(data) < recordHead+n:
		return nil, "torn"
	}
	record = data[recordHead : recordHead+n]
	if crc32.Checksum(record, castagnoli) != binary.BigEndian.Uint32(data[4:]) {
		return nil, "the checksum is another"
	}
	return record, ""
}

func frame(to, record []byte) []byte {
	to = binary.BigEndian.AppendUint32(to, uint32(len(record)))
	to = binary.BigEndian.AppendUint32(to, crc32.Checksum(record, castagnoli))
	return append(to, record...)
}

// append makes a record durable.
func (j *journal) append(record []byte) error {
	if len(record) > maxRecord {
		return fmt.Errorf("a record of %d bytes, limit %d", len(record), maxRecord)
	}
	j.mu.Lock()
	j.pending = frame(j.pending, record)
	mine := j.batch
	if j.writing {
		j.mu.Unlock()
		<-mine.done
		return mine.err
	}
	j.writing = true
	j.writeBatch()
	if len(j.pending) > 0 { // of others, who may never stop coming: their writes are not for this one to wait for
		j.rest.Go(j.writeRest)
	} else {
		j.writing = false
	}
	j.mu.Unlock()
	return mine.err
}

// writeRest writes until nothing is pending.
func (j *journal) writeRest() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for len(j.pending) > 0 {
		j.writeBatch()
	}
	j.writing = false
}

// appendLater has a record written with the next append. One that nobody follows
// up is dropped when there are too many.
func (j *journal) appendLater(record []byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.pending) < maxLaterBytes {
		j.pending = frame(j.pending, record)
	}
}

// writeBatch writes what is pending and tells who waits. The caller holds j.mu,
// which is free while the disk is busy, and is the only one that writes.
func (j *journal) writeBatch() {
	data, batch := j.pending, j.batch
	j.pending, j.batch = nil, &journalBatch{done: make(chan struct{})}
	j.mu.Unlock()
	err := j.write(data)
	batch.err = err
	close(batch.done)
	j.mu.Lock()
}

// write appends data durably, or leaves the file as it was.
func (j *journal) write(data []byte) error {
	if j.file == nil {
		return os.ErrClosed
	}
	if j.size+int64(len(data)) > maxJournal { // which nobody could open
		return fmt.Errorf("%s has %d bytes, and %d more are beyond its limit", j.path, j.size, len(data))
	}
	_, err := j.file.WriteAt(data, j.size)
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		return errors.Join(err, j.file.Truncate(j.size))
	}
	j.size += int64(len(data))
	if j.live != nil && j.size > compactBytes && (j.size > 2*j.kept || j.size > maxJournal/2) {
		if err := j.compact(); err != nil {
			j.log.Error("agent: a journal cannot be rewritten, it goes on growing", "file", j.path, "error", err)
		}
	}
	return nil
}

// compact puts a file with the live records alone in the journal's place. What
// is appended later goes to that file, or to none: one that has lost its name
// would lose what is written to it.
func (j *journal) compact() error {
	var data []byte
	for _, record := range j.live() {
		data = frame(data, record)
	}
	file, err := os.CreateTemp(filepath.Dir(j.path), ".tmp-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err = errors.Join(err, file.Sync()); err == nil {
		err = os.Rename(file.Name(), j.path)
	}
	if err != nil {
		return errors.Join(err, file.Close(), removeIfThere(file.Name()))
	}
	err = errors.Join(j.file.Close(), syncDir(filepath.Dir(j.path)))
	j.file, j.size, j.kept = file, int64(len(data)), max(int64(len(data)), compactBytes/2)
	return err
}

// close writes what is pending and closes the file. Nobody appends any more.
func (j *journal) close() error {
	j.rest.Wait()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.live = nil // what is rewritten here would wait for j.mu
	var err error
	if len(j.pending) > 0 {
		err = j.write(j.pending)
		j.pending = nil
	}
	err = errors.Join(err, j.file.Close())
	j.file = nil
	return err
}
