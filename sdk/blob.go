package sdk

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// blobChunk is the size of a blob's chunks: package blob has the format.
const blobChunk = 256 << 10

// BlobHash computes a blob's id while its bytes pass by: the digest, under
// DomainBlob, of the length and the digest of the chunks' digests.
type BlobHash struct {
	length uint64
	chunk  *crypto.Stream
	filled int // of the chunk
	list   *crypto.Stream
	chunks []byte // their digests
}

// NewBlobHash returns a hash of nothing yet.
func NewBlobHash() *BlobHash {
	return &BlobHash{chunk: crypto.DomainBlobChunk.NewStream(), list: crypto.DomainBlobList.NewStream()}
}

// Write implements io.Writer; it never fails.
func (h *BlobHash) Write(p []byte) (int, error) {
	n := len(p)
	h.length += uint64(n)
	for len(p) > 0 {
		take := min(len(p), blobChunk-h.filled)
		if _, err := h.chunk.Write(p[:take]); err != nil {
			return 0, err
		}
		h.filled += take
		p = p[take:]
		if h.filled == blobChunk {
			if err := h.endChunk(); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}

func (h *BlobHash) endChunk() error {
	digest := h.chunk.Sum()
	h.chunks = append(h.chunks, digest[:]...)
	h.chunk, h.filled = crypto.DomainBlobChunk.NewStream(), 0
	_, err := h.list.Write(digest[:])
	return err
}

// Sum returns the id; nothing may be written afterwards.
func (h *BlobHash) Sum() (crypto.Digest, error) {
	if h.filled > 0 {
		if err := h.endChunk(); err != nil {
			return crypto.Digest{}, err
		}
	}
	list := h.list.Sum()
	return crypto.DomainBlob.Hash(append(binary.BigEndian.AppendUint64(nil, h.length), list[:]...)), nil
}

// outline returns what proves each chunk; after Sum.
func (h *BlobHash) outline() []byte {
	return append(binary.BigEndian.AppendUint64(nil, h.length), h.chunks...)
}

// BlobID returns the id of the blob that r gives, and its size in bytes.
func BlobID(r io.Reader) (crypto.Digest, int64, error) {
	h := NewBlobHash()
	n, err := io.Copy(h, r)
	if err != nil {
		return crypto.Digest{}, n, fmt.Errorf("sdk: reading a blob: %w", err)
	}
	id, err := h.Sum()
	return id, n, err
}

// ErrBlob says that a server's bytes are not those of the blob.
var ErrBlob = errors.New("sdk: the bytes are not those of the blob")

// resumeFrom is the size from which on an upload asks before how much of it is
// there: one that broke off earlier is begun anew.
const resumeFrom = 4 * blobChunk

// PutBlob uploads a blob and returns its id and size. It reads content twice:
// for the id, and to send it; and again what a server that failed has not got.
// What an earlier call, of this process or another, has brought to the same
// server is not sent again.
func (c *Client) PutBlob(ctx context.Context, content io.ReadSeeker) (crypto.Digest, int64, error) {
	if _, err := content.Seek(0, io.SeekStart); err != nil {
		return crypto.Digest{}, 0, fmt.Errorf("sdk: reading a blob: %w", err)
	}
	h := NewBlobHash()
	size, err := io.Copy(h, content)
	if err != nil {
		return crypto.Digest{}, 0, fmt.Errorf("sdk: reading a blob: %w", err)
	}
	id, err := h.Sum()
	if err != nil {
		return crypto.Digest{}, 0, err
	}
	u := &blobUpload{id: id, size: size, content: content, outline: h.outline()}
	r := call{to: c.nexus, method: http.MethodPut, path: "/v1/blobs/" + id.String(), repeatable: true}
	err = c.attempt(ctx, r, func(ctx context.Context, base string) error {
		if size < resumeFrom {
			return c.upload(ctx, base+r.path, u, 0, nil)
		}
		path := base + "/v1/uploads/" + id.String()
		state, err := c.uploadState(ctx, path)
		if IsNotFound(err) { // a server that does not know how to go on
			return c.upload(ctx, base+r.path, u, 0, nil)
		}
		if err != nil {
			return err
		}
		from := int64(min(uint64(state.Verified), uint64(size)))
		return c.upload(ctx, fmt.Sprintf("%s?from=%d", path, from), u, from, u.outline)
	})
	return id, size, err
}

// blobUpload is a blob that is uploaded.
type blobUpload struct {
	id      crypto.Digest
	size    int64
	content io.ReadSeeker
	outline []byte
}

// uploadState asks a server how much of a blob it has.
func (c *Client) uploadState(ctx context.Context, target string) (out api.UploadState, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.config.Timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return out, fmt.Errorf("%w: %w", errAnswer, err)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return out, err
	}
	c.nexus.heard.note(response.Header)
	if response, err = goodAnswer(response); err != nil {
		return out, err
	}
	return out, readJSON(response, 0, &out)
}

// upload sends a head and a blob's bytes from an offset on.
func (c *Client) upload(ctx context.Context, target string, u *blobUpload, from int64, head []byte) (err error) {
	if _, err := u.content.Seek(from, io.SeekStart); err != nil {
		return fmt.Errorf("%w: reading a blob: %w", errAnswer, err)
	}
	body := &lentBody{content: io.MultiReader(bytes.NewReader(head), u.content)}
	defer func() { err = errors.Join(err, body.Close()) }()
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, target, body)
	if err != nil {
		return fmt.Errorf("%w: %w", errAnswer, err)
	}
	request.ContentLength = int64(len(head)) + u.size - from
	if request.ContentLength == 0 {
		request.Body = http.NoBody
	}
	request.Header.Set("Content-Type", api.ContentBlob)
	response, err := c.http.Do(request)
	if err != nil {
		return err
	}
	c.nexus.heard.note(response.Header)
	if response, err = goodAnswer(response); err != nil {
		return err
	}
	var stored api.BlobStored
	if err := readJSON(response, 0, &stored); err != nil {
		return err
	}
	if stored.Digest != u.id {
		return fmt.Errorf("%w: the server stored %s", errAnswer, stored.Digest.Short())
	}
	return nil
}

// lentBody lends content to one request. The transport may go on reading after
// the request has failed; once Close returns it does not touch content any more.
type lentBody struct {
	mu      sync.Mutex
	content io.Reader // nil: given back
}

// Read implements io.Reader.
func (b *lentBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.content == nil {
		return 0, io.ErrClosedPipe
	}
	return b.content.Read(p)
}

// Close implements io.Closer.
func (b *lentBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.content = nil
	return nil
}

// GetBlob returns a blob's bytes as they come, at most limit of them. Reading
// ends with io.EOF only if they are those of id, else with ErrBlob or the
// failure; so whoever uses a part before the end must be able to undo it. A
// download that breaks off goes on where it was, at the next server if need be.
func (c *Client) GetBlob(ctx context.Context, id crypto.Digest, limit int64) (io.ReadCloser, error) {
	return c.ResumeBlob(ctx, id, nil, limit)
}

// ResumeBlob is GetBlob for who has the blob's beginning: it returns the bytes
// behind it. What comes in the end is ErrBlob also if the beginning was another's.
func (c *Client) ResumeBlob(ctx context.Context, id crypto.Digest, beginning io.Reader, limit int64) (io.ReadCloser, error) {
	b := &blobReader{client: c, ctx: ctx, id: id, left: max(0, min(limit, 1<<62)), hash: NewBlobHash()}
	if beginning != nil {
		n, err := io.Copy(b.hash, beginning)
		if err != nil {
			return nil, fmt.Errorf("sdk: reading a blob's beginning: %w", err)
		}
		b.left = max(0, b.left-n)
	}
	if err := b.open(); err != nil {
		return nil, err
	}
	return b, nil
}

type blobReader struct {
	client *Client
	ctx    context.Context // of the download
	body   io.ReadCloser
	id     crypto.Digest
	left   int64
	hash   *BlobHash
	tries  int   // in a row that brought nothing
	err    error // once reading has ended
}

// open asks for the bytes that are still to come.
func (b *blobReader) open() error {
	from := b.hash.length
	r := get(b.client.nexus, "/v1/blobs/"+b.id.String(), nil)
	if from > 0 {
		r.header = http.Header{"Range": {fmt.Sprintf("bytes=%d-", from)}}
	}
	return b.client.attempt(b.ctx, r, func(ctx context.Context, base string) error {
		response, err := b.client.send(ctx, base, r) //nolint:bodyclose // Close does
		if p, ok := errors.AsType[*api.Problem](err); ok && from > 0 && p.Status == http.StatusRequestedRangeNotSatisfiable {
			b.body = http.NoBody // there is nothing behind what is here
			return nil
		}
		if err != nil {
			return err
		}
		b.body = response.Body
		if from > 0 && response.StatusCode != http.StatusPartialContent { // it gives all of it
			if _, err := io.CopyN(io.Discard, b.body, int64(from)); err != nil {
				return errors.Join(err, b.body.Close())
			}
		}
		return nil
	})
}

// Read implements io.Reader.
func (b *blobReader) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	// One byte more than allowed tells too long from just long enough.
	p = p[:min(int64(len(p)), b.left+1)]
	n, err := b.read(p)
	if int64(n) > b.left {
		b.err = fmt.Errorf("%w %s: longer than the limit", ErrBlob, b.id.Short())
		return 0, b.err
	}
	b.left -= int64(n)
	if _, hashErr := b.hash.Write(p[:n]); hashErr != nil {
		err = hashErr
	}
	if err != nil {
		b.err = b.end(err)
	}
	return n, b.err
}

// read reads on, and goes on with another answer if one breaks off.
func (b *blobReader) read(p []byte) (int, error) {
	for {
		n, err := b.body.Read(p)
		switch {
		case err == nil || errors.Is(err, io.EOF) || b.ctx.Err() != nil:
			b.tries = 0
			return n, err
		case n > 0:
			return n, nil // the error comes again
		}
		if b.tries++; b.tries > b.client.config.Attempts {
			return 0, err
		}
		closed := b.body.Close()
		if err := b.open(); err != nil {
			b.body = http.NoBody
			return 0, errors.Join(err, closed)
		}
	}
}

// end compares the digest once all bytes have come.
func (b *blobReader) end(err error) error {
	if !errors.Is(err, io.EOF) {
		return fmt.Errorf("sdk: blob %s: %w", b.id.Short(), err)
	}
	got, err := b.hash.Sum()
	if err != nil {
		return err
	}
	if got != b.id {
		return fmt.Errorf("%w %s: they are of %s", ErrBlob, b.id.Short(), got.Short())
	}
	return io.EOF
}

// Close implements io.Closer.
func (b *blobReader) Close() error { return b.body.Close() }
