// Package heavy takes another's dependency.
package heavy
