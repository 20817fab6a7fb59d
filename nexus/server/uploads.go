package server

import (
	"container/list"
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/web"
	"github.com/hypermesh/hypermesh/nexus/blob"
	"github.com/hypermesh/hypermesh/sdk/api"
)

const (
	uploadsPath = "/v1/uploads/"
	// maxUnfinished bounds the beginnings that are kept for one address: of more,
	// the one that it went on with the longest ago is dropped. What all of them take
	// is bounded by the store, in which beginnings make room like any blob that no
	// job needs.
	maxUnfinished = 16
	maxUploaders  = 1_000 // addresses that beginnings are counted for
)

// unfinished is whose uploads broke off: a beginning is of all addresses that
// brought some of it, and is dropped when none of them keeps it.
type unfinished struct {
	mu   sync.Mutex
	of   map[string]*list.List // of crypto.Digest, the one gone on with the longest ago first
	by   map[crypto.Digest]map[string]*list.Element
	drop func(crypto.Digest)
}

func newUnfinished(drop func(crypto.Digest)) *unfinished {
	return &unfinished{of: map[string]*list.List{}, by: map[crypto.Digest]map[string]*list.Element{}, drop: drop}
}

// add notes that an address brought some of the beginning of a blob.
func (u *unfinished) add(from string, id crypto.Digest) {
	u.mu.Lock()
	defer u.mu.Unlock()
	l := u.of[from]
	if e := u.by[id][from]; e != nil {
		l.MoveToBack(e)
		return
	}
	if l == nil {
		if len(u.of) >= maxUploaders {
			clear(u.of) // the store's bound stays
			clear(u.by)
		}
		l = list.New()
		u.of[from] = l
	}
	if u.by[id] == nil {
		u.by[id] = map[string]*list.Element{}
	}
	u.by[id][from] = l.PushBack(id)
	if l.Len() > maxUnfinished {
		if oldest, ok := l.Front().Value.(crypto.Digest); ok && u.leave(from, oldest) {
			u.drop(oldest)
		}
	}
}

// leave takes a blob from an address, and reports whether nobody has it any more.
// The caller holds u.mu.
func (u *unfinished) leave(from string, id crypto.Digest) bool {
	u.of[from].Remove(u.by[id][from])
	if u.of[from].Len() == 0 {
		delete(u.of, from)
	}
	delete(u.by[id], from)
	if len(u.by[id]) > 0 {
		return false
	}
	delete(u.by, id)
	return true
}

// ended notes that the whole blob is here.
func (u *unfinished) ended(id crypto.Digest) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for from := range u.by[id] {
		u.leave(from, id)
	}
}

// registerUploads adds the way to bring a blob in several goes.
func (s *Server) registerUploads(hapi huma.API, mux *http.ServeMux) {
	mux.HandleFunc("GET "+uploadsPath+"{digest}", s.uploadState)
	mux.HandleFunc("PUT "+uploadsPath+"{digest}", s.upload)
	digest := &huma.Param{Name: "digest", In: "path", Required: true, Description: "the blob's id", Schema: &huma.Schema{Type: huma.TypeString, Pattern: "^[0-9a-f]{64}$"}}
	from := &huma.Param{Name: "from", In: "query", Description: "where the bytes begin: verified_bytes, as GET said", Schema: &huma.Schema{Type: huma.TypeInteger}}
	body := func(what string, of any) *huma.Response {
		schema := web.SchemaOf[api.UploadState](hapi)
		if _, stored := of.(api.BlobStored); stored {
			schema = web.SchemaOf[api.BlobStored](hapi)
		}
		return &huma.Response{Description: what, Content: map[string]*huma.MediaType{api.ContentJSON: {Schema: schema}}}
	}
	problem := func(what string) *huma.Response {
		return &huma.Response{Description: what, Content: map[string]*huma.MediaType{api.ContentProblem: {Schema: web.SchemaOf[api.Problem](hapi)}}}
	}
	hapi.OpenAPI().AddOperation(&huma.Operation{
		OperationID: "get-upload", Method: http.MethodGet, Path: uploadsPath + "{digest}", Summary: "How much of a blob this server has",
		Description: "Of this server alone: go on where the upload broke off.", Parameters: []*huma.Param{digest},
		Responses: map[string]*huma.Response{"200": body("OK", api.UploadState{})},
	})
	hapi.OpenAPI().AddOperation(&huma.Operation{
		OperationID: "resume-upload", Method: http.MethodPut, Path: uploadsPath + "{digest}", Summary: "Upload a blob, or the rest of it",
		Description: "The body is the blob's outline (its length in 8 bytes, big endian, and the 32-byte digests of its chunks of 256 KiB), which the id proves, and the " +
			"bytes from an offset on. Every chunk is checked as it comes. If the upload breaks off, the chunks that came are kept for a while. " +
			"Answered once a majority of servers holds the blob; a newer upload of the same blob takes over from one of the same address that " +
			"has brought nothing for 1 s, or from any that has brought nothing for 10 s, and waits for another for 20 s.",
		Parameters:  []*huma.Param{digest, from},
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{api.ContentBlob: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}}},
		Responses: map[string]*huma.Response{
			"201": body("Stored", api.BlobStored{}), "409": problem("The server has less than that: ask again how much"),
			"413": problem("Larger than the limit"), "422": problem("Not the bytes of that digest"), "503": problem("Busy, or no majority"), "507": problem("Full"),
		},
	})
}

func (s *Server) uploadState(w http.ResponseWriter, r *http.Request) {
	id, err := crypto.ParseDigest(r.PathValue("digest"))
	if err != nil {
		web.WriteProblem(w, r, s.log, web.Invalid("path.digest", err))
		return
	}
	have, whole := s.blobs.Verified(id)
	web.WriteJSON(w, r, s.log, http.StatusOK, api.UploadState{Digest: id, Verified: api.Uint64(have), Whole: whole})
}

func (s *Server) upload(w http.ResponseWriter, r *http.Request) {
	id, err := crypto.ParseDigest(r.PathValue("digest"))
	if err != nil {
		web.WriteProblem(w, r, s.log, web.Invalid("path.digest", err))
		return
	}
	from := int64(0)
	if text := r.URL.Query().Get("from"); text != "" {
		if from, err = strconv.ParseInt(text, 10, 64); err != nil || from < 0 {
			web.WriteProblem(w, r, s.log, web.Invalid("query.from", errors.New("want a number of bytes")))
			return
		}
	}
	s.pins.lend(id) // if it is here
	uploader := uploaderOf(r)
	control := http.NewResponseController(w)
	size, err := s.blobs.Receive(r.Context(), id, blob.Upload{Body: r.Body, From: from, Limit: s.maxBlob(), By: uploader, Abort: func() {
		if err := control.SetReadDeadline(time.Now()); err != nil {
			s.log.Warn("an upload cannot be ended", "error", err)
		}
	}})
	if err != nil && size > 0 { // of who brought nothing it is not
		s.unfinished.add(uploader, id)
	}
	if offset, ok := errors.AsType[*blob.OffsetError](err); ok {
		s.answerWithin(w, answerTimeout)
		w.Header().Set("Connection", "close")
		web.WriteProblem(w, r, s.log, web.NewProblem(http.StatusConflict, api.ProblemInvalid, offset.Error()))
		return
	}
	if err != nil {
		s.refuseBlob(w, r, err)
		return
	}
	s.unfinished.ended(id)
	s.storedBlob(w, r, id, size)
}

// storedBlob has a majority hold a blob that has come, and says so.
func (s *Server) storedBlob(w http.ResponseWriter, r *http.Request, id crypto.Digest, size int64) {
	s.pins.lend(id)
	s.answerWithin(w, outputTimeout)
	ctx, cancel := context.WithTimeout(r.Context(), outputTimeout)
	defer cancel()
	if err := s.spread(ctx, id); err != nil {
		s.log.Warn("upload without a majority", "blob", id.Short(), "error", err)
		web.WriteBusy(w, r, s.log, "no majority of servers could be reached to hold the blob")
		return
	}
	web.WriteJSON(w, r, s.log, http.StatusCreated, api.BlobStored{Digest: id, Bytes: api.Uint64(size)})
}

// answerWithin moves the time until which an answer may be written, which began
// with the request, whose body may have taken longer than that.
func (s *Server) answerWithin(w http.ResponseWriter, limit time.Duration) {
	if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(limit)); err != nil {
		s.log.Warn("no deadline for an answer", "error", err)
	}
}

// uploaderOf tells apart who uploads: nobody signs for a blob. Who has an IPv6
// address has all those that begin with its first 64 bits.
func uploaderOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr // another server's stream
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.Is6() && !ip.Is4In6() {
		if network, err := ip.WithZone("").Prefix(64); err == nil {
			return network.String()
		}
	}
	return host
}
