package sim

import (
	"bytes"
	"errors"
	"slices"
)

// What a disk fails with.
var (
	ErrFull = errors.New("sim: no space left on the disk")
	ErrSync = errors.New("sim: input/output error in fsync")
)

// Disk is the files of one machine.
type Disk struct {
	rand    *Rand
	files   []*File // as they were made
	removed []*File // since the last crash, which may bring them back
	full    bool
	failing bool
	torn    int
}

// NewDisk returns an empty disk, whose crashes are drawn from rand.
func NewDisk(rand *Rand) *Disk { return &Disk{rand: rand} }

// Open returns the file of the name, made if need be. A file without a synced
// write may be gone after a crash.
func (d *Disk) Open(name string) *File {
	for _, f := range d.files {
		if f.name == name {
			return f
		}
	}
	f := &File{disk: d, name: name}
	d.files = append(d.files, f)
	return f
}

// Names returns the names of the files, in the order in which they were made.
func (d *Disk) Names() []string {
	var names []string
	for _, f := range d.files {
		names = append(names, f.name)
	}
	return names
}

// Remove removes the file of the name, if there is one. The next crash may
// bring it back.
func (d *Disk) Remove(name string) {
	for i, f := range d.files {
		if f.name == name {
			d.files = slices.Delete(d.files, i, i+1)
			d.removed = append(d.removed, f)
			return
		}
	}
}

// Put has the file of the name hold the records, and nothing else, for certain:
// somebody restored a copy. Without records there is no such file any more.
func (d *Disk) Put(name string, records ...[]byte) {
	d.Remove(name)
	d.removed = slices.DeleteFunc(d.removed, func(f *File) bool { return f.name == name })
	if len(records) > 0 {
		f := d.Open(name)
		f.durable, f.synced = true, slices.Clone(records)
	}
}

// SetFull has every write fail with ErrFull, or no more.
func (d *Disk) SetFull(full bool) { d.full = full }

// SetFailing has every sync fail with ErrSync, or no more.
func (d *Disk) SetFailing(failing bool) { d.failing = failing }

// Torn returns how many records crashes cut in two.
func (d *Disk) Torn() int { return d.torn }

// Crash ends whatever runs on the machine: of the writes that were not synced,
// each file keeps a prefix of drawn length.
func (d *Disk) Crash() {
	for _, f := range d.removed {
		back := !slices.ContainsFunc(d.files, func(other *File) bool { return other.name == f.name })
		if back && d.rand.Below(2) == 0 {
			d.files = append(d.files, f)
		}
	}
	d.removed = nil
	kept := d.files[:0]
	for _, f := range d.files {
		f.crash()
		if f.durable || len(f.synced) > 0 || d.rand.Below(2) == 0 {
			kept = append(kept, f)
		}
	}
	clear(d.files[len(kept):])
	d.files = kept
}

// File is a list of records that grows at its end.
type File struct {
	disk     *Disk
	name     string
	durable  bool // it was synced
	broken   bool // it failed to sync
	synced   [][]byte
	unsynced []write
}

// write is one record more, or a new content.
type write struct {
	record  []byte
	content [][]byte
	replace bool
}

func (w write) on(records [][]byte) [][]byte {
	if w.replace {
		return w.content
	}
	return append(records, w.record)
}

// Append adds copies of the records. On ErrFull some of the first may be there.
func (f *File) Append(records ...[]byte) error {
	written := len(records)
	if f.disk.full {
		written = f.disk.rand.Below(len(records) + 1)
	}
	for _, r := range records[:written] {
		f.unsynced = append(f.unsynced, write{record: bytes.Clone(r)})
	}
	if f.disk.full {
		return ErrFull
	}
	return nil
}

// Replace puts the records in the place of the whole content, at once or not at
// all, as a rename does.
func (f *File) Replace(records [][]byte) error {
	if f.disk.full {
		return ErrFull
	}
	content := make([][]byte, len(records))
	for i, r := range records {
		content[i] = bytes.Clone(r)
	}
	f.unsynced = append(f.unsynced, write{content: content, replace: true})
	return nil
}

// Sync makes everything written so far survive a crash, or returns ErrSync:
// then nobody knows how much of it is on the disk, and the file cannot be
// synced any more.
func (f *File) Sync() error {
	if f.disk.failing || f.broken {
		f.broken = true
		return ErrSync
	}
	f.durable = true
	f.settle(f.unsynced)
	return nil
}

func (f *File) crash() {
	kept := f.disk.rand.Below(len(f.unsynced) + 1)
	if kept < len(f.unsynced) && !f.unsynced[kept].replace && f.disk.rand.Below(2) == 0 {
		f.disk.torn++
	}
	f.settle(f.unsynced[:kept])
	f.broken = false
}

func (f *File) settle(writes []write) {
	for _, w := range writes {
		f.synced = w.on(f.synced)
	}
	f.unsynced = nil
}

// Synced returns the content that would survive a crash for certain. The
// records are not to be changed.
func (f *File) Synced() [][]byte { return f.synced[:len(f.synced):len(f.synced)] }

// Records returns the content as its writer sees it, synced or not. The
// records are not to be changed.
func (f *File) Records() [][]byte {
	records := f.Synced()
	for _, w := range f.unsynced {
		records = w.on(records)
	}
	return records
}
