package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/devnet"
	"github.com/hypermesh/hypermesh/nexus/blob"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// blobServer is the part of a cluster that keeps blobs, and lets a test look.
type blobServer struct {
	mu   sync.Mutex
	kept map[string][]byte
}

func (s *blobServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := strings.TrimPrefix(r.URL.Path, "/v1/blobs/")
	data, ok := s.kept[id]
	switch {
	case r.Method == http.MethodPut:
		body, err := io.ReadAll(r.Body)
		if digest := blob.Sum(body); err != nil || digest.String() != id {
			http.Error(w, "other bytes", http.StatusUnprocessableEntity)
			return
		}
		s.kept[id] = body
		w.Header().Set("Content-Type", api.ContentJSON)
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(api.BlobStored{Digest: blob.Sum(body), Bytes: api.Uint64(len(body))}) // the client says what it got
	case !ok:
		http.NotFound(w, r)
	default:
		_, _ = w.Write(data) // likewise
	}
}

// describe writes a network's description whose cluster is at url.
func describe(t *testing.T, url string) string {
	t.Helper()
	dir := t.TempDir()
	genesis := filepath.Join(dir, "genesis.json")
	address := func() string { return chain.AddressOf(crypto.AccountKeyOf(crypto.GenerateKey().Public())).String() }
	key := func() string { return crypto.GenerateKey().Public().String() }
	for _, args := range [][]string{
		{"init", "--chain-id", "blobs-1", "--community", address(), "--team", address(), "--foundation", address(), "--validators", address(), "--sale", address()},
		{"add-validator", "--name", "one", "--consensus-key", key(), "--node-key", key(), "--owner", address(), "--stake", "25000000", "--endpoint", "127.0.0.1:1"},
	} {
		if code, _, stderr := invoke(t, append([]string{"genesis", args[0], "--genesis", genesis}, args[1:]...)...); code != 0 {
			t.Fatal(stderr)
		}
	}
	text, err := json.Marshal(devnet.Description{ChainID: "blobs-1", Genesis: "genesis.json", RPC: []string{url}, Nexus: []string{url}})
	path := filepath.Join(dir, "net.json")
	if err := errors.Join(err, os.WriteFile(path, text, 0o600)); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestBlobCommands(t *testing.T) {
	kept := &blobServer{kept: map[string][]byte{}}
	server := httptest.NewServer(kept)
	defer server.Close()
	config, dir := describe(t, server.URL), t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	secret := bytes.Repeat([]byte("what nobody else may read\n"), 20_000)
	if err := os.MkdirAll(in("data/sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"file", "data/sub/file"} {
		if err := os.WriteFile(in(name), secret, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	do := func(args ...string) string {
		t.Helper()
		code, stdout, stderr := invoke(t, append(append([]string{"blob"}, args...), "--config", config)...)
		if code != 0 {
			t.Fatalf("blob %v: %d: %s", args, code, stderr)
		}
		return strings.TrimSpace(stdout)
	}
	code, stdout, stderr := invoke(t, "blob", "keygen", in("key"))
	if code != 0 {
		t.Fatal(stderr)
	}
	recipient := strings.TrimSpace(stdout)
	want := func(path string) {
		t.Helper()
		if got, err := os.ReadFile(in(path)); err != nil || !bytes.Equal(got, secret) {
			t.Errorf("%s has %d bytes: %v", path, len(got), err)
		}
	}
	plain := do("put", in("file"))
	do("get", plain, in("plain"))
	want("plain")
	sealed := do("put", in("file"), "--recipient", recipient)
	do("get", sealed, in("opened"), "--identity", in("key"))
	want("opened")
	packed := do("put", in("data"), "--recipient", recipient)
	do("get", packed, in("unpacked"), "--unpack", "--identity", in("key"))
	want("unpacked/sub/file")
	for id, data := range kept.kept {
		if id != plain && bytes.Contains(data, secret[:26]) {
			t.Errorf("the cluster keeps %s readable", id)
		}
	}
	blobRefusals(t, config, dir, [3]string{plain, sealed, packed}, func(id crypto.Digest) { kept.kept[id.String()] = secret })
}

// blobRefusals asks wrongly: for the blobs of TestBlobCommands, and for one whose
// bytes the cluster has changed.
func blobRefusals(t *testing.T, config, dir string, ids [3]string, corrupt func(crypto.Digest)) {
	t.Helper()
	plain, sealed, packed := ids[0], ids[1], ids[2]
	in := func(name string) string { return filepath.Join(dir, name) }
	other := in("other")
	if code, _, stderr := invoke(t, "blob", "keygen", other); code != 0 {
		t.Fatal(stderr)
	}
	changed := crypto.Digest{7}
	corrupt(changed)
	for _, c := range []struct {
		code int
		want string
		args []string
	}{
		{exitUsage, "--recipient", []string{"put", in("file"), "--recipient", "age1nobody"}},
		{exitUsage, "want one PATH", []string{"put"}},
		{exitFailed, "none", []string{"put", in("none")}},
		{exitUsage, "DIGEST", []string{"get", "5f", in("new")}},
		{exitUsage, "not empty", []string{"get", packed, dir, "--unpack"}},
		{exitFailed, "exists", []string{"get", plain, in("plain")}},
		{exitFailed, "cannot be unsealed", []string{"get", sealed, in("new"), "--identity", other}},
		{exitFailed, "cannot be unsealed", []string{"get", plain, in("new"), "--identity", in("key")}},
		{exitFailed, "not those of the blob", []string{"get", changed.String(), in("new")}},
		{exitFailed, "age key file", []string{"get", plain, in("new"), "--identity", in("file")}},
	} {
		code, _, stderr := invoke(t, append(append([]string{"blob"}, c.args...), "--config", config)...)
		if code != c.code || !strings.Contains(stderr, c.want) {
			t.Errorf("blob %v: %d, %q, want %d and %q", c.args, code, stderr, c.code, c.want)
		}
		if _, err := os.Stat(in("new")); err == nil {
			t.Errorf("blob %v left a file", c.args)
		}
	}
	if code, _, stderr := invoke(t, "blob", "keygen", in("key")); code != exitFailed {
		t.Errorf("keygen over a key: %d, %s", code, stderr)
	}
}
