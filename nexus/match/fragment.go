package match

// Fragmentation of GPUs: what is free on a node and yet of no use to the work
// that usually comes, because the node has no processor or memory left for it,
// or because no device has enough. Placing where it grows least keeps large
// pieces together (Weng et al., "Beware of Fragmentation: Scheduling GPU-Sharing
// Workloads with Fragmentation Gradient Descent", USENIX ATC '23, section 4).

const (
	maxDevices  = 16
	breaksScale = 1_000 // of Standing.Breaks: millionths of a GPU
)

// Shape is what a part of the work that usually comes asks for.
type Shape struct {
	Request Request
	Weight  uint64
}

// Devices is what is free of each GPU of a node, in thousandths.
type Devices []uint16

// Summary returns how many devices are all free, and how much is of the one of
// which most is.
func (d Devices) Summary() (free, most uint16) {
	for _, share := range d {
		if share == whole {
			free++
		}
		most = max(most, share)
	}
	return free, most
}

// Fragmented returns how much of a node's free GPUs is of no use to the shapes,
// weighed by how often they come, in millionths of a GPU.
func Fragmented(free *Free, devices Devices, shapes []Shape) int64 {
	var total uint64
	for _, share := range devices {
		total += uint64(share)
	}
	var sum, weights uint64
	for i := range shapes {
		s := &shapes[i]
		weights += s.Weight
		sum += s.Weight * useless(free, devices, &s.Request, total)
	}
	if weights == 0 {
		return 0
	}
	return int64(sum * breaksScale / weights)
}

// useless returns how many thousandths of GPUs the request could not use.
func useless(free *Free, devices Devices, r *Request, total uint64) uint64 {
	if r.GPUs == 0 || free.Short(r) != Fits {
		return total
	}
	var broken uint64
	for _, share := range devices {
		if uint64(share) < r.GPUMilli {
			broken += uint64(share)
		}
	}
	return broken
}

// Choose returns the devices that a request should take of a node on which it
// fits, and by how much the node's fragmentation grows, in millionths of a GPU.
// Among devices that are as good, the fullest is taken.
func Choose(r *Request, free *Free, devices Devices, shapes []Shape) (chosen []uint8, grows int64) {
	if len(devices) == 0 {
		return nil, 0
	}
	before := Fragmented(free, devices, shapes)
	if r.GPUs != 1 {
		for i, share := range devices {
			if uint64(len(chosen)) < r.GPUs && share == whole {
				chosen = append(chosen, uint8(i))
			}
		}
		return chosen, fragmentedAfter(r, free, devices, chosen, shapes) - before
	}
	tried := [1]uint8{}
	best := -1
	for i, share := range devices {
		if uint64(share) < r.GPUMilli || sameAsEarlier(devices, i) {
			continue
		}
		tried[0] = uint8(i)
		change := fragmentedAfter(r, free, devices, tried[:], shapes) - before
		if best < 0 || change < grows || change == grows && share < devices[best] {
			best, grows = i, change
		}
	}
	return []uint8{uint8(best)}, grows
}

// sameAsEarlier reports whether an earlier device has as much free.
func sameAsEarlier(devices Devices, i int) bool {
	for _, share := range devices[:i] {
		if share == devices[i] {
			return true
		}
	}
	return false
}

func fragmentedAfter(r *Request, free *Free, devices Devices, chosen []uint8, shapes []Shape) int64 {
	var copied [maxDevices]uint16
	after := Devices(copied[:copy(copied[:], devices)])
	for _, i := range chosen {
		after[i] -= uint16(r.GPUMilli)
	}
	left := Free{Millicores: free.Millicores - r.Millicores, MemoryMiB: free.MemoryMiB - r.MemoryMiB}
	left.GPUs, left.GPUMilli = after.Summary()
	return Fragmented(&left, after, shapes)
}
