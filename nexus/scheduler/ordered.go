package scheduler

import "cmp"

// place is a position in an ordered list: by at, and among equals by the job's
// arrival, which no two jobs share.
type place struct{ at, arrival uint64 }

func (p place) compare(o place) int {
	return cmp.Or(cmp.Compare(p.at, o.at), cmp.Compare(p.arrival, o.arrival))
}

// ordered is a list sorted by place: a treap (Seidel and Aragon, "Randomized
// search trees", 1996) whose random priorities are a hash of the place, so that
// its shape and its order follow from what it holds alone. Every operation is
// O(log n). Its zero value is empty.
type ordered[V any] struct {
	root *branch[V]
	n    int
}

type branch[V any] struct {
	place       place
	priority    uint64
	value       V
	left, right *branch[V]
}

// mix is the finalizer of SplitMix64: a bijection that scatters.
func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// put adds a value at a place that is free.
func (o *ordered[V]) put(p place, v V) {
	o.n++
	added := &branch[V]{place: p, priority: mix(p.at ^ mix(p.arrival+0x9e3779b97f4a7c15)), value: v}
	at := &o.root
	for *at != nil && (*at).priority >= added.priority {
		if p.compare((*at).place) < 0 {
			at = &(*at).left
		} else {
			at = &(*at).right
		}
	}
	// What was below is split around the new branch.
	rest, left, right := *at, &added.left, &added.right
	for rest != nil {
		if rest.place.compare(p) < 0 {
			*left = rest
			left = &rest.right
			rest = *left
		} else {
			*right = rest
			right = &rest.left
			rest = *right
		}
	}
	*left, *right = nil, nil
	*at = added
}

// drop removes what is at a place; it panics if nothing is.
func (o *ordered[V]) drop(p place) {
	at := &o.root
	for *at != nil && (*at).place != p {
		if p.compare((*at).place) < 0 {
			at = &(*at).left
		} else {
			at = &(*at).right
		}
	}
	if *at == nil {
		panic("scheduler: a list lacks what it should hold")
	}
	o.n--
	left, right := (*at).left, (*at).right
	for left != nil && right != nil {
		if left.priority >= right.priority {
			*at = left
			at = &left.right
			left = *at
		} else {
			*at = right
			at = &right.left
			right = *at
		}
	}
	if left == nil {
		left = right
	}
	*at = left
}

// first returns the first value; the list is not empty.
func (o *ordered[V]) first() (place, V) {
	b := o.root
	for b.left != nil {
		b = b.left
	}
	return b.place, b.value
}

// each calls f for the values in order until it returns false, and reports
// whether it came to the end. The list must not change meanwhile.
func (o *ordered[V]) each(f func(V) bool) bool { return o.root.each(f) }

func (b *branch[V]) each(f func(V) bool) bool {
	return b == nil || b.left.each(f) && f(b.value) && b.right.each(f)
}

// after calls f for the values behind a place, in order, until it returns false,
// and reports whether it came to the end.
func (o *ordered[V]) after(p place, f func(V) bool) bool { return o.root.after(p, f) }

func (b *branch[V]) after(p place, f func(V) bool) bool {
	if b == nil {
		return true
	}
	if b.place.compare(p) <= 0 {
		return b.right.after(p, f)
	}
	return b.left.after(p, f) && f(b.value) && b.right.each(f)
}
