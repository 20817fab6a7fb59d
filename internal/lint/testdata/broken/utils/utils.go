// Package utils has a bad name.
package utils
