package store

import (
	"encoding/binary"
	"hash/maphash"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/hypermesh/hypermesh/internal/state"
)

// records keeps values of the flat state's table that were read, so that they need
// not be looked for in blocks of tables again: of a million accounts a node keeps
// all where the block cache would keep a part. It takes its memory from outside of
// the Go heap, has no pointers, and lets go of what it took in first.
//
// What it holds is what the table holds as of a generation. An even one stands; while
// a flush changes the table, and before the first block, it is odd, and nothing is
// taken in. Who reads a snapshot is served in the generation of the snapshot alone.
type records struct {
	seed       maphash.Seed
	generation atomic.Uint64
	any        atomic.Bool // something was taken in
	memory     []byte      // of all shards; nil: closed, or none
	shards     [recordShards]recordShard
	absences   [absencePlaces]absence

	// What belongs to who ends a flush.
	large bool // memory has large pages of the processor
	seen  byte
}

const (
	recordShards = 64
	// A record is a header, the key, the value, and what fills it up to a multiple of
	// recordAlign: hash (4 bytes) ‖ length of the whole, in units of recordAlign
	// (2 bytes) ‖ length of the key and recordFill bits of how much is filled up (2 bytes).
	recordHeader = 8
	recordAlign  = 8
	recordFill   = 3
	// maxRecordValue is up to what size a value is kept.
	maxRecordValue = 1 << 10
	// recordLook is where else a record is looked at: most are no longer.
	recordLook = 40
	// recordPlaces is for how many bytes of records the index has a place, about.
	recordPlaces = 40
	// absencePlaces is how many keys are remembered that the table does not have: those that are looked
	// for in each block, by their hash, and of keys of up to absenceKey bytes.
	absencePlaces = 512
	absenceKey    = 40
	// minRecordBytes is the least that makes a cache.
	minRecordBytes = recordShards * 16 << 10
	// anyGeneration is that of a reader who wants the latest.
	anyGeneration = math.MaxUint64 // no generation is that
)

// absence is a key that the table did not have in a generation. Looking for one reads filters
// of many tables, which may be on the disk.
type absence struct {
	mu         sync.Mutex
	generation uint64 // 0: of none
	size       int
	key        [absenceKey]byte
}

// recordShard is the records of a part of all hashes.
type recordShard struct {
	mu    sync.Mutex
	ring  []byte // of records, from tail to head
	index []byte // by hash, places of 4 bytes: 0, or one more than where a record is in units of recordAlign
	mask  uint32 // places less one
	head  int
	tail  int
	used  int // bytes from tail to head
	count int // places in use
	seen  byte
}

// newRecords returns a cache of about so many bytes, or none.
func newRecords(bytes int64) (*records, error) {
	c := &records{seed: maphash.MakeSeed()}
	c.generation.Store(1)
	if bytes < minRecordBytes {
		return c, nil
	}
	each := int(bytes / recordShards)
	places := 1
	for places*recordPlaces < each {
		places *= 2
	}
	each = each / recordAlign * recordAlign
	memory, err := offHeap(recordShards * each)
	if err != nil {
		return c, err
	}
	c.memory = memory
	for i := range c.shards {
		part := memory[i*each:][:each:each]
		c.shards[i] = recordShard{index: part[:4*places], ring: part[4*places:], mask: uint32(places - 1)}
	}
	return c, nil
}

func (c *records) shard(key []byte) (*recordShard, uint32) {
	hash := maphash.Bytes(c.seed, key)
	return &c.shards[hash>>32%recordShards], uint32(hash)
}

// stand says that there is a block now: the table changes by flushes alone.
func (c *records) stand() { c.generation.Add(1) }

// begin says that the table is going to change.
func (c *records) begin() { c.generation.Add(1) }

// end says that the table has changed so, and in nothing else. What is written is
// taken in as well, if anybody reads: it is likely to be read again.
func (c *records) end(blocks []pendingBlock, changes []mergedChange) {
	if c.any.Load() {
		c.update(blocks, changes)
		c.enlarge()
	}
	c.generation.Add(1)
}

// enlarge asks for large pages of the processor, once half of the memory is in use: what
// is all over it is found sooner. Before that they would take memory that nobody needs.
func (c *records) enlarge() {
	if c.large {
		return
	}
	used := 0
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		used += s.used
		s.mu.Unlock()
	}
	first := &c.shards[0]
	first.mu.Lock() // while it has its ring, the memory is there
	defer first.mu.Unlock()
	if len(first.ring) == 0 || len(c.memory) < largeNodes || 2*used < len(c.memory) {
		return
	}
	c.large = true
	useLargePages(c.memory)
	makeLargePages(c.memory)
}

// recordsAhead is how many changes of a shard are brought in at a time: one lock for
// all, and the processor waits for what they look at together.
const recordsAhead = 32

// update brings the records of changed keys to what the table holds now.
func (c *records) update(blocks []pendingBlock, changes []mergedChange) {
	var ends [recordShards]int
	hashes := make([]uint64, len(changes))
	for i := range changes {
		c.seen ^= lookAhead(blocks, changes, i)
		hashes[i] = maphash.Bytes(c.seed, changes[i].key(blocks))
		ends[hashes[i]>>32%recordShards]++
	}
	var by [recordShards][]int32 // which of the changes each shard has
	all := make([]int32, len(changes))
	for i, size := range ends {
		by[i], all = all[:0:size], all[size:]
	}
	for i, hash := range hashes {
		of := &by[hash>>32%recordShards]
		*of = append(*of, int32(i))
	}
	for i := range c.shards {
		for some := range slices.Chunk(by[i], recordsAhead) {
			for _, k := range some {
				c.seen ^= blocks[changes[k].block].changes.Look(changes[k].place)
			}
			c.shards[i].updateAll(some, hashes, func(k int32) state.Change { return changes[k].in(blocks) })
		}
	}
}

// updateAll brings in some changes.
func (s *recordShard) updateAll(which []int32, hashes []uint64, change func(int32) state.Change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ring) == 0 {
		return
	}
	var places [recordsAhead]uint32
	for i, k := range which {
		places[i] = s.place(uint32(hashes[k]) & s.mask)
	}
	for _, p := range places[:len(which)] {
		if p != 0 {
			at := offsetOf(p)
			s.seen ^= s.ring[at] ^ s.ring[min(at+recordHeader+recordLook, len(s.ring)-1)]
		}
	}
	for _, k := range which {
		s.update(uint32(hashes[k]), change(k))
	}
}

// get returns a copy of a value in a generation, and false if it is not here.
func (c *records) get(key []byte, generation uint64) ([]byte, bool) {
	if !c.any.Load() {
		return nil, false
	}
	s, hash := c.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if generation != anyGeneration && (generation%2 != 0 || generation != c.generation.Load()) {
		return nil, false // after the lock: who changes the shard said so before
	}
	_, at, ok := s.find(hash, key)
	if !ok {
		return nil, false
	}
	return append([]byte{}, s.value(at)...), true
}

// put takes in what the table held in a generation.
func (c *records) put(key, value []byte, generation uint64) {
	if len(value) > maxRecordValue || generation%2 != 0 {
		return
	}
	s, hash := c.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ring) == 0 || generation != c.generation.Load() {
		return
	}
	c.any.Store(true)
	if _, _, ok := s.find(hash, key); !ok {
		s.add(hash, key, value)
	}
}

// lacks reports whether it is known that the table has no such key in a generation.
func (c *records) lacks(key []byte, generation uint64) bool {
	now := c.generation.Load()
	if len(key) > absenceKey || now%2 != 0 || generation != anyGeneration && generation != now {
		return false
	}
	a := c.absence(key)
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.generation == now && string(a.key[:a.size]) == string(key)
}

// lack takes in that the table had no such key in a generation.
func (c *records) lack(key []byte, generation uint64) {
	if len(key) > absenceKey || generation%2 != 0 || generation != c.generation.Load() {
		return
	}
	a := c.absence(key)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.generation, a.size = generation, copy(a.key[:], key)
}

func (c *records) absence(key []byte) *absence {
	return &c.absences[maphash.Bytes(c.seed, key)%absencePlaces]
}

// close gives the memory back. Nothing is found any more.
func (c *records) close() error {
	c.generation.Store(1)
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		s.ring, s.index, s.count = nil, nil, 0
		s.mu.Unlock()
	}
	memory := c.memory
	c.memory = nil
	return freeOffHeap(memory)
}

// header returns what begins the record at an offset of the ring: the hash of its key,
// and the bytes of the whole, of the key, none if the record is gone, and of filling.
func (s *recordShard) header(at int) (hash uint32, size, key, fill int) {
	h := s.ring[at : at+recordHeader]
	both := binary.LittleEndian.Uint16(h[6:])
	return binary.LittleEndian.Uint32(h), int(binary.LittleEndian.Uint16(h[4:])) * recordAlign, int(both >> recordFill), int(both & (1<<recordFill - 1))
}

func (s *recordShard) setHeader(at int, hash uint32, size, key, fill int) {
	h := s.ring[at : at+recordHeader]
	binary.LittleEndian.PutUint32(h, hash)
	binary.LittleEndian.PutUint16(h[4:], uint16(size/recordAlign))
	binary.LittleEndian.PutUint16(h[6:], uint16(key<<recordFill|fill))
}

// value returns the value of the record at an offset.
func (s *recordShard) value(at int) []byte {
	_, size, key, fill := s.header(at)
	return s.ring[at+recordHeader+key : at+size-fill]
}

func (s *recordShard) place(i uint32) uint32 { return binary.LittleEndian.Uint32(s.index[4*i:]) }

func (s *recordShard) setPlace(i, to uint32) { binary.LittleEndian.PutUint32(s.index[4*i:], to) }

func offsetOf(place uint32) int { return int(place-1) * recordAlign }

// find returns the place of a key in the index, and where its record is in the ring.
func (s *recordShard) find(hash uint32, key []byte) (i uint32, at int, ok bool) {
	if s.count == 0 {
		return 0, 0, false
	}
	for i = hash & s.mask; ; i = (i + 1) & s.mask {
		p := s.place(i)
		if p == 0 {
			return 0, 0, false
		}
		at = offsetOf(p)
		if h, _, n, _ := s.header(at); h == hash && string(s.ring[at+recordHeader:at+recordHeader+n]) == string(key) {
			return i, at, true
		}
	}
}

// update brings a key's record to what the table holds now.
func (s *recordShard) update(hash uint32, change state.Change) {
	if len(s.ring) == 0 {
		return
	}
	kept := !change.Deleted && len(change.Value) <= maxRecordValue
	i, at, ok := s.find(hash, change.Key)
	if ok && kept {
		if _, before, _, _ := s.header(at); before == recordSize(change.Key, change.Value) {
			s.write(at, hash, change.Key, change.Value)
			return
		}
	}
	if ok {
		s.remove(i, at)
	}
	if kept {
		s.add(hash, change.Key, change.Value)
	}
}

func recordSize(key, value []byte) int {
	return (recordHeader + len(key) + len(value) + recordAlign - 1) / recordAlign * recordAlign
}

func (s *recordShard) write(at int, hash uint32, key, value []byte) {
	size := recordSize(key, value)
	s.setHeader(at, hash, size, len(key), size-recordHeader-len(key)-len(value))
	copy(s.ring[at+recordHeader:], key)
	copy(s.ring[at+recordHeader+len(key):], value)
}

// add takes in a record of a key that has none.
func (s *recordShard) add(hash uint32, key, value []byte) {
	size := recordSize(key, value)
	if left := len(s.ring) - s.head; left < size { // it does not fit before the end
		s.room(left)
		if left > 0 {
			s.setHeader(s.head, 0, left, 0, 0)
		}
		s.head, s.used = 0, s.used+left
	}
	s.room(size)
	for s.count > int(s.mask)-int(s.mask)/8 {
		s.drop()
	}
	at := s.head
	s.write(at, hash, key, value)
	if s.head, s.used = s.head+size, s.used+size; s.head == len(s.ring) {
		s.head = 0
	}
	i := hash & s.mask
	for s.place(i) != 0 {
		i = (i + 1) & s.mask
	}
	s.setPlace(i, uint32(at/recordAlign)+1)
	s.count++
}

// room lets go of the oldest records until so many bytes are free.
func (s *recordShard) room(size int) {
	for len(s.ring)-s.used < size {
		s.drop()
	}
}

// drop lets go of the oldest record.
func (s *recordShard) drop() {
	at := s.tail
	hash, size, key, _ := s.header(at)
	if key > 0 {
		i := hash & s.mask
		for s.place(i) != uint32(at/recordAlign)+1 {
			i = (i + 1) & s.mask
		}
		s.remove(i, at)
	}
	if s.tail, s.used = at+size, s.used-size; s.tail == len(s.ring) {
		s.tail = 0
	}
}

// remove takes a record out of the index and leaves its bytes to drop: a record
// without a key. Records that stand behind it because its place was taken move up.
func (s *recordShard) remove(i uint32, at int) {
	_, size, _, _ := s.header(at)
	s.setHeader(at, 0, size, 0, 0)
	s.count--
	for next := (i + 1) & s.mask; ; next = (next + 1) & s.mask {
		p := s.place(next)
		if p == 0 {
			break
		}
		hash, _, _, _ := s.header(offsetOf(p))
		if home := hash & s.mask; (next-home)&s.mask >= (next-i)&s.mask {
			s.setPlace(i, p)
			i = next
		}
	}
	s.setPlace(i, 0)
}
