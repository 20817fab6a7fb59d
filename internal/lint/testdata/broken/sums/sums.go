// Package sums switches over a sealed interface.
package sums

// Shape is sealed.
type Shape interface{ sealed() }

// The members of Shape.
type (
	Circle   struct{}
	Square   struct{}
	Triangle struct{}
)

// Holder holds a member and is none.
type Holder struct{ Shape }

// Open is an interface that anyone may implement.
type Open interface{ Area() int }

func (Circle) sealed()   {}
func (*Square) sealed()  {}
func (Triangle) sealed() {}

// Area is of those that have one.
func (Triangle) Area() int { return 1 }

// Defaulted hides what is missing.
func Defaulted(s Shape) int {
	switch s.(type) {
	case Circle:
		return 1
	default:
		return 0
	}
}

// Lacking forgets one.
func Lacking(s Shape) int {
	switch s := s.(type) {
	case Circle, Triangle:
		_ = s
		return 1
	}
	return 0
}

// Complete breaks no rule.
func Complete(s Shape, o Open) int {
	switch o.(type) {
	case Triangle:
		return 3
	default:
	}
	switch s.(type) {
	case nil:
		return 0
	case Circle, *Square:
		return 1
	case Open:
		return 2
	}
	return 0
}
