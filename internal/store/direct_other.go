//go:build !linux

package store

import "github.com/cockroachdb/pebble/v2/vfs"

// setDirect reports that writes cannot go around the page cache.
func setDirect(vfs.File, bool) bool { return false }
