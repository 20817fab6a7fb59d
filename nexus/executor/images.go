package executor

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// images keeps unpacked images, each in a directory of its digest: rootfs, which
// nothing writes to, and image.json. An image appears with a rename, whole.
type images struct {
	dir       string
	cache     uint64 // bytes of images that are kept beside those in use
	limit     uint64 // bytes of one image
	firstID   int    // the host's id of an image's user 0
	unpackers chan struct{}

	mu   sync.Mutex
	list map[crypto.Digest]*image
}

// image is an unpacked image, or one being unpacked.
type image struct {
	id     crypto.Digest
	done   chan struct{} // closed once the rest is set
	err    error         // a *refusal, or the disk's
	root   string        // path of rootfs
	config imageConfig
	bytes  uint64

	users int // under images.mu
	used  time.Time
}

const (
	imageFile    = "image.json"
	stagingImage = ".staging-"
)

// savedImage is image.json.
type savedImage struct {
	Config imageConfig `json:"config"`
	Bytes  uint64      `json:"bytes"`
}

// openImages opens a directory, with the images that an earlier process left.
func openImages(dir string, cache, limit uint64, firstID int) (*images, error) {
	s := &images{dir: dir, cache: cache, limit: limit, firstID: firstID, unpackers: make(chan struct{}, 1), list: map[crypto.Digest]*image{}}
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, fmt.Errorf("executor: opening the images: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("executor: opening the images: %w", err)
	}
	for _, e := range entries {
		if err := s.adopt(e.Name()); err == nil {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return nil, fmt.Errorf("executor: removing half an image: %w", err)
		}
	}
	return s, nil
}

// adopt takes an unpacked image into the list.
func (s *images) adopt(name string) error {
	id, err := crypto.ParseDigest(name)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(filepath.Join(s.dir, name, imageFile))
	if err != nil {
		return err
	}
	var saved savedImage
	if err := json.Unmarshal(data, &saved); err != nil {
		return err
	}
	done := make(chan struct{})
	close(done)
	s.list[id] = &image{id: id, done: done, root: filepath.Join(s.dir, name, "rootfs"), config: saved.Config, bytes: saved.Bytes, used: time.Now()}
	return nil
}

// get returns an image, unpacked now if it was not. The caller gives it back
// with put. Errors: a *refusal, the context's cause, the disk's.
func (s *images) get(ctx context.Context, id crypto.Digest, open func() (io.ReadSeekCloser, error)) (*image, error) {
	s.mu.Lock()
	img := s.list[id]
	if img == nil {
		img = &image{id: id, done: make(chan struct{})}
		s.list[id] = img
		go s.fill(img, open)
	}
	img.users++
	s.mu.Unlock()
	select {
	case <-img.done:
	case <-ctx.Done():
		return nil, errors.Join(context.Cause(ctx), s.put(img))
	}
	if img.err != nil {
		return nil, errors.Join(img.err, s.put(img))
	}
	return img, nil
}

// put gives an image back, and removes those that are too many.
func (s *images) put(img *image) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	img.users--
	img.used = time.Now()
	return s.shrink()
}

// shrink removes images that nobody uses, the least recently used first, until
// the cache is within its bound. The caller holds s.mu.
func (s *images) shrink() error {
	for {
		var total uint64
		var oldest *image
		for _, img := range s.list {
			if img.users > 0 {
				continue
			}
			total += img.bytes
			if oldest == nil || img.used.Before(oldest.used) {
				oldest = img
			}
		}
		if total <= s.cache || oldest == nil {
			return nil
		}
		delete(s.list, oldest.id)
		if err := os.RemoveAll(filepath.Join(s.dir, oldest.id.String())); err != nil {
			return fmt.Errorf("executor: removing an image: %w", err)
		}
	}
}

// fill unpacks an image. One that failed is forgotten, so that it is tried
// again. Two are not unpacked at once: each may fill the disk up to its bound.
func (s *images) fill(img *image, open func() (io.ReadSeekCloser, error)) {
	s.unpackers <- struct{}{}
	img.err = s.unpack(img, open)
	<-s.unpackers
	if img.err != nil {
		s.mu.Lock()
		delete(s.list, img.id)
		s.mu.Unlock()
	}
	close(img.done)
}

func (s *images) unpack(img *image, open func() (io.ReadSeekCloser, error)) (err error) {
	in, err := open()
	if err != nil {
		return fmt.Errorf("executor: opening an image: %w", err)
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	staging, err := os.MkdirTemp(s.dir, stagingImage)
	if err != nil {
		return fmt.Errorf("executor: unpacking an image: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(staging)) }()
	if img.config, img.bytes, err = unpackImage(in, filepath.Join(staging, "rootfs"), s.limit, s.firstID); err != nil {
		return err
	}
	saved, err := json.Marshal(savedImage{img.config, img.bytes})
	if err == nil {
		err = os.WriteFile(filepath.Join(staging, imageFile), saved, 0o600)
	}
	if err == nil {
		err = os.Chmod(staging, 0o711)
	}
	final := filepath.Join(s.dir, img.id.String())
	if err == nil {
		err = os.Rename(staging, final)
	}
	if err != nil {
		return fmt.Errorf("executor: keeping an image: %w", err)
	}
	img.root = filepath.Join(final, "rootfs")
	return nil
}

// unpackImage makes dir the root file system of an image, whose user 0 is the
// host's firstID. The error is a *refusal, or the disk's.
func unpackImage(in io.ReadSeeker, dir string, limit uint64, firstID int) (imageConfig, uint64, error) {
	archive, err := openTarball(in)
	if err != nil {
		return imageConfig{}, 0, err
	}
	p, err := archive.parts()
	if err != nil {
		return imageConfig{}, 0, err
	}
	if err := errors.Join(os.Mkdir(dir, 0o755), os.Chown(dir, firstID, firstID)); err != nil {
		return imageConfig{}, 0, fmt.Errorf("executor: unpacking an image: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return imageConfig{}, 0, fmt.Errorf("executor: unpacking an image: %w", err)
	}
	u := &unpacking{
		root: root, limit: limit, tree: &entryNode{kind: tar.TypeDir, children: map[string]*entryNode{}},
		owner: func(id int) (int, bool) { return firstID + id, id >= 0 && id < idRange },
	}
	for i, name := range p.layers {
		layer, _, err := archive.open(name)
		if err == nil {
			err = u.apply(layer, p.config.RootFS.DiffIDs[i])
		}
		if err != nil {
			return imageConfig{}, 0, errors.Join(err, root.Close())
		}
	}
	if err := errors.Join(u.finish(), root.Close()); err != nil {
		return imageConfig{}, 0, err
	}
	return p.config, u.bytes, nil
}

// isNotExist is errors.Is with fs.ErrNotExist.
func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }
