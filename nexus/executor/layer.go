package executor

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// unpacking writes the layers of one image into a directory. What is there is
// known from a tree in memory, so that no decision depends on a link that an
// image made; and the directory is reached through an os.Root, which leaves it
// by no link either.
type unpacking struct {
	root    *os.Root
	owner   func(id int) (int, bool) // the host's id of an image's user or group; false: beyond the range
	tree    *entryNode
	layer   int
	entries int
	bytes   uint64 // written so far, what was replaced included
	limit   uint64
}

// entryBytes is what an entry takes of a disk beside its bytes, about.
const entryBytes = 4 << 10

// entryNode is what the layers so far have at a path.
type entryNode struct {
	kind     byte // as in tar: TypeDir, TypeReg or TypeSymlink
	layer    int  // that wrote it last
	children map[string]*entryNode
}

// layer applies one layer. The error is a *refusal, or the disk's.
func (u *unpacking) apply(in io.Reader, diffID string) error {
	source := &faultReader{r: in}
	plain, err := inflate(source)
	if source.err != nil {
		return fmt.Errorf("executor: reading a layer: %w", source.err)
	}
	if err != nil {
		return err
	}
	sum := sha256.New()
	// The end of an archive is not the end of its bytes, and all are hashed.
	bounded := &io.LimitedReader{R: io.TeeReader(plain, sum), N: int64(2*u.limit) + 1}
	archive := tar.NewReader(bounded)
	for {
		head, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = u.entry(head, archive)
		}
		switch {
		case source.err != nil:
			return fmt.Errorf("executor: reading a layer: %w", source.err)
		case bounded.N <= 0:
			return refusef("layer %d has more than %d bytes", u.layer, 2*u.limit)
		case err != nil:
			return u.blame(err)
		}
	}
	if _, err := io.Copy(io.Discard, bounded); err != nil || bounded.N <= 0 {
		return refusef("layer %d does not end well: %v", u.layer, err)
	}
	if got := "sha256:" + hex.EncodeToString(sum.Sum(nil)); got != diffID {
		return refusef("layer %d has digest %s, the image says %.80q", u.layer, got, diffID)
	}
	u.layer++
	return nil
}

// blame tells a broken archive from a broken disk.
func (u *unpacking) blame(err error) error {
	if _, ok := errors.AsType[*refusal](err); ok {
		return err
	}
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Errorf("executor: unpacking an image: %w", err)
	}
	if _, ok := errors.AsType[*os.LinkError](err); ok {
		return fmt.Errorf("executor: unpacking an image: %w", err)
	}
	return refusef("layer %d is no tar archive: %v", u.layer, err)
}

// inflate returns a layer's tar archive, which may be compressed with gzip.
func inflate(in io.Reader) (io.Reader, error) {
	r := bufio.NewReaderSize(in, 64<<10)
	magic, err := r.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, refusef("layer is no gzip stream: %v", err)
		}
		return z, nil
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return nil, refusef("layer is compressed with zstd, want gzip or nothing")
	}
	return r, nil
}

// entry applies one entry of a layer.
func (u *unpacking) entry(head *tar.Header, body io.Reader) error {
	if u.entries++; u.entries > maxLayerEntries {
		return refusef("image has more than %d entries", maxLayerEntries)
	}
	name, err := entryName(head.Name)
	if err != nil || name == "." {
		return err
	}
	if err := u.charge(entryBytes, head.Name); err != nil {
		return err
	}
	dir, base := path.Split(name)
	parent, err := u.parent(path.Clean(dir), head.Name)
	if err != nil {
		return err
	}
	if hidden, ok := strings.CutPrefix(base, ".wh."); ok {
		return u.whiteout(parent, path.Clean(dir), hidden)
	}
	old := parent.children[base]
	if old != nil && (head.Typeflag != tar.TypeDir || old.kind != tar.TypeDir) {
		if head.Typeflag == tar.TypeLink && path.Clean(strings.TrimPrefix(head.Linkname, "./")) == name {
			return refusef("entry %.256q is a hard link to itself", head.Name)
		}
		if err := u.root.RemoveAll(name); err != nil {
			return err
		}
		delete(parent.children, base)
		old = nil
	}
	made, err := u.make(head, name, old, body)
	if err != nil {
		return err
	}
	parent.children[base] = made
	return nil
}

// charge counts bytes against the image's bound.
func (u *unpacking) charge(bytes uint64, entry string) error {
	if bytes > u.limit-u.bytes {
		return refusef("image has more than %d bytes unpacked (entry %.256q has %d)", u.limit, entry, bytes)
	}
	u.bytes += bytes
	return nil
}

// make writes what an entry is, where nothing is or, for a directory, one.
func (u *unpacking) make(head *tar.Header, name string, old *entryNode, body io.Reader) (*entryNode, error) {
	n := &entryNode{kind: head.Typeflag, layer: u.layer}
	switch head.Typeflag {
	case tar.TypeDir:
		n.children = map[string]*entryNode{}
		if old != nil {
			n.children = old.children
		} else if err := u.root.Mkdir(name, 0o755); err != nil {
			return nil, err
		}
	case tar.TypeReg:
		if err := u.file(head, name, body); err != nil {
			return nil, err
		}
	case tar.TypeSymlink:
		if head.Linkname == "" || len(head.Linkname) > maxPathBytes || strings.ContainsRune(head.Linkname, 0) {
			return nil, refusef("entry %.256q is a symbolic link to a path of %d bytes", head.Name, len(head.Linkname))
		}
		if err := u.root.Symlink(head.Linkname, name); err != nil {
			return nil, err
		}
	case tar.TypeLink:
		if err := u.link(head, name); err != nil {
			return nil, err
		}
		n.kind = tar.TypeReg
		return n, nil
	default:
		return nil, refusef("entry %.256q is of type %q: only files, directories and links are unpacked", head.Name, head.Typeflag)
	}
	return n, u.attributes(head, name)
}

// file writes a file's bytes, of which the header says how many there are.
func (u *unpacking) file(head *tar.Header, name string, body io.Reader) error {
	if err := u.charge(uint64(max(head.Size, 0)), head.Name); err != nil {
		return err
	}
	f, err := u.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, body)
	return errors.Join(err, f.Close())
}

// link makes a hard link to a file of this image.
func (u *unpacking) link(head *tar.Header, name string) error {
	target, err := entryName(head.Linkname)
	if err != nil {
		return refusef("entry %.256q is a hard link: %v", head.Name, err)
	}
	dir, base := path.Split(target)
	parent, err := u.parent(path.Clean(dir), head.Linkname)
	if err != nil {
		return err
	}
	if to := parent.children[base]; to == nil || to.kind != tar.TypeReg {
		return refusef("entry %.256q is a hard link to %.256q, which is no file of the image", head.Name, head.Linkname)
	}
	return u.root.Link(target, name)
}

// attributes gives an entry its mode and owner. Set-user-id and set-group-id
// bits are left out, as nothing would heed them, and so are extended attributes.
func (u *unpacking) attributes(head *tar.Header, name string) error {
	uid, okUser := u.owner(head.Uid)
	gid, okGroup := u.owner(head.Gid)
	if !okUser || !okGroup {
		return refusef("entry %.256q belongs to %d:%d, beyond 65535", head.Name, head.Uid, head.Gid)
	}
	if err := u.root.Lchown(name, uid, gid); err != nil {
		return err
	}
	if head.Typeflag == tar.TypeSymlink {
		return nil
	}
	mode := fs.FileMode(head.Mode) & fs.ModePerm
	if head.Typeflag == tar.TypeDir && head.Mode&0o1000 != 0 {
		mode |= fs.ModeSticky
	}
	return u.root.Chmod(name, mode)
}

// entryName returns a path below the image's root, or why it is none.
func entryName(name string) (string, error) {
	switch {
	case name == "" || len(name) > maxPathBytes:
		return "", refusef("entry has a name of %d bytes, want 1 to %d", len(name), maxPathBytes)
	case name[0] == '/':
		return "", refusef("entry %.256q is an absolute path", name)
	case strings.ContainsRune(name, 0):
		return "", refusef("entry %.256q contains a NUL", name)
	}
	depth := 0
	for part := range strings.SplitSeq(name, "/") {
		switch {
		case part == "..":
			return "", refusef("entry %.256q leaves the image", name)
		case len(part) > maxNameBytes:
			return "", refusef("entry %.256q has a name of %d bytes, limit %d", name, len(part), maxNameBytes)
		case part != "" && part != ".":
			depth++
		}
	}
	if depth > maxDepth {
		return "", refusef("entry %.256q is nested deeper than %d directories", name, maxDepth)
	}
	return path.Clean(name), nil
}

// parent finds the directory of an entry, and makes what an archive left out.
// It passes through no link.
func (u *unpacking) parent(dir, entry string) (*entryNode, error) {
	at, walked := u.tree, ""
	if dir == "." {
		return at, nil
	}
	for part := range strings.SplitSeq(dir, "/") {
		walked = path.Join(walked, part)
		next := at.children[part]
		switch {
		case next == nil:
			if u.entries++; u.entries > maxLayerEntries {
				return nil, refusef("image has more than %d entries", maxLayerEntries)
			}
			if err := u.charge(entryBytes, entry); err != nil {
				return nil, err
			}
			made, err := u.make(&tar.Header{Typeflag: tar.TypeDir, Name: walked, Mode: 0o755}, walked, nil, nil)
			if err != nil {
				return nil, err
			}
			next = made
			at.children[part] = next
		case next.kind == tar.TypeSymlink:
			return nil, refusef("entry %.256q passes through the link %.256q", entry, walked)
		case next.kind != tar.TypeDir:
			return nil, refusef("entry %.256q passes through the file %.256q", entry, walked)
		}
		at = next
	}
	return at, nil
}

// whiteout removes what lower layers have (OCI image specification, "Whiteouts").
func (u *unpacking) whiteout(parent *entryNode, dir, hidden string) error {
	switch {
	case hidden == ".wh..opq":
		return u.prune(parent, dir)
	case strings.HasPrefix(hidden, ".wh."):
		return nil // another union file system's own
	case hidden == "" || hidden == "." || hidden == "..":
		return refusef("whiteout of %.16q", hidden)
	}
	n := parent.children[hidden]
	switch {
	case n == nil || n.layer == u.layer && n.kind != tar.TypeDir:
		return nil
	case n.layer == u.layer:
		return u.prune(n, path.Join(dir, hidden))
	}
	if err := u.root.RemoveAll(path.Join(dir, hidden)); err != nil {
		return err
	}
	delete(parent.children, hidden)
	return nil
}

// prune removes what lower layers have in a directory, and leaves what this
// layer wrote.
func (u *unpacking) prune(n *entryNode, dir string) error {
	for name, c := range n.children {
		at := path.Join(dir, name)
		if c.layer == u.layer {
			if c.kind == tar.TypeDir {
				if err := u.prune(c, at); err != nil {
					return err
				}
			}
			continue
		}
		if err := u.root.RemoveAll(at); err != nil {
			return err
		}
		delete(n.children, name)
	}
	return nil
}

// mountPoints are the directories that every container has.
var mountPoints = []string{"dev", "in", "out", "proc", "tmp"}

// finish makes the mount points.
func (u *unpacking) finish() error {
	for _, name := range mountPoints {
		n := u.tree.children[name]
		if n != nil && n.kind == tar.TypeDir {
			continue
		}
		if n != nil {
			return refusef("image has /%s, which is no directory", name)
		}
		if err := u.root.Mkdir(name, 0o755); err != nil {
			return fmt.Errorf("executor: unpacking an image: %w", err)
		}
	}
	return nil
}
