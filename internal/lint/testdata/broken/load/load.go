// Package load does not type-check.
package load

var count int = "many"
