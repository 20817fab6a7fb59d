package sdk

import (
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

// blobHash computes a blob's id while its bytes pass by: the digest, under
// DomainBlob, of the length and the digest of the chunks' digests.
type blobHash struct {
	length uint64
	chunk  *crypto.Stream
	filled int // of the chunk
	list   *crypto.Stream
}

func newBlobHash() *blobHash {
	return &blobHash{chunk: crypto.DomainBlobChunk.NewStream(), list: crypto.DomainBlobList.NewStream()}
}

// Write implements io.Writer; it never fails.
func (h *blobHash) Write(p []byte) (int, error) {
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

func (h *blobHash) endChunk() error {
	digest := h.chunk.Sum()
	h.chunk, h.filled = crypto.DomainBlobChunk.NewStream(), 0
	_, err := h.list.Write(digest[:])
	return err
}

// sum returns the id; nothing may be written afterwards.
func (h *blobHash) sum() (crypto.Digest, error) {
	if h.filled > 0 {
		if err := h.endChunk(); err != nil {
			return crypto.Digest{}, err
		}
	}
	list := h.list.Sum()
	return crypto.DomainBlob.Hash(append(binary.BigEndian.AppendUint64(nil, h.length), list[:]...)), nil
}

// BlobID returns the id of the blob that r gives, and its size in bytes.
func BlobID(r io.Reader) (crypto.Digest, int64, error) {
	h := newBlobHash()
	n, err := io.Copy(h, r)
	if err != nil {
		return crypto.Digest{}, n, fmt.Errorf("sdk: reading a blob: %w", err)
	}
	id, err := h.sum()
	return id, n, err
}

// ErrBlob says that a server's bytes are not those of the blob.
var ErrBlob = errors.New("sdk: the bytes are not those of the blob")

// PutBlob uploads a blob and returns its id and size. It reads content twice:
// for the id, and to send it; and again if a server fails.
func (c *Client) PutBlob(ctx context.Context, content io.ReadSeeker) (crypto.Digest, int64, error) {
	if _, err := content.Seek(0, io.SeekStart); err != nil {
		return crypto.Digest{}, 0, fmt.Errorf("sdk: reading a blob: %w", err)
	}
	id, size, err := BlobID(content)
	if err != nil {
		return crypto.Digest{}, 0, err
	}
	r := call{to: c.nexus, method: http.MethodPut, path: "/v1/blobs/" + id.String(), repeatable: true}
	err = c.attempt(ctx, r, func(ctx context.Context, base string) error {
		return c.upload(ctx, base+r.path, content, size, id)
	})
	return id, size, err
}

func (c *Client) upload(ctx context.Context, target string, content io.ReadSeeker, size int64, id crypto.Digest) (err error) {
	if _, err := content.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("%w: reading a blob: %w", errAnswer, err)
	}
	body := &lentBody{content: content}
	defer func() { err = errors.Join(err, body.Close()) }()
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, target, body)
	if err != nil {
		return fmt.Errorf("%w: %w", errAnswer, err)
	}
	request.ContentLength = size
	if size == 0 {
		request.Body = http.NoBody
	}
	request.Header.Set("Content-Type", api.ContentBlob)
	response, err := c.http.Do(request)
	if err != nil {
		return err
	}
	if response, err = goodAnswer(response); err != nil {
		return err
	}
	var stored api.BlobStored
	if err := readJSON(response, 0, &stored); err != nil {
		return err
	}
	if stored.Digest != id {
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
// failure; so whoever uses a part before the end must be able to undo it.
func (c *Client) GetBlob(ctx context.Context, id crypto.Digest, limit int64) (io.ReadCloser, error) {
	var body io.ReadCloser
	err := c.attempt(ctx, get(c.nexus, "/v1/blobs/"+id.String(), nil), func(ctx context.Context, base string) error {
		response, err := c.send(ctx, base, get(c.nexus, "/v1/blobs/"+id.String(), nil)) //nolint:bodyclose // the reader's Close does
		if err != nil {
			return err
		}
		body = response.Body
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &blobReader{body: body, id: id, left: max(0, min(limit, 1<<62)), hash: newBlobHash()}, nil
}

type blobReader struct {
	body io.ReadCloser
	id   crypto.Digest
	left int64
	hash *blobHash
	err  error // once reading has ended
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
	n, err := b.body.Read(p)
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

// end compares the digest once all bytes have come.
func (b *blobReader) end(err error) error {
	if !errors.Is(err, io.EOF) {
		return fmt.Errorf("sdk: blob %s: %w", b.id.Short(), err)
	}
	got, err := b.hash.sum()
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
