package executor

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// box is what a container has around it: directories, mounts and counters. It
// outlives the restarts of a service.
type box struct {
	owner *Containers
	task  *ContainerTask
	dir   string // of the bundle and the mount points rootfs, in and out
	image *image

	args     []string
	env      []string
	cwd      string
	uid, gid int

	log   logMeter
	usage Usage
	seen  outUse // of /out, now
	end   Outcome
	run   *running // under owner.mu; nil between two runs of a service
}

func (b *box) path(name string) string { return filepath.Join(b.dir, name) }

// pageSize is the unit in which /out and /tmp are counted.
const pageSize = 4 << 10

// outBytes is the size of /out and /tmp: one page more than the limit, so that
// a program which fills the limit ends well and one that goes beyond is seen.
func (b *box) outBytes() uint64 {
	return (b.task.Limits.OutputBytes+pageSize-1)/pageSize*pageSize + pageSize
}

// outFiles counts the mount's root as well, and one more likewise.
func (b *box) outFiles() uint64 { return b.task.Limits.OutputFiles + 2 }

// newBox makes the box of a task. The error is a *refusal of what the image
// says, or the machine's.
func (c *Containers) newBox(task *ContainerTask, img *image) (*box, error) {
	b := &box{owner: c, task: task, image: img}
	if err := b.configure(); err != nil {
		return nil, err
	}
	if err := b.wantEmptyOutput(); err != nil {
		return nil, err
	}
	if err := c.enter(b); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(c.dir, "box-")
	if err != nil {
		c.leave(b)
		return nil, fmt.Errorf("executor: making a container: %w", err)
	}
	b.dir = dir
	if err := b.prepare(); err != nil {
		return nil, errors.Join(err, c.closeBox(b))
	}
	return b, nil
}

func (b *box) wantEmptyOutput() error {
	entries, err := os.ReadDir(b.task.OutputDir)
	if err != nil {
		return fmt.Errorf("executor: opening the output directory: %w", err)
	}
	if len(entries) > 0 {
		return fmt.Errorf("executor: output directory %s is not empty", b.task.OutputDir)
	}
	return nil
}

// prepare makes the directories and mounts of a box. They are reached by the
// container's root, who is nobody here, so that the way to them is open; what
// they hold is not, as their names are bound to directories elsewhere.
func (b *box) prepare() error {
	if err := os.Chmod(b.dir, 0o711); err != nil {
		return fmt.Errorf("executor: making a container: %w", err)
	}
	for _, name := range []string{"rootfs", "in", "out"} {
		if err := os.Mkdir(b.path(name), 0o755); err != nil {
			return fmt.Errorf("executor: making a container: %w", err)
		}
	}
	if err := attach(b.image.root, b.path("rootfs"), "", unix.MS_BIND, ""); err != nil {
		return err
	}
	if b.task.InputDir != "" {
		if err := b.giveInput(); err != nil {
			return err
		}
		if err := attach(b.task.InputDir, b.path("in"), "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	options := fmt.Sprintf("size=%d,nr_inodes=%d,mode=1777,uid=%d,gid=%d", b.outBytes(), b.outFiles(), b.owner.config.FirstID, b.owner.config.FirstID)
	return attach("tmpfs", b.path("out"), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, options)
}

func attach(from, to, kind string, flags uintptr, options string) error {
	if err := unix.Mount(from, to, kind, flags, options); err != nil {
		return fmt.Errorf("executor: mounting %s: %w", to, err)
	}
	return nil
}

// giveInput lets the container's users read /in, which is bound read-only.
func (b *box) giveInput() error {
	root, err := os.OpenRoot(b.task.InputDir)
	if err != nil {
		return fmt.Errorf("executor: opening the input directory: %w", err)
	}
	entries := 0
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("executor: listing the input directory: %w", err)
		}
		if entries++; entries > maxInputEntries {
			return refusef("input has more than %d files and directories", maxInputEntries)
		}
		if !d.IsDir() && !d.Type().IsRegular() {
			return refusef("input %q is neither a file nor a directory", name)
		}
		mode := fs.FileMode(0o644)
		if d.IsDir() {
			mode = 0o755
		}
		return root.Chmod(name, mode)
	})
	return errors.Join(err, root.Close())
}

// closeBox takes away all that a box is. It is called once no process of it is
// left.
func (c *Containers) closeBox(b *box) error {
	c.leave(b)
	err := unmountBelow(b.dir)
	if err == nil { // never remove what is mounted
		err = os.RemoveAll(b.dir)
	}
	if err != nil {
		return fmt.Errorf("executor: removing a container: %w", err)
	}
	return nil
}

// unmountBelow unmounts all that is mounted below a directory, the last first.
func unmountBelow(dir string) error {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("executor: listing mounts: %w", err)
	}
	var points []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
			points = append(points, fields[4])
		}
	}
	if err := errors.Join(lines.Err(), f.Close()); err != nil {
		return fmt.Errorf("executor: listing mounts: %w", err)
	}
	for _, point := range slices.Backward(points) {
		// EINVAL and ENOENT: whoever mounted it has unmounted it meanwhile.
		if err := unix.Unmount(point, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("executor: unmounting %s: %w", point, err)
		}
	}
	return nil
}

// configure works out what to run from task and image.
func (b *box) configure() error {
	c := &b.image.config.Config
	b.args = b.task.Command
	if len(b.args) == 0 {
		b.args = append(slices.Clone(c.Entrypoint), c.Cmd...)
	}
	if len(b.args) == 0 {
		return refusef("image has no entrypoint and no command, and the job names none")
	}
	values := map[string]string{"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/tmp"}
	names := []string{"PATH", "HOME"}
	for _, v := range append(slices.Clone(c.Env), b.task.Env...) {
		name, value, ok := strings.Cut(v, "=")
		if !ok || name == "" {
			return refusef("environment has %.64q, which is not NAME=value", v)
		}
		if _, known := values[name]; !known {
			names = append(names, name)
		}
		values[name] = value
	}
	for _, name := range names {
		b.env = append(b.env, name+"="+values[name])
	}
	for field, list := range map[string][]string{"args": b.args, "env": b.env} {
		if err := checkVector(field, list, 0); err != nil {
			return err
		}
	}
	b.cwd = "/"
	if c.WorkingDir != "" {
		b.cwd = filepath.Clean("/" + c.WorkingDir)
	}
	if err := b.checkCwd(); err != nil {
		return err
	}
	return b.user(c.User)
}

// maxLinks bounds the symbolic links on the way to a working directory.
const maxLinks = 40

// checkCwd refuses a working directory that leads into /proc or /dev, by whatever
// links of the image: a runtime that has a descriptor open there too long would
// begin the program outside of its sandbox (as runc did, CVE-2024-21626).
func (b *box) checkCwd() (err error) {
	root, err := os.OpenRoot(b.image.root)
	if err != nil {
		return fmt.Errorf("executor: opening an image: %w", err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	at, rest := "/", b.cwd
	for links := 0; rest != ""; {
		var part string
		part, rest, _ = strings.Cut(strings.TrimLeft(rest, "/"), "/")
		at = filepath.Join(at, part)
		if at == "/proc" || at == "/dev" {
			return refusef("image's working directory %.256q leads into %s", b.cwd, at)
		}
		target, linkErr := root.Readlink(strings.TrimPrefix(at, "/"))
		if at == "/" || linkErr != nil {
			continue // no link, or nothing: which the runtime says
		}
		if links++; links > maxLinks {
			return refusef("image's working directory %.256q has more than %d links", b.cwd, maxLinks)
		}
		if at = filepath.Dir(at); filepath.IsAbs(target) {
			at = "/"
		}
		rest = target + "/" + rest
	}
	return nil
}

// user finds the image's user: numbers, or names of its /etc/passwd and
// /etc/group.
func (b *box) user(text string) error {
	if text == "" {
		return nil
	}
	user, group, hasGroup := strings.Cut(text, ":")
	uid, gid, err := b.lookup("etc/passwd", user)
	if err != nil {
		return err
	}
	if hasGroup {
		if gid, _, err = b.lookup("etc/group", group); err != nil {
			return err
		}
	}
	if uid < 0 || uid >= idRange || gid < 0 || gid >= idRange {
		return refusef("image's user %.64q is beyond 65535", text)
	}
	b.uid, b.gid = uid, gid
	return nil
}

// maxAccounts bounds the bytes of a file of accounts that are read.
const maxAccounts = 1 << 20

// lookup finds an account by its name or number in a file whose lines are
// name:password:id:…, and what the fourth field says.
func (b *box) lookup(file, account string) (id, fourth int, err error) {
	number, notNumber := strconv.Atoi(account)
	root, err := os.OpenRoot(b.image.root)
	if err != nil {
		return 0, 0, fmt.Errorf("executor: opening an image: %w", err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	info, statErr := root.Stat(file)
	var data []byte
	if statErr == nil && info.Mode().IsRegular() && info.Size() <= maxAccounts {
		if data, err = root.ReadFile(file); err != nil {
			return 0, 0, fmt.Errorf("executor: reading an image: %w", err)
		}
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) < 4 || f[0] != account && f[2] != account {
			continue
		}
		id, err := strconv.Atoi(f[2])
		if err != nil {
			continue
		}
		fourth, err := strconv.Atoi(f[3])
		if err != nil {
			fourth = 0 // of /etc/group, whose fourth field is a list
		}
		return id, fourth, nil
	}
	if notNumber != nil {
		return 0, 0, refusef("image has no account %.64q in %s", account, file)
	}
	return number, 0, nil
}

// outUse is what /out holds.
type outUse struct{ bytes, files uint64 }

// measure reads what /out holds, in whole pages, and notes the most so far.
func (b *box) measure() error {
	var s unix.Statfs_t
	if err := unix.Statfs(b.path("out"), &s); err != nil {
		return fmt.Errorf("executor: measuring the output: %w", err)
	}
	b.seen = outUse{(s.Blocks - s.Bfree) * uint64(s.Bsize), s.Files - s.Ffree - 1}
	l := &b.task.Limits
	b.usage.OutputBytes = max(b.usage.OutputBytes, min(b.seen.bytes, l.OutputBytes))
	b.usage.OutputFiles = max(b.usage.OutputFiles, min(b.seen.files, l.OutputFiles))
	return nil
}

// exceeded names the limit that /out is beyond, or nothing.
func (b *box) exceeded() string {
	switch l := &b.task.Limits; {
	case b.seen.bytes > b.outBytes()-pageSize:
		return fmt.Sprintf("limit output_bytes of %d reached (in pages of 4096)", l.OutputBytes)
	case b.seen.files > l.OutputFiles:
		return fmt.Sprintf("limit output_files of %d reached", l.OutputFiles)
	}
	return ""
}

func millis(d time.Duration) uint64 { return uint64((d + time.Millisecond - 1) / time.Millisecond) }
