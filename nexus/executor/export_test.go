package executor

import "io"

// ReadRequest is what a helper reads.
func ReadRequest(in io.Reader) error {
	_, _, err := readRequest(in)
	return err
}
