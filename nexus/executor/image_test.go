package executor_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/nexus/executor"
)

const unpackLimit = 2 << 20

func entry(kind byte, name, target string) item {
	return item{tar.Header{Typeflag: kind, Name: name, Linkname: target, Mode: 0o755}, nil}
}

type hostileImage struct {
	name  string
	image []byte
	want  string
}

// A layer that would reach out of its image, or be too much, is refused with
// the entry and the limit, and nothing outside is touched.
func TestHostileImages(t *testing.T) {
	for _, c := range append(hostileLayers(t), hostileArchives(t)...) {
		t.Run(c.name, func(t *testing.T) {
			parent := t.TempDir()
			err := executor.UnpackImage(bytes.NewReader(c.image), filepath.Join(parent, "rootfs"), unpackLimit)
			if err == nil || !executor.IsRefusal(err) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want a refusal with %q", err, c.want)
			}
			entries, err := os.ReadDir(parent)
			if err != nil || len(entries) > 1 || len(entries) == 1 && entries[0].Name() != "rootfs" {
				t.Errorf("it left %v, %v", entries, err)
			}
			if _, err := os.Lstat("/tmp/escaped"); err == nil {
				t.Error("it escaped")
			}
		})
	}
}

func hostileLayers(t *testing.T) []hostileImage {
	many := []item{}
	for i := range 600 {
		many = append(many, file(fmt.Sprintf("f%d", i), ""))
	}
	deep := strings.Repeat("d/", 65) + "f"
	return []hostileImage{
		{"dot dot", saved(t, nil, pack(t, file("a/../../escaped", "x"))), `entry "a/../../escaped" leaves the image`},
		{"absolute", saved(t, nil, pack(t, file("/escaped", "x"))), `entry "/escaped" is an absolute path`},
		{"through a link", saved(t, nil, pack(t, entry(tar.TypeSymlink, "l", "../.."), file("l/escaped", "x"))), `passes through the link "l"`},
		{"through an absolute link", saved(t, nil, pack(t, entry(tar.TypeSymlink, "l", "/tmp"), file("l/escaped", "x"))), `passes through the link "l"`},
		{"through a link of a lower layer", saved(t, nil, pack(t, entry(tar.TypeSymlink, "l", "/tmp")), pack(t, file("l/escaped", "x"))), `passes through the link "l"`},
		{"through a file", saved(t, nil, pack(t, file("l", "x"), file("l/escaped", "x"))), `passes through the file "l"`},
		{"hard link out", saved(t, nil, pack(t, entry(tar.TypeLink, "l", "../../etc/passwd"))), `leaves the image`},
		{"absolute hard link", saved(t, nil, pack(t, entry(tar.TypeLink, "l", "/etc/passwd"))), `is an absolute path`},
		{"hard link through a link", saved(t, nil, pack(t, entry(tar.TypeSymlink, "s", "/etc"), entry(tar.TypeLink, "l", "s/passwd"))), `passes through the link "s"`},
		{"hard link to a link", saved(t, nil, pack(t, entry(tar.TypeSymlink, "s", "/etc/passwd"), entry(tar.TypeLink, "l", "s"))), `"s", which is no file`},
		{"hard link to itself", saved(t, nil, pack(t, file("l", "x"), entry(tar.TypeLink, "l", "l"))), `a hard link to itself`},
		{"character device", saved(t, nil, pack(t, entry(tar.TypeChar, "dev/mem", ""))), `entry "dev/mem" is of type '3'`},
		{"block device", saved(t, nil, pack(t, entry(tar.TypeBlock, "dev/sda", ""))), `is of type '4'`},
		{"fifo", saved(t, nil, pack(t, entry(tar.TypeFifo, "pipe", ""))), `is of type '6'`},
		{"owner beyond the range", saved(t, nil, pack(t, item{tar.Header{Typeflag: tar.TypeReg, Name: "f", Uid: 65_536}, nil})), `belongs to 65536:0`},
		{"giant file", giantImage(t), `image has more than 2097152 bytes unpacked (entry "giant" has 1099511627776)`},
		{"bomb", saved(t, nil, pack(t, file("a", "")), pack(t, file("bomb", strings.Repeat("\x00", 3<<20)))), `image has more than 2097152 bytes unpacked (entry "bomb"`},
		{"bomb of one file many times", saved(t, nil, pack(t, file("a", strings.Repeat("x", 1<<20)), file("a", strings.Repeat("x", 1<<20)))), `image has more than 2097152`},
		{"too many entries for their size", saved(t, nil, pack(t, many...)), `image has more than 2097152 bytes unpacked`},
		{"nested too deep", saved(t, nil, pack(t, file(deep, ""))), `nested deeper than 64`},
		{"long name", saved(t, nil, pack(t, file(strings.Repeat("n", 256), ""))), `has a name of 256 bytes`},
		{"whiteout of the parent", saved(t, nil, pack(t, file("a/.wh...", ""))), `whiteout of ".."`},
		{"whiteout out", saved(t, nil, pack(t, file("../.wh.x", ""))), `leaves the image`},
		{"mount point is a link", saved(t, nil, pack(t, entry(tar.TypeSymlink, "out", "/etc"))), `image has /out, which is no directory`},
	}
}

func hostileArchives(t *testing.T) []hostileImage {
	layers := []item{}
	for i := range 1_100 {
		layers = append(layers, file(fmt.Sprintf("member%d", i), ""))
	}
	return []hostileImage{
		{"another layer than the digest says", saved(t, func(m map[string]any) {
			m["rootfs"] = map[string]any{"diff_ids": []string{"sha256:00"}}
		}, pack(t, file("a", ""))), `the image says "sha256:00"`},
		{"too few digests", saved(t, func(m map[string]any) { m["rootfs"] = map[string]any{} }, pack(t, file("a", ""))), `1 layers and 0 diff ids`},
		{"another machine", saved(t, func(m map[string]any) { m["architecture"] = "sparc" }, pack(t)), `image is for "sparc"`},
		{"another system", saved(t, func(m map[string]any) { m["os"] = "windows" }, pack(t)), `image is for "windows"`},
		{"no tar", []byte(strings.Repeat("x", 2_000)), `no tar archive`},
		{"nothing", nil, `no member "index.json"`},
		{"too many members", pack(t, layers...), `more than 1024 members`},
		{"layer that is missing", pack(t, file("manifest.json", `[{"Config":"c","Layers":["l"]}]`), file("c", string(configOf(t, nil, nil)))), `no member "l"`},
		{"layer that is no tar", saved(t, nil, []byte(strings.Repeat("x", 2_000))), `layer 0 is no tar archive`},
		{"layer that is cut off", saved(t, nil, pack(t, file("a", strings.Repeat("x", 2_000)))[:1_500]), `layer 0 is no tar archive`},
		{"two images", pack(t, file("manifest.json", `[{},{}]`)), `archive has 2 images`},
		{"giant manifest", pack(t, file("manifest.json", strings.Repeat(" ", 5<<20))), `limit 4194304`},
		{"index of itself", pack(t, file("index.json", `{"manifests":[{"digest":"../index.json"}]}`), file("blobs/index.json", "{}")), `nested deeper than 4`},
		{"index without end", pack(t, file("index.json", `{"manifests":[{"digest":"sha256:a"}]}`), file("blobs/sha256/a", `{"manifests":[{"digest":"sha256:a"}]}`)), `nested deeper than 4`},
		{"zstd", pack(t, file("manifest.json", `[{"Config":"c","Layers":["l"]}]`), file("c", string(configOf(t, nil, nil))), file("l", "\x28\xb5\x2f\xfd0000")), `compressed with zstd`},
	}
}

// giantImage says that it has a terabyte, and has nothing.
func giantImage(t *testing.T) []byte {
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "giant", Size: 1 << 40}); err != nil {
		t.Fatal(err)
	}
	return saved(t, nil, layer.Bytes())
}

// treeOf lists a directory: names, and what files hold or links name.
func treeOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		switch {
		case d.IsDir():
			out[name] = "/"
		case d.Type() == fs.ModeSymlink:
			target, err := os.Readlink(path)
			out[name] = "-> " + target
			return err
		default:
			data, err := os.ReadFile(path)
			info, _ := d.Info()
			out[name] = fmt.Sprintf("%s %o", data, info.Mode()&(fs.ModePerm|fs.ModeSetuid|fs.ModeSetgid))
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Layers are applied as the specification says, in both forms of an archive.
func TestLayers(t *testing.T) {
	suid := item{tar.Header{Typeflag: tar.TypeReg, Name: "suid", Mode: 0o6755, Size: 1}, []byte("s")}
	layers := [][]byte{
		pack(t, entry(tar.TypeDir, "./", ""), file("./kept", "1"), file("replaced", "1"), file("hidden", "1"), entry(tar.TypeDir, "d", ""), file("d/lower", "1"), file("d/sub/lower", "1"),
			file("gone/a", "1"), file("becomes/dir", "1"), suid, entry(tar.TypeSymlink, "link", "/etc/../../x"), file("implied/by/this", "1"), file("target", "t")),
		pack(t, file("replaced", "2"), file(".wh.hidden", ""), file("d/.wh..wh..opq", ""), file("d/upper", "2"), file("d/sub/upper", "2"), file(".wh.gone", ""), file(".wh.never", ""),
			file("becomes", "2"), entry(tar.TypeLink, "hard", "./target"), entry(tar.TypeSymlink, "target2", "hard"), file(".wh..wh.aufs", "")),
		pack(t, file("gone/b", "3"), file(".wh.gone", ""), entry(tar.TypeDir, "link", "")),
	}
	want := map[string]string{
		"kept": "1 644", "replaced": "2 644", "d": "/", "d/upper": "2 644", "d/sub": "/", "d/sub/upper": "2 644", "becomes": "2 644", "suid": "s 755",
		"link": "/", "implied": "/", "implied/by": "/", "implied/by/this": "1 644", "target": "t 644", "hard": "t 644", "target2": "-> hard", "gone": "/", "gone/b": "3 644",
		"dev": "/", "in": "/", "out": "/", "proc": "/", "tmp": "/",
	}
	for name, image := range map[string][]byte{"docker": saved(t, nil, layers...), "layout": layout(t, layers...)} {
		dir := filepath.Join(t.TempDir(), "rootfs")
		if err := executor.UnpackImage(bytes.NewReader(image), dir, unpackLimit); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := treeOf(t, dir); !maps.Equal(got, want) {
			t.Errorf("%s: got %v\nwant %v", name, got, want)
		}
	}
}

// layout is an image in an OCI layout with indexes for other machines too.
func layout(t *testing.T, layers ...[]byte) []byte {
	t.Helper()
	var items []item
	put := func(data []byte) map[string]any {
		items = append(items, file("blobs/sha256/"+sha(data), string(data)))
		return map[string]any{"digest": "sha256:" + sha(data), "size": len(data)}
	}
	document := func(v any) []byte {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	var descriptors []any
	for _, l := range layers {
		descriptors = append(descriptors, put(zipped(t, l)))
	}
	manifest := put(document(map[string]any{"schemaVersion": 2, "config": put(configOf(t, nil, layers...)), "layers": descriptors}))
	other := map[string]any{"digest": "sha256:00", "platform": map[string]any{"os": "linux", "architecture": "sparc"}}
	index := put(document(map[string]any{"manifests": []any{manifest, other}}))
	items = append(items, file("oci-layout", `{"imageLayoutVersion":"1.0.0"}`), file("index.json", string(document(map[string]any{"manifests": []any{index}}))))
	slices.Reverse(items)
	return pack(t, items...)
}

type failing struct{ *bytes.Reader }

var errDisk = errors.New("disk failed")

func (f failing) Read(p []byte) (int, error) {
	if at, err := f.Seek(0, io.SeekCurrent); err == nil && at > 1_000 {
		return 0, errDisk
	}
	return f.Reader.Read(p[:min(len(p), 300)])
}

// A failure of the disk is no fault of the image.
func TestImageOnABrokenDisk(t *testing.T) {
	image := saved(t, nil, pack(t, file("a", strings.Repeat("x", 10_000))))
	err := executor.UnpackImage(failing{bytes.NewReader(image)}, filepath.Join(t.TempDir(), "rootfs"), unpackLimit)
	if !errors.Is(err, errDisk) || executor.IsRefusal(err) {
		t.Errorf("got %v, want the disk's error", err)
	}
}

// The three layouts of control groups are read, and what is missing is named.
func TestControlGroupLayouts(t *testing.T) {
	root := t.TempDir()
	put := func(name, text string) {
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	put("two/cgroup.controllers", "cpuset cpu io memory pids\n")
	put("two/g/cpu.stat", "usage_usec 1500\nuser_usec 1000\n")
	put("two/g/memory.peak", "4096\n")
	put("two/g/memory.events", "low 0\noom 3\noom_kill 2\n")
	put("two/g/pids.events", "max 7\n")
	put("two/g/io.stat", "8:0 rbytes=10 wbytes=5 rios=1\n8:16 rbytes=1 wbytes=0\n")
	put("empty/cgroup.controllers", "\n")
	for _, c := range []string{"cpu", "memory", "pids", "blkio"} {
		put("one/"+c+"/x", "")
	}
	put("one/cpu/g/cpuacct.usage", "1500000\n")
	put("one/memory/g/memory.max_usage_in_bytes", "4096\n")
	put("one/memory/g/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
	put("one/pids/g/pids.events", "max 7\n")
	put("one/blkio/g/blkio.throttle.io_service_bytes", "8:0 Read 10\n8:0 Write 5\n8:0 Total 15\n8:16 Read 1\nTotal 16\n")
	line := func(dir, kind, options string) string {
		return fmt.Sprintf("30 20 0:26 / %s rw,nosuid shared:5 - %s cgroup rw,%s\n", filepath.Join(root, dir), kind, options)
	}
	one := line("one/cpu", "cgroup", "cpu,cpuacct") + line("one/memory", "cgroup", "memory") + line("one/pids", "cgroup", "pids") + line("one/blkio", "cgroup", "blkio")
	for name, info := range map[string]string{
		"two": line("two", "cgroup2", "nsdelegate"), "one": one, "hybrid": one + line("empty", "cgroup2", "nsdelegate"),
	} {
		cpu, memory, io, ooms, forks, err := executor.GroupUsage(info, "/g")
		if got := [...]uint64{cpu, memory, io, ooms, forks}; err != nil || got != [...]uint64{1_500, 4_096, 16, 2, 7} {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	for want, info := range map[string]string{
		"controller cpu": line("empty", "cgroup2", "x"), "controller pids": line("one/cpu", "cgroup", "cpu,cpuacct") + line("one/memory", "cgroup", "memory"),
	} {
		if _, _, _, _, _, err := executor.GroupUsage(info, "/g"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
