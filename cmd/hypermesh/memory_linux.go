package main

import "golang.org/x/sys/unix"

// adviseHuge asks for huge pages under a region.
func adviseHuge(region []byte) error { return unix.Madvise(region, unix.MADV_HUGEPAGE) }
