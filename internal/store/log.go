package store

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A log file is a header and frames. One Append writes one frame:
//
//	header: magic (8 bytes, with the format's version) ‖ salt (8 random bytes) ‖ CRC of both (4)
//	frame:  length of the body (4) ‖ CRC of the head (4) ‖ CRC of the body (4) ‖ body
//	body:   records, each with its length (uvarint) before it
//
// Numbers are little endian; a CRC is CRC-32C over the salt, the frame's offset
// and what it covers, so that neither an old file's frames nor frames inside a
// record can pass for frames here. Since every frame is durable before the next
// is written, only the last one can be torn.
const (
	logMagic      = "HMLOG\x00\x00\x01"
	logSaltBytes  = 8
	logHeadBytes  = len(logMagic) + logSaltBytes + 4
	frameHead     = 12
	maxFrameBytes = 64 << 20
	// MaxLogBytes bounds a log file: an Append beyond it is refused.
	MaxLogBytes = 1 << 30
)

var (
	// ErrLogCorrupt says that a log is damaged before its last frame.
	ErrLogCorrupt = errors.New("store: log is corrupt")
	// ErrLogFull says that an Append would exceed a limit of the log.
	ErrLogFull = errors.New("store: log limit")
	// ErrLogFailed says that an earlier write failed, after which nothing more
	// is written.
	ErrLogFailed = errors.New("store: log has failed")

	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

const (
	logCategory vfs.DiskWriteCategory = "consensus-log"
	// logTemporary ends the name of a log that is being written anew.
	logTemporary = ".tmp"
)

// Log is a durable list of records. It belongs to one goroutine.
type Log struct {
	fs     vfs.FS
	path   string
	file   vfs.File
	salt   [logSaltBytes]byte
	size   int64
	buf    []byte
	failed error
}

// openLog opens the log at path, or makes an empty one. A torn tail is cut off;
// damage before it is ErrLogCorrupt, and the file is left as it is.
func openLog(fs vfs.FS, path string) (*Log, error) {
	l := &Log{fs: fs, path: path}
	if err := l.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("store: opening log %s: %w", path, err), l.Close())
	}
	return l, nil
}

// load finds the end of the log and makes the file one that ends there.
func (l *Log) load() error {
	data, err := l.read()
	if errors.Is(err, os.ErrNotExist) {
		return l.replace(nil)
	}
	if err != nil {
		return err
	}
	if len(data) < logHeadBytes {
		return fmt.Errorf("%w: header of %d bytes, want %d", ErrLogCorrupt, len(data), logHeadBytes)
	}
	copy(l.salt[:], data[len(logMagic):])
	if !bytes.Equal(data[:logHeadBytes], l.header()) {
		return fmt.Errorf("%w: its header is not one of this format", ErrLogCorrupt)
	}
	l.size, err = l.end(data)
	if err != nil {
		return err
	}
	if l.size == int64(len(data)) {
		return l.reopen()
	}
	records, err := recordsOf(data[:l.size])
	if err != nil {
		return err
	}
	return l.replace(records)
}

// header returns what the file begins with.
func (l *Log) header() []byte {
	out := append([]byte(logMagic), l.salt[:]...)
	return binary.LittleEndian.AppendUint32(out, crc32.Checksum(out, castagnoli))
}

// read returns the whole file.
func (l *Log) read() ([]byte, error) {
	f, err := l.fs.Open(l.path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if info.Size() > MaxLogBytes {
		return nil, errors.Join(fmt.Errorf("%w: file of %d bytes, limit %d", ErrLogFull, info.Size(), MaxLogBytes), f.Close())
	}
	data := make([]byte, info.Size())
	_, err = io.ReadFull(f, data)
	return data, errors.Join(err, f.Close())
}

// end returns where the last whole frame ends.
func (l *Log) end(data []byte) (int64, error) {
	at := logHeadBytes
	for at < len(data) {
		next, state := l.frame(data, at)
		if state == frameWhole {
			at = next
			continue
		}
		// Only the last frame may be torn. If its head says where it ends, what
		// comes after was written when it was whole.
		if state == frameDamaged {
			return 0, fmt.Errorf("%w: frame at byte %d of %d", ErrLogCorrupt, at, len(data))
		}
		for later := at + 1; later < len(data); later++ {
			if _, state := l.frame(data, later); state == frameWhole {
				return 0, fmt.Errorf("%w: byte %d of %d, with a whole frame at %d", ErrLogCorrupt, at, len(data), later)
			}
		}
		break
	}
	return int64(at), nil
}

type frameState uint8

const (
	frameWhole   frameState = iota
	frameTorn               // no head, or the file ends within the body or with it
	frameDamaged            // a good head, a bad body, and something after it
)

// frame looks at the frame that begins at an offset, and returns where it ends.
func (l *Log) frame(data []byte, at int) (next int, state frameState) {
	if len(data)-at < frameHead {
		return 0, frameTorn
	}
	head, body := data[at:at+frameHead], data[at+frameHead:]
	length := binary.LittleEndian.Uint32(head)
	if l.sum(int64(at), head[:4]) != binary.LittleEndian.Uint32(head[4:]) || uint64(length) > uint64(len(body)) {
		return 0, frameTorn
	}
	next = at + frameHead + int(length)
	if l.sum(int64(at), body[:length]) == binary.LittleEndian.Uint32(head[8:]) {
		return next, frameWhole
	}
	if next < len(data) {
		return next, frameDamaged
	}
	return next, frameTorn
}

func (l *Log) sum(offset int64, data []byte) uint32 {
	var prefix [logSaltBytes + 8]byte
	copy(prefix[:], l.salt[:])
	binary.LittleEndian.PutUint64(prefix[logSaltBytes:], uint64(offset))
	return crc32.Update(crc32.Checksum(prefix[:], castagnoli), castagnoli, data)
}

// recordsOf returns the records of a file whose frames are whole. They are
// parts of data.
func recordsOf(data []byte) ([][]byte, error) {
	var out [][]byte
	for at := logHeadBytes; at < len(data); {
		body := data[at+frameHead:][:binary.LittleEndian.Uint32(data[at:])]
		at += frameHead + len(body)
		for len(body) > 0 {
			length, size := binary.Uvarint(body)
			if size <= 0 || length > uint64(len(body)-size) {
				return nil, fmt.Errorf("%w: a record is longer than its frame, which ends at byte %d", ErrLogCorrupt, at)
			}
			end := size + int(length)
			out, body = append(out, body[size:end:end]), body[end:]
		}
	}
	return out, nil
}

// appendFrame appends the frame of some records that begins at an offset of
// the file.
func (l *Log) appendFrame(dst []byte, offset int64, records [][]byte) ([]byte, error) {
	size := frameHead
	for _, r := range records {
		size += binary.MaxVarintLen32 + len(r)
	}
	if size > maxFrameBytes {
		return dst, fmt.Errorf("%w: %d records of together %d bytes, limit %d", ErrLogFull, len(records), size, maxFrameBytes)
	}
	start := len(dst)
	dst = append(dst, make([]byte, frameHead)...)
	for _, r := range records {
		dst = append(binary.AppendUvarint(dst, uint64(len(r))), r...)
	}
	head, body := dst[start:start+frameHead], dst[start+frameHead:]
	binary.LittleEndian.PutUint32(head, uint32(len(body)))
	binary.LittleEndian.PutUint32(head[4:], l.sum(offset, head[:4]))
	binary.LittleEndian.PutUint32(head[8:], l.sum(offset, body))
	return dst, nil
}

// Append adds records to the log, all or none, and returns when they are
// durable. ErrLogFull refuses these records and changes nothing; any other
// error is final: whether they are durable is unknown, and every later call
// fails with ErrLogFailed.
func (l *Log) Append(records [][]byte) error {
	if l.failed != nil {
		return l.failed
	}
	if len(records) == 0 {
		return nil
	}
	frame, err := l.appendFrame(l.buf[:0], l.size, records)
	if err == nil && l.size+int64(len(frame)) > MaxLogBytes {
		err = fmt.Errorf("%w: file of %d bytes and %d more, limit %d", ErrLogFull, l.size, len(frame), MaxLogBytes)
	}
	if err != nil {
		return err
	}
	l.buf = frame
	if _, err := l.file.WriteAt(frame, l.size); err != nil {
		return l.fail("writing", err)
	}
	if err := l.file.SyncData(); err != nil {
		return l.fail("syncing", err)
	}
	l.size += int64(len(frame))
	return nil
}

func (l *Log) fail(what string, err error) error {
	l.failed = fmt.Errorf("%w: %w", ErrLogFailed, diskError(what, l.path, err))
	return l.failed
}

// Replay calls visit with every record, the oldest first, until it returns an
// error. The record may be kept.
func (l *Log) Replay(visit func(record []byte) error) error {
	if l.failed != nil {
		return l.failed
	}
	data, err := l.read()
	if err != nil {
		return fmt.Errorf("store: replaying log: %w", err)
	}
	if end, err := l.end(data); err != nil {
		return err
	} else if end != l.size {
		return fmt.Errorf("%w: %d whole bytes, want %d", ErrLogCorrupt, end, l.size)
	}
	records, err := recordsOf(data[:l.size])
	if err != nil {
		return err
	}
	for i, r := range records {
		if err := visit(r); err != nil {
			return fmt.Errorf("store: replaying log: record %d of %d: %w", i, len(records), err)
		}
	}
	return nil
}

// Rewrite replaces all records by these, atomically, and returns when that is
// durable. The errors are those of Append.
func (l *Log) Rewrite(records [][]byte) error {
	if l.failed != nil {
		return l.failed
	}
	if err := l.replace(records); errors.Is(err, ErrLogFull) {
		return err
	} else if err != nil {
		l.failed = fmt.Errorf("%w: rewriting: %w", ErrLogFailed, err)
		return l.failed
	}
	return nil
}

// rewriteFrame is about how many bytes of records share a frame of a rewritten
// log.
const rewriteFrame = 1 << 20

// replace writes a new file beside the log, makes it durable, and puts it in
// the log's place.
func (l *Log) replace(records [][]byte) error {
	next := Log{fs: l.fs, path: l.path}
	if _, err := rand.Read(next.salt[:]); err != nil {
		return fmt.Errorf("making a salt: %w", err)
	}
	content := next.header()
	for len(records) > 0 {
		n, size := 0, 0
		for n < len(records) && (n == 0 || size+len(records[n]) <= rewriteFrame) {
			size += len(records[n])
			n++
		}
		var err error
		if content, err = next.appendFrame(content, int64(len(content)), records[:n]); err != nil {
			return err
		}
		records = records[n:]
	}
	if len(content) > MaxLogBytes {
		return fmt.Errorf("%w: %d bytes to rewrite, limit %d", ErrLogFull, len(content), MaxLogBytes)
	}
	if err := l.install(content); err != nil {
		return err
	}
	l.salt, l.size = next.salt, int64(len(content))
	return l.reopen()
}

// install puts content in the log's place, durably.
func (l *Log) install(content []byte) error {
	temporary := l.path + logTemporary
	f, err := l.fs.Create(temporary, logCategory)
	if err != nil {
		return diskError("creating", temporary, err)
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return diskError("writing", temporary, err)
	}
	if err := l.fs.Rename(temporary, l.path); err != nil {
		return diskError("renaming", temporary, err)
	}
	dir := l.fs.PathDir(l.path)
	if err := syncDir(l.fs, dir); err != nil {
		return diskError("syncing", dir, err)
	}
	return nil
}

// reopen opens the file to append to, and makes durable what was written but
// perhaps not synced before the last process ended.
func (l *Log) reopen() error {
	f, err := l.fs.OpenReadWrite(l.path, logCategory)
	if err != nil {
		return err
	}
	old := l.file
	l.file = f
	if old != nil {
		err = old.Close()
	}
	return errors.Join(err, f.SyncData())
}

// Size returns the length of the file in bytes, by which its owner decides when
// to Rewrite.
func (l *Log) Size() int64 { return l.size }

var errClosed = errors.New("it is closed")

// Close releases the log. Every later call fails.
func (l *Log) Close() error {
	if errors.Is(l.failed, errClosed) {
		return nil
	}
	var err error
	if l.file != nil {
		err = l.file.Close()
	}
	l.failed = fmt.Errorf("%w: %w", ErrLogFailed, errClosed)
	return err
}
