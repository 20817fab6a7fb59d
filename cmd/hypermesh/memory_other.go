//go:build !linux

package main

import "errors"

// adviseHuge asks for huge pages under a region.
func adviseHuge([]byte) error { return errors.ErrUnsupported }
