package blob

// ahead is how many chunks a transfer may have read before they are written.
const ahead = 3

// pipe has read give n chunks, each in a buffer of ChunkBytes that is its own
// until write has returned, and write take them in order. Of more than one chunk
// the next are read on a goroutine of its own, which ends with the call: one end
// of a transfer hashes while the network moves. The first error of either ends
// both; what was read before an error of read is still written. If write fails,
// read must not block for good.
func pipe(n int, read func(i int, buf []byte) ([]byte, error), write func(i int, chunk []byte) error) error {
	if n == 0 {
		return nil
	}
	if n == 1 {
		chunk, err := read(0, make([]byte, ChunkBytes))
		if err != nil {
			return err
		}
		return write(0, chunk)
	}
	type result struct {
		chunk []byte
		err   error
	}
	free, full, stop := make(chan []byte, ahead), make(chan result, ahead), make(chan struct{})
	for range min(n, ahead) {
		free <- make([]byte, ChunkBytes)
	}
	go func() {
		defer close(full)
		for i := range n {
			select {
			case <-stop:
				return
			case buf := <-free:
				chunk, err := read(i, buf)
				full <- result{chunk: chunk, err: err} // has room: there are no more buffers than that
				if err != nil {
					return
				}
			}
		}
	}()
	i := 0
	var err error
	for r := range full {
		if err == nil {
			if err = r.err; err == nil {
				err = write(i, r.chunk)
			}
			if err != nil {
				close(stop)
			}
		}
		i++
		if err == nil {
			free <- r.chunk[:ChunkBytes]
		}
	}
	return err
}
