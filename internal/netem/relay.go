package netem

import (
	"container/heap"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"
)

const (
	maxNodes    = 64
	maxDatagram = 2048    // bytes; a longer one is lost
	maxWaiting  = 8192    // datagrams of one link that are under way
	socketBytes = 4 << 20 // of a socket's buffers
)

// Config says between whom a relay stands.
type Config struct {
	Seed uint64
	// At is the relay's own address, which all nodes reach.
	At netip.Addr
	// Nodes says where each node listens, which is also where it sends from.
	Nodes []netip.AddrPort
}

func (c Config) check() error {
	if len(c.Nodes) < 2 || len(c.Nodes) > maxNodes {
		return fmt.Errorf("netem: %d nodes, want 2 to %d", len(c.Nodes), maxNodes)
	}
	if !c.At.IsValid() || c.At.IsUnspecified() {
		return errors.New("netem: At is no address of a host")
	}
	for i, node := range c.Nodes {
		if !node.IsValid() || node.Port() == 0 || slices.Contains(c.Nodes[:i], node) {
			return fmt.Errorf("netem: node %d at %v: no address of its own", i, node)
		}
	}
	return nil
}

// Traffic counts the datagrams of a link.
type Traffic struct {
	Sent       uint64 // by the node, to the relay
	Lost       uint64 // by the weather
	Cut        uint64 // by a link that was cut
	Duplicated uint64
	Delivered  uint64 // handed to the system, copies included
	Overflowed uint64 // found the link's queue full, or were too long
	Refused    uint64 // by the system
}

// Relay carries datagrams between nodes. It carries them at once and all until
// SetWeather and Cut say otherwise.
type Relay struct {
	config Config
	pairs  []*net.UDPConn // by pairOf
	wg     sync.WaitGroup

	mu      sync.Mutex
	links   []link // by linkOf
	waiting agenda
	alarm   *alarm // set for the first of waiting
	order   uint64
	failed  error
	closed  bool
}

// link is one direction of a pair.
type link struct {
	dice    *dice
	weather Weather
	cut     bool
	latest  time.Time // arrival so far
	waiting int
	traffic Traffic
}

// Open makes a relay, with its sockets in the network namespace of the calling
// thread.
func Open(config Config) (*Relay, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	n := len(config.Nodes)
	r := &Relay{config: config, pairs: make([]*net.UDPConn, n*n), links: make([]link, n*n)}
	var err error
	if r.alarm, err = newAlarm(); err != nil {
		return nil, err
	}
	r.config.Nodes = slices.Clone(config.Nodes)
	for i := range r.links {
		r.links[i].dice = newDice(config.Seed, uint64(i))
	}
	for a := range n {
		for b := a + 1; b < n; b++ {
			conn, err := openSocket(config.At)
			if err != nil {
				return nil, errors.Join(err, r.Close())
			}
			r.pairs[a*n+b], r.pairs[b*n+a] = conn, conn
			r.wg.Go(func() { r.read(conn, a, b) })
		}
	}
	r.wg.Go(r.deliver)
	return r, nil
}

func openSocket(at netip.Addr) (*net.UDPConn, error) {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(at, 0)))
	if err != nil {
		return nil, fmt.Errorf("netem: opening a socket: %w", err)
	}
	err = errors.Join(conn.SetReadBuffer(socketBytes), conn.SetWriteBuffer(socketBytes))
	raw, errRaw := conn.SyscallConn()
	if err := errors.Join(err, errRaw); err != nil {
		return nil, errors.Join(fmt.Errorf("netem: a socket's buffers: %w", err), conn.Close())
	}
	var forced error
	err = raw.Control(func(fd uintptr) {
		forced = errors.Join(
			syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUFFORCE, socketBytes),
			syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUFFORCE, socketBytes))
	})
	if errors.Is(forced, syscall.EPERM) {
		forced = nil // for the privileged alone: the buffers are as large as others may have them
	}
	if err := errors.Join(err, forced); err != nil {
		return nil, errors.Join(fmt.Errorf("netem: a socket's buffers: %w", err), conn.Close())
	}
	return conn, nil
}

// Addr returns where node a reaches node b: the same for both.
func (r *Relay) Addr(a, b int) netip.AddrPort {
	r.check(a, b)
	return r.pairs[a*len(r.config.Nodes)+b].LocalAddr().(*net.UDPAddr).AddrPort()
}

// check panics on a pair of nodes that does not exist.
func (r *Relay) check(a, b int) {
	if n := len(r.config.Nodes); a < 0 || b < 0 || a >= n || b >= n || a == b {
		panic(fmt.Sprintf("netem: no link from node %d to node %d of %d", a, b, n))
	}
}

func (r *Relay) link(from, to int) *link {
	r.check(from, to)
	return &r.links[from*len(r.config.Nodes)+to]
}

// SetWeather changes the weather of one link from now on. A weather that fails its
// Check panics.
func (r *Relay) SetWeather(from, to int, w Weather) {
	if err := w.Check(); err != nil {
		panic(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.link(from, to).weather = w
}

// SetAllWeather is SetWeather of every link.
func (r *Relay) SetAllWeather(w Weather) {
	for from := range r.config.Nodes {
		for to := range r.config.Nodes {
			if from != to {
				r.SetWeather(from, to, w)
			}
		}
	}
}

// Cut cuts one link, or mends it. What is under way on a link that is cut is lost.
func (r *Relay) Cut(from, to int, cut bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.link(from, to).cut = cut
}

// Partition puts each node on a side, cuts every link between sides and mends the
// others. Nil mends all.
func (r *Relay) Partition(sides []int) {
	if sides != nil && len(sides) != len(r.config.Nodes) {
		panic("netem: a partition with a side for some nodes only")
	}
	for from := range r.config.Nodes {
		for to := range r.config.Nodes {
			if from != to {
				r.Cut(from, to, sides != nil && sides[from] != sides[to])
			}
		}
	}
}

// Traffic returns the counts of one link so far.
func (r *Relay) Traffic(from, to int) Traffic {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.link(from, to).traffic
}

// TotalTraffic returns the sum of the counts of all links so far.
func (r *Relay) TotalTraffic() Traffic {
	r.mu.Lock()
	defer r.mu.Unlock()
	var sum Traffic
	for i := range r.links {
		t := &r.links[i].traffic
		sum.Sent += t.Sent
		sum.Lost += t.Lost
		sum.Cut += t.Cut
		sum.Duplicated += t.Duplicated
		sum.Delivered += t.Delivered
		sum.Overflowed += t.Overflowed
		sum.Refused += t.Refused
	}
	return sum
}

// Close ends the relay; what is under way is lost. It returns when its goroutines
// have ended, with the first error of a socket.
func (r *Relay) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	errs := []error{r.alarm.close()}
	r.mu.Unlock()
	n := len(r.config.Nodes)
	for a := range n {
		for b := a + 1; b < n; b++ {
			if conn := r.pairs[a*n+b]; conn != nil {
				errs = append(errs, conn.Close())
			}
		}
	}
	r.wg.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return errors.Join(append(errs, r.failed)...)
}

// packet is a datagram under way.
type packet struct {
	due   time.Time
	order uint64 // of sending, among those due at the same time
	link  *link
	conn  *net.UDPConn
	to    netip.AddrPort
	waits bool // it is counted in its link's waiting
	size  int
	data  [maxDatagram]byte
}

var packets = sync.Pool{New: func() any { return new(packet) }}

// read takes what nodes a and b send to their socket.
func (r *Relay) read(conn *net.UDPConn, a, b int) {
	nodes := r.config.Nodes
	for {
		p := packets.Get().(*packet)
		n, from, err := conn.ReadFromUDPAddrPort(p.data[:])
		if err != nil {
			r.fail(err)
			return
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		p.conn, p.size, p.waits = conn, n, false
		switch from {
		case nodes[a]:
			p.link, p.to = r.link(a, b), nodes[b]
		case nodes[b]:
			p.link, p.to = r.link(b, a), nodes[a]
		default: // a stranger
			packets.Put(p)
			continue
		}
		r.take(p)
	}
}

// fail notes why a socket can no longer be read, unless it was closed.
func (r *Relay) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed && r.failed == nil {
		r.failed = fmt.Errorf("netem: reading: %w", err)
	}
}

// take draws a datagram's fate, and sends it or has it wait.
func (r *Relay) take(p *packet) {
	now := time.Now()
	r.mu.Lock()
	l := p.link
	delays, copies := l.dice.throw(l.weather)
	l.traffic.Sent++
	switch {
	case l.cut:
		l.traffic.Cut++
		copies = 0
	case copies == 0:
		l.traffic.Lost++
	case p.size == len(p.data) || l.waiting+copies > maxWaiting:
		l.traffic.Overflowed++
		copies = 0
	case copies == 2:
		l.traffic.Duplicated++
		twin := packets.Get().(*packet)
		twin.link, twin.conn, twin.to, twin.size = p.link, p.conn, p.to, p.size
		copy(twin.data[:p.size], p.data[:p.size])
		r.schedule(twin, now.Add(delays[1]))
	}
	atOnce := copies > 0 && delays[0] == 0 && l.waiting == 0
	if copies > 0 && !atOnce {
		r.schedule(p, now.Add(delays[0]))
	}
	r.mu.Unlock()
	if atOnce {
		r.send(p)
	}
	if copies == 0 {
		packets.Put(p)
	}
}

// schedule has a datagram wait. The caller holds r.mu.
func (r *Relay) schedule(p *packet, due time.Time) {
	if p.link.weather.InOrder && due.Before(p.link.latest) {
		due = p.link.latest
	}
	if due.After(p.link.latest) {
		p.link.latest = due
	}
	r.order++
	p.due, p.order, p.waits = due, r.order, true
	p.link.waiting++
	heap.Push(&r.waiting, p)
	if r.waiting[0] == p && !r.closed {
		r.alarm.set(time.Until(due))
	}
}

// deliver sends what is due.
func (r *Relay) deliver() {
	for r.alarm.wait() {
		for p := r.next(); p != nil; p = r.next() {
			r.send(p)
		}
	}
}

// next returns a datagram that is due. If none is, the alarm is set.
func (r *Relay) next() *packet {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || len(r.waiting) == 0 {
		return nil
	}
	if wait := time.Until(r.waiting[0].due); wait > 0 {
		r.alarm.set(wait)
		return nil
	}
	return heap.Pop(&r.waiting).(*packet)
}

// send hands a datagram to the system, if its link is not cut by now.
func (r *Relay) send(p *packet) {
	r.mu.Lock()
	cut := p.link.cut
	r.mu.Unlock()
	var err error
	if !cut {
		_, err = p.conn.WriteToUDPAddrPort(p.data[:p.size], p.to)
	}
	r.mu.Lock()
	switch {
	case cut:
		p.link.traffic.Cut++
	case err != nil:
		p.link.traffic.Refused++
	default:
		p.link.traffic.Delivered++
	}
	if p.waits {
		p.link.waiting-- // only now: what comes next must not overtake it
	}
	r.mu.Unlock()
	packets.Put(p)
}

// agenda is a heap by the time due, then by the order of sending.
type agenda []*packet

func (a agenda) Len() int { return len(a) }
func (a agenda) Less(i, j int) bool {
	if c := a[i].due.Compare(a[j].due); c != 0 {
		return c < 0
	}
	return a[i].order < a[j].order
}
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)   { *a = append(*a, x.(*packet)) }
func (a *agenda) Pop() any {
	last := (*a)[len(*a)-1]
	(*a)[len(*a)-1] = nil
	*a = (*a)[:len(*a)-1]
	return last
}
