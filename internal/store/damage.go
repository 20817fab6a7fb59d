package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// unopened is named for a database that does not open. The database does not
// say which of its logs, or of its other small files, it was reading.
func unopened(fs vfs.FS, dir string, err error) error {
	if !pebble.IsCorruptionError(err) || pebble.ExtractDataCorruptionInfo(err) != nil {
		return named(err)
	}
	names, errList := fs.List(dir)
	var suspects []string
	inLog := strings.Contains(err.Error(), "WAL")
	for _, name := range names {
		switch isLog := strings.HasSuffix(name, ".log"); {
		case isLog != inLog, strings.HasSuffix(name, ".sst"), name == "LOCK", name == flushDir:
		default:
			suspects = append(suspects, name)
		}
	}
	return fmt.Errorf("%w one of %s: %w", ErrDamaged, strings.Join(suspects, ", "), errors.Join(err, errList))
}

// checkManifests reads the lists of the database's tables. The database takes a
// record that does not check for the end of the list, though more may follow,
// and would go on from an older list.
func checkManifests(fs vfs.FS, dir string) error {
	names, err := fs.List(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if !strings.HasPrefix(name, "MANIFEST-") {
			continue
		}
		path := fs.PathJoin(dir, name)
		data, err := readFile(fs, path)
		if err != nil {
			return err
		}
		if at, whole := checkRecords(data); !whole {
			return fmt.Errorf("%w %s: the record at byte %d does not check, and is not the end", ErrDamaged, path, at)
		}
	}
	return nil
}

// checkOptions holds the database's last file of options against those that it is
// opened with: these do not change, so a difference is damage, which the database
// would report without a file's name.
func checkOptions(fs vfs.FS, dir string, o *pebble.Options) error {
	names, err := fs.List(dir)
	if err != nil {
		return err
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, "OPTIONS-") })
	if len(names) == 0 {
		return nil
	}
	path := fs.PathJoin(dir, slices.Max(names)) // their numbers have six digits
	data, err := readFile(fs, path)
	if err != nil {
		return err
	}
	o.EnsureDefaults()
	if err := o.CheckCompatibility(dir, string(data)); err != nil {
		return fmt.Errorf("%w %s: %w", ErrDamaged, path, err)
	}
	return nil
}

func readFile(fs vfs.FS, path string) (data []byte, err error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return io.ReadAll(f)
}

// checkRecords checks a file of LevelDB's log format (blocks of 32 KiB, in which
// chunks have a checksum, a length and a type), and returns where it is wrong. A
// crash may have left the last chunk short, or filled with zeros.
func checkRecords(data []byte) (at int, whole bool) {
	const block, header = 32 << 10, 7
	for at < len(data) {
		room := block - at%block
		if room < header {
			at += room
			continue
		}
		rest := data[at:]
		if len(rest) < header {
			return at, true // cut off
		}
		end := header + int(binary.LittleEndian.Uint16(rest[4:]))
		if end <= min(room, len(rest)) && chunkChecksum(rest[6:end]) == binary.LittleEndian.Uint32(rest) {
			at += end
			continue
		}
		return at, len(rest) <= room && torn(rest, at, end)
	}
	return at, true
}

// torn reports whether what is left of a file from some byte on, which does not
// check, can be a chunk that a crash cut off, or filled up with zeros from a
// sector on: nothing checks in it, and its bytes end before the chunk does.
func torn(rest []byte, at, end int) bool {
	const sector = 512
	written := len(bytes.TrimRight(rest, "\x00"))
	zeros := (at+written+sector-1)/sector*sector - at
	if len(rest) >= end && zeros >= end || chunkChecksum(rest[6:]) == binary.LittleEndian.Uint32(rest) {
		return false
	}
	const header, lastType = 7, 4
	for from := 1; from+header <= written; from++ {
		chunk := rest[from:]
		if chunk[6] == 0 || chunk[6] > lastType {
			continue
		}
		end := header + int(binary.LittleEndian.Uint16(chunk[4:]))
		if end <= len(chunk) && chunkChecksum(chunk[6:end]) == binary.LittleEndian.Uint32(chunk) {
			return false
		}
	}
	return true
}

// chunkChecksum is CRC-32C, masked as LevelDB does.
func chunkChecksum(data []byte) uint32 {
	sum := crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli))
	return (sum>>15 | sum<<17) + 0xa282ead8
}
