// Command probe does what its first argument says, for the executor's tests.
package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"math"
	mathrand "math/rand/v2"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

func main() {
	commands := map[string]func([]string){
		"echo": echo, "files": files, "time": times, "sleep": sleep, "escape": escape,
		"hog": hog, "exit": exit, "scatter": scatter, "handles": handles, "fail": fail, "nothing": func([]string) {}, "clocks": clocks, "chance": chance,
	}
	commands[os.Args[1]](os.Args[2:])
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(9)
	}
}

// echo prints everything that a program can know of its surroundings.
func echo(args []string) {
	fmt.Println(strings.Join(args, "|"))
	fmt.Println(strings.Join(os.Environ(), "|"))
	for _, root := range []string{"/in", "/out"} {
		must(fs.WalkDir(os.DirFS(root), ".", func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			_, err = fmt.Println(root, path, d.IsDir(), info.Size(), info.ModTime().UTC().Format(time.RFC3339))
			return err
		}))
	}
	n, err := os.Stdin.Read(make([]byte, 1))
	fmt.Println(n, err)
}

// files goes through what programs do with files.
func files([]string) {
	must(os.MkdirAll("/out/a/b", 0o755))
	must(os.WriteFile("/out/a/b/one", []byte("one"), 0o644))
	must(os.WriteFile("/out/a.txt", []byte("beside"), 0o644))
	f, err := os.OpenFile("/out/a/b/one", os.O_APPEND|os.O_WRONLY, 0)
	must(err)
	_, err = f.WriteString(" more")
	must(err)
	must(f.Close())
	must(os.Rename("/out/a/b/one", "/out/a/two"))
	must(os.Remove("/out/a/b"))
	f, err = os.OpenFile("/out/hole", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	must(err)
	_, err = f.WriteAt([]byte("end"), 5)
	must(err)
	must(f.Truncate(7))
	at, err := f.Seek(-2, 2)
	must(err)
	buf := make([]byte, 8)
	n, _ := f.Read(buf)
	fmt.Println(at, string(buf[:n]))
	must(os.Remove("/out/hole"))
	_, err = f.WriteString("gone")
	must(err)
	must(f.Close())
	entries, err := os.ReadDir("/out")
	must(err)
	for _, e := range entries {
		fmt.Println(e.Name())
	}
	fmt.Println(errors.Is(os.Mkdir("/out/a", 0o755), fs.ErrExist), errors.Is(os.Remove("/out/none"), fs.ErrNotExist), os.Remove("/out/a") != nil)
	f, err = os.Open("/in/greeting")
	must(err)
	n, err = f.ReadAt(buf, 1)
	fmt.Println(n, err, string(buf[:n]))
}

func times([]string) {
	start := time.Now()
	time.Sleep(90 * time.Minute)
	b := make([]byte, 8)
	rand.Read(b)
	fmt.Println(start.UTC().Format("2006-01-02T15:04"), time.Since(start) >= 90*time.Minute, b)
}

func sleep(args []string) {
	d, err := time.ParseDuration(args[0])
	must(err)
	start := time.Now()
	time.Sleep(d)
	fmt.Println(time.Since(start) >= d, start.Unix())
}

// escape tries to reach what a program was not given, and prints what worked.
func escape([]string) {
	for _, path := range []string{"/etc/passwd", "/in/../../etc/passwd", "/in/../out/x", "/out/../../secret", "/", "/proc/self/environ", "/in/link"} {
		if _, err := os.Open(path); err == nil && path != "/in/../out/x" {
			fmt.Println("opened", path)
		}
	}
	for _, path := range []string{"/in/new", "/in/greeting", "/escaped", "/out/../escaped", "/tmp/escaped"} {
		if os.WriteFile(path, []byte("x"), 0o644) == nil {
			fmt.Println("wrote", path)
		}
	}
	if os.Remove("/in/greeting") == nil || os.Rename("/in/greeting", "/out/greeting") == nil || os.Mkdir("/in/d", 0o755) == nil {
		fmt.Println("changed the input")
	}
	must(os.WriteFile("/out/f", nil, 0o644))
	if os.Symlink("/etc/passwd", "/out/s") == nil || os.Link("/out/f", "/out/l") == nil {
		fmt.Println("linked")
	}
	if _, err := net.Dial("tcp", "127.0.0.1:80"); err == nil {
		fmt.Println("dialled")
	}
	fmt.Println("done")
}

func hog([]string) {
	var all [][]byte
	for {
		b := make([]byte, 1<<20)
		for i := range b {
			b[i] = 1
		}
		all = append(all, b)
	}
}

func exit(args []string) {
	must(os.WriteFile("/out/partial", []byte("kept"), 0o644))
	code, err := strconv.Atoi(args[0])
	must(err)
	os.Exit(code)
}

// scatter makes one small file after another, deeper and deeper or side by side.
func scatter(args []string) {
	dir := "/out"
	for i := 0; ; i++ {
		if args[0] == "deep" {
			dir += "/" + strings.Repeat("d", 100)
			must(os.Mkdir(dir, 0o755))
			continue
		}
		must(os.WriteFile(dir+"/"+strconv.Itoa(i), nil, 0o644))
	}
}

func handles([]string) {
	n := 0
	for {
		if _, err := os.Create("/out/f"); err != nil {
			fmt.Println(n, err)
			return
		}
		n++
	}
}

func fail([]string) { panic("as asked") }

// clocks looks for the host's time wherever a program can.
func clocks([]string) {
	start := time.Now()
	for i := range 20 {
		turns, before := 0, time.Now()
		for time.Since(before) < time.Microsecond*time.Duration(i+1) {
			turns++
		}
		time.Sleep(time.Millisecond)
		must(os.WriteFile("/out/f", []byte{byte(i)}, 0o600))
		info, err := os.Stat("/out/f")
		must(err)
		in, err := os.Stat("/in")
		must(err)
		var random [4]byte
		_, err = rand.Read(random[:])
		must(err)
		fmt.Println(turns, time.Now().UnixNano(), time.Since(start), info.ModTime().UnixNano(), in.ModTime().UnixNano(), random)
	}
}

// chance writes down whatever a Go program can see that may differ from run to run.
func chance([]string) {
	out, err := os.Create("/out/chance")
	must(err)
	say := func(what ...any) {
		_, err := fmt.Fprintln(out, what...)
		must(err)
	}
	say(time.Now().UnixNano(), runtime.NumCPU(), os.Getpid(), rand.Text(), mathrand.Uint64())
	byName := map[string]*int{}
	for i := range 200 {
		byName[strconv.Itoa(i)] = &i
	}
	for name, at := range byName { // in an order of the runtime's choice
		say(name, at)
	}
	results := make(chan int)
	for i := range 50 {
		go func() {
			sum := 0.0
			for n := range 1_000 {
				sum += math.Sin(float64(n*i)) * math.FMA(float64(n), 1.1, -float64(i))
			}
			results <- int(math.Float64bits(sum))
		}()
	}
	for range 50 {
		say(<-results) // in the scheduler's order
	}
	first, second := make(chan int, 100), make(chan int, 100)
	for i := range 100 {
		first <- i
		second <- -i
	}
	for range 100 {
		select {
		case n := <-first:
			say(n)
		case n := <-second:
			say(n)
		}
	}
	runtime.GC()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	say(memory.HeapAlloc, memory.Mallocs, math.Inf(1)-math.Inf(1), time.Now().UnixNano())
	must(out.Close())
}
