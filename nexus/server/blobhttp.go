package server

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/web"
	"github.com/hypermesh/hypermesh/nexus/blob"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// pace is what a client has to move within bodyTimeout, on and on.
const pace = blob.ChunkBytes

// registerBlobs adds the two paths that stream, and their description.
func (s *Server) registerBlobs(hapi huma.API, mux *http.ServeMux) {
	mux.HandleFunc("PUT "+blobsPath+"{digest}", s.putBlob)
	mux.HandleFunc("GET "+blobsPath+"{digest}", s.getBlob)
	digest := &huma.Param{Name: "digest", In: "path", Required: true, Description: "the blob's id", Schema: &huma.Schema{Type: huma.TypeString, Pattern: "^[0-9a-f]{64}$"}}
	binary := map[string]*huma.MediaType{api.ContentBlob: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}}
	problem := func(what string) *huma.Response {
		return &huma.Response{Description: what, Content: map[string]*huma.MediaType{api.ContentProblem: {Schema: web.SchemaOf[api.Problem](hapi)}}}
	}
	hapi.OpenAPI().AddOperation(&huma.Operation{
		OperationID: "put-blob", Method: http.MethodPut, Path: blobsPath + "{digest}", Summary: "Upload a blob",
		Description: "It is checked while it comes in, and answered once a majority of servers holds it. A job pins its blobs; others make room for newer ones.",
		Parameters:  []*huma.Param{digest}, RequestBody: &huma.RequestBody{Required: true, Content: binary},
		Responses: map[string]*huma.Response{
			"201": {Description: "Stored", Content: map[string]*huma.MediaType{api.ContentJSON: {Schema: web.SchemaOf[api.BlobStored](hapi)}}},
			"413": problem("Larger than the limit"), "422": problem("Not the bytes of that digest"), "503": problem("Busy, or no majority"), "507": problem("Full"),
		},
	})
	hapi.OpenAPI().AddOperation(&huma.Operation{
		OperationID: "get-blob", Method: http.MethodGet, Path: blobsPath + "{digest}", Summary: "Download a blob",
		Description: "A range and HEAD are understood. Every chunk is checked before it is sent.",
		Parameters:  []*huma.Param{digest},
		Responses: map[string]*huma.Response{
			"200": {Description: "OK", Content: binary}, "206": {Description: "A range", Content: binary},
			"404": problem("No server has it"), "503": problem("Busy"),
		},
	})
}

func (s *Server) putBlob(w http.ResponseWriter, r *http.Request) {
	id, err := crypto.ParseDigest(r.PathValue("digest"))
	if err != nil {
		web.WriteProblem(w, r, s.log, web.Invalid("path.digest", err))
		return
	}
	if r.ContentLength > s.maxBlob() {
		s.tooLarge(w, r, r.ContentLength, s.maxBlob())
		return
	}
	s.pins.lend(id) // if it is here
	size, err := s.blobs.PutVerified(r.Context(), r.Body, id, s.maxBlob())
	if err != nil {
		s.refuseBlob(w, r, err)
		return
	}
	s.storedBlob(w, r, id, size)
}

// refuseBlob says why an upload was not taken.
func (s *Server) refuseBlob(w http.ResponseWriter, r *http.Request, err error) {
	s.answerWithin(w, answerTimeout)
	if large, ok := errors.AsType[*blob.TooLargeError](err); ok {
		s.tooLarge(w, r, large.Bytes, large.Limit)
		return
	}
	w.Header().Set("Connection", "close") // rather than read the rest
	if corrupt, ok := errors.AsType[*blob.CorruptError](err); ok {
		web.WriteProblem(w, r, s.log, web.Invalid("body", fmt.Errorf("the bytes are not those of blob %s", corrupt.ID)))
		return
	}
	if errors.Is(err, blob.ErrFull) {
		web.WriteProblem(w, r, s.log, web.NewProblem(http.StatusInsufficientStorage, api.ProblemBusy, "the server's store of blobs is full of what jobs need"))
		return
	}
	s.log.Info("upload broken off", "error", err)
	web.WriteBusy(w, r, s.log, "the upload broke off, or was too slow")
}

func (s *Server) getBlob(w http.ResponseWriter, r *http.Request) {
	id, err := crypto.ParseDigest(r.PathValue("digest"))
	if err != nil {
		web.WriteProblem(w, r, s.log, web.Invalid("path.digest", err))
		return
	}
	control := http.NewResponseController(w)
	if err := control.SetWriteDeadline(time.Now().Add(findLimit + bodyTimeout)); err != nil {
		s.log.Warn("no deadline for an answer", "error", err)
	}
	if _, err := s.find(r.Context(), id); err != nil {
		if !errors.Is(err, blob.ErrNotFound) {
			s.log.Info("blob not found for a client", "blob", id.Short(), "error", err)
		}
		web.WriteProblem(w, r, s.log, web.NotFound("no server has blob "+id.String()))
		return
	}
	b, err := s.blobs.Open(id)
	if err != nil {
		web.WriteBusy(w, r, s.log, "the blob is being replaced")
		return
	}
	if strings.Contains(r.Header.Get("Range"), ",") {
		r.Header.Del("Range") // every range costs a chunk's digest, however short it is
	}
	w.Header().Set("Content-Type", api.ContentBlob)
	w.Header().Set("ETag", `"`+id.String()+`"`)
	http.ServeContent(&pacedWriter{ResponseWriter: w, control: control}, r, "", time.Time{}, b)
	if err := b.Close(); err != nil {
		s.log.Warn("closing a blob", "blob", id.Short(), "error", err)
	}
}

// pacedBody gives a client bodyTimeout for each piece of a body, so that a slow
// one is cut and a large body is not. At the body's end the time is unbounded
// again: it is the answer's.
type pacedBody struct {
	io.ReadCloser
	control *http.ResponseController
	left    int // bytes until the deadline moves
}

// Read implements io.Reader.
func (p *pacedBody) Read(out []byte) (int, error) {
	if p.left <= 0 {
		if err := p.control.SetReadDeadline(time.Now().Add(bodyTimeout)); err != nil {
			return 0, fmt.Errorf("server: deadline of a body: %w", err)
		}
		p.left = pace
	}
	n, err := p.ReadCloser.Read(out[:min(len(out), p.left)])
	p.left -= n
	if errors.Is(err, io.EOF) {
		if reset := p.control.SetReadDeadline(time.Time{}); reset != nil {
			return n, fmt.Errorf("server: deadline of a body: %w", reset)
		}
	}
	return n, err
}

// pacedWriter gives a client bodyTimeout for each piece of the answer.
type pacedWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	left    int
}

// Write implements http.ResponseWriter.
func (p *pacedWriter) Write(data []byte) (int, error) {
	if p.left <= 0 {
		if err := p.control.SetWriteDeadline(time.Now().Add(bodyTimeout)); err != nil {
			return 0, err
		}
		p.left = pace
	}
	n, err := p.ResponseWriter.Write(data)
	p.left -= n
	return n, err
}
