package executor

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"runtime"
	"slices"
	"strings"
)

// Bounds of an image's tarball. Its unpacked size has a bound of its own
// (ContainerConfig.ImageBytes).
const (
	maxImageEntries  = 1_024 // of the tarball itself
	maxLayers        = 128
	maxLayerEntries  = 300_000 // of all layers together
	maxMetadataBytes = 4 << 20 // of an index, manifest or config
	maxIndexDepth    = 4
)

// imageConfig is the part of an image's configuration that is used (OCI image
// specification, "Image Configuration").
type imageConfig struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
	Config       struct {
		User       string   `json:"User"`
		Env        []string `json:"Env"`
		Entrypoint []string `json:"Entrypoint"`
		Cmd        []string `json:"Cmd"`
		WorkingDir string   `json:"WorkingDir"`
	} `json:"config"`
	RootFS struct {
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

// tarball is an image's archive, whose members are read by name.
type tarball struct {
	in      io.ReadSeeker
	members map[string]member
}

type member struct{ offset, bytes int64 }

// openTarball lists the archive. The error is a *refusal, or the reader's.
func openTarball(in io.ReadSeeker) (*tarball, error) {
	t := &tarball{in: in, members: map[string]member{}}
	source := &faultReader{r: in}
	archive := tar.NewReader(source)
	for range maxImageEntries {
		head, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return t, nil
		}
		if source.err != nil {
			return nil, fmt.Errorf("executor: reading an image: %w", source.err)
		}
		if err != nil {
			return nil, refusef("image is no tar archive: %v", err)
		}
		if head.Typeflag != tar.TypeReg {
			continue // docker save links equal layers: those are named once too
		}
		at, err := in.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, fmt.Errorf("executor: reading an image: %w", err)
		}
		t.members[path.Clean(head.Name)] = member{at, head.Size}
	}
	return nil, refusef("image has more than %d members", maxImageEntries)
}

// faultReader remembers an error of the reader under an archive, so that it is
// not taken for the archive's.
type faultReader struct {
	r   io.Reader
	err error
}

func (f *faultReader) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		f.err = err
	}
	return n, err
}

// open returns a reader of a member, valid until the next one is opened.
func (t *tarball) open(name string) (io.Reader, int64, error) {
	m, ok := t.members[path.Clean(name)]
	if !ok {
		return nil, 0, refusef("image has no member %.128q", name)
	}
	if _, err := t.in.Seek(m.offset, io.SeekStart); err != nil {
		return nil, 0, fmt.Errorf("executor: reading an image: %w", err)
	}
	return io.LimitReader(t.in, m.bytes), m.bytes, nil
}

// decode reads a member that is a JSON document.
func (t *tarball) decode(name string, into any) error {
	r, size, err := t.open(name)
	if err != nil {
		return err
	}
	if size > maxMetadataBytes {
		return refusef("image member %.128q has %d bytes, limit %d", name, size, maxMetadataBytes)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("executor: reading an image: %w", err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return refusef("image member %.128q: %v", name, err)
	}
	return nil
}

// parts are the members that an image consists of.
type parts struct {
	config imageConfig
	layers []string // the lowest first
}

// parts finds the one image of the archive: by manifest.json as docker save
// writes it, or by index.json as an OCI layout has it.
func (t *tarball) parts() (parts, error) {
	var p parts
	var err error
	if _, ok := t.members["manifest.json"]; ok {
		p, err = t.dockerParts()
	} else {
		p, err = t.layoutParts()
	}
	if err != nil {
		return parts{}, err
	}
	c := &p.config
	switch {
	case c.OS != "linux":
		return parts{}, refusef("image is for %.32q, this node runs linux", c.OS)
	case c.Architecture != runtime.GOARCH:
		return parts{}, refusef("image is for %.32q, this node runs %s", c.Architecture, runtime.GOARCH)
	case len(p.layers) > maxLayers:
		return parts{}, refusef("image has %d layers, limit %d", len(p.layers), maxLayers)
	case len(c.RootFS.DiffIDs) != len(p.layers):
		return parts{}, refusef("image has %d layers and %d diff ids", len(p.layers), len(c.RootFS.DiffIDs))
	}
	return p, nil
}

func (t *tarball) dockerParts() (parts, error) {
	var manifests []struct {
		Config string
		Layers []string
	}
	if err := t.decode("manifest.json", &manifests); err != nil {
		return parts{}, err
	}
	if len(manifests) != 1 {
		return parts{}, refusef("archive has %d images, want 1", len(manifests))
	}
	p := parts{layers: manifests[0].Layers}
	return p, t.decode(manifests[0].Config, &p.config)
}

// descriptor names a member of an OCI layout.
type descriptor struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Platform  struct {
		Architecture string `json:"architecture"`
		OS           string `json:"os"`
	} `json:"platform"`
}

// member returns where a layout has what the descriptor names.
func (d *descriptor) member() string {
	algorithm, hex, _ := strings.Cut(d.Digest, ":")
	return path.Join("blobs", algorithm, hex)
}

func (d *descriptor) runsHere() bool {
	p := d.Platform
	return (p.OS == "" || p.OS == "linux") && (p.Architecture == "" || p.Architecture == runtime.GOARCH)
}

func (t *tarball) layoutParts() (parts, error) {
	at := "index.json"
	for range maxIndexDepth {
		var doc struct {
			Manifests []descriptor `json:"manifests"`
			Config    descriptor   `json:"config"`
			Layers    []descriptor `json:"layers"`
		}
		if err := t.decode(at, &doc); err != nil {
			return parts{}, err
		}
		if doc.Config.Digest != "" {
			var p parts
			for _, l := range doc.Layers {
				p.layers = append(p.layers, l.member())
			}
			return p, t.decode(doc.Config.member(), &p.config)
		}
		here := slices.DeleteFunc(doc.Manifests, func(d descriptor) bool { return !d.runsHere() })
		if len(here) != 1 {
			return parts{}, refusef("archive has %d images for this machine, want 1", len(here))
		}
		at = here[0].member()
	}
	return parts{}, refusef("image's indexes are nested deeper than %d", maxIndexDepth)
}
