package sim

import "bytes"

// Disk is the files of one machine.
type Disk struct {
	rand  *Rand
	files []*File
}

// NewDisk returns an empty disk, whose crashes are drawn from rand.
func NewDisk(rand *Rand) *Disk { return &Disk{rand: rand} }

// Open makes a new, empty file. It stays through crashes: open it once.
func (d *Disk) Open() *File {
	f := &File{}
	d.files = append(d.files, f)
	return f
}

// Crash ends whatever runs on the machine: of the writes that were not synced,
// each file keeps a prefix of drawn length.
func (d *Disk) Crash() {
	for _, f := range d.files {
		f.settle(f.unsynced[:d.rand.Below(len(f.unsynced)+1)])
	}
}

// File is a list of records that grows at its end.
type File struct {
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

// Append adds copies of the records.
func (f *File) Append(records ...[]byte) {
	for _, r := range records {
		f.unsynced = append(f.unsynced, write{record: bytes.Clone(r)})
	}
}

// Replace puts the records in the place of the whole content, at once or not at
// all, as a rename does.
func (f *File) Replace(records [][]byte) {
	content := make([][]byte, len(records))
	for i, r := range records {
		content[i] = bytes.Clone(r)
	}
	f.unsynced = append(f.unsynced, write{content: content, replace: true})
}

// Sync makes everything written so far survive a crash.
func (f *File) Sync() { f.settle(f.unsynced) }

func (f *File) settle(writes []write) {
	for _, w := range writes {
		f.synced = w.on(f.synced)
	}
	f.unsynced = nil
}

// Records returns the content as its writer sees it, synced or not. The
// records are not to be changed.
func (f *File) Records() [][]byte {
	records := f.synced[:len(f.synced):len(f.synced)]
	for _, w := range f.unsynced {
		records = w.on(records)
	}
	return records
}
