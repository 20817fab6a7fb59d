package blob_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"testing"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/transport"
	"github.com/hypermesh/hypermesh/nexus/blob"
)

// What TestKilledMidTransfer tells the process that it kills.
const (
	envKilledDir  = "HYPERMESH_BLOB_KILLED_DIR"
	envKilledFrom = "HYPERMESH_BLOB_KILLED_FROM"
	envKilledBlob = "HYPERMESH_BLOB_KILLED_BLOB"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(envKilledDir); dir != "" {
		fmt.Fprintln(os.Stderr, fetchUntilKilled(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// fetchUntilKilled is the other process: it returns only if something is wrong.
func fetchUntilKilled(dir string) error {
	from, err := transport.ParseNodeAddr(os.Getenv(envKilledFrom))
	if err != nil {
		return err
	}
	id, err := crypto.ParseDigest(os.Getenv(envKilledBlob))
	if err != nil {
		return err
	}
	log := slog.New(slog.DiscardHandler)
	s, err := blob.Open(config(dir))
	if err != nil {
		return err
	}
	client, err := transport.Open(transport.Config{Key: crypto.GenerateKey(), Log: log})
	if err != nil {
		return err
	}
	conn, err := client.Dial(context.Background(), from, "blob")
	if err != nil {
		return err
	}
	_, err = s.Fetch(context.Background(), id, 1<<30, conn)
	return fmt.Errorf("the fetch ended: %w", err)
}

// TestKilledMidTransfer kills a process with SIGKILL in the middle of a fetch,
// and has another go on where it was.
func TestKilledMidTransfer(t *testing.T) {
	const chunks, sent, inFlight = 64, 40, 20 // in flight: a stream's window, and what is read ahead
	there := fresh(t)
	data := content(chunks * chunk)
	id := put(t, there, data)
	honest, ctx, cut := from(t, there), deadline(t), make(chan struct{})
	server, err := transport.Open(transport.Config{Key: crypto.GenerateKey(), ListenAddr: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	l, err := server.Listen(transport.Protocol{Name: "blob", Admit: func(crypto.PublicKey) bool { return true }})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(cut)
		if err := serveStart(ctx, l, honest, sent*chunk+chunk/2); err != nil {
			t.Error(err)
		}
	}()
	cfg := config(t.TempDir())
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), envKilledDir+"="+cfg.Dir, envKilledFrom+"="+server.NodeAddr().String(), envKilledBlob+"="+id.String())
	var said bytes.Buffer
	child.Stderr = &said
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	<-cut
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := child.Wait(); err == nil || child.ProcessState.Exited() {
		t.Fatalf("the process was not killed: %v: %s", err, said.String())
	}
	here := open(t, cfg)
	asked := 0
	rest := tampering(t, there, func(wire []byte) []byte { asked = len(wire); return wire })
	if n, err := here.Fetch(deadline(t), id, 1<<30, rest); err != nil || n != int64(len(data)) {
		t.Fatalf("%d bytes: %v", n, err)
	}
	if asked > (chunks-sent+inFlight)*chunk || asked < (chunks-sent-1)*chunk {
		t.Fatalf("%d chunks were fetched again, %d of %d had been sent", asked/chunk, sent, chunks)
	}
	if !bytes.Equal(read(t, here, id), data) {
		t.Fatal("the blob changed")
	}
	noFiles(t, cfg.Dir, "partial", "tmp")
}

// serveStart answers the first stream with the first bytes of what an honest
// source would, and leaves it open.
func serveStart(ctx context.Context, l *transport.Listener, honest *transport.Conn, bytes int) error {
	conn, err := l.Accept(ctx)
	if err != nil {
		return err
	}
	stream, err := conn.AcceptStream(ctx)
	if err != nil {
		return err
	}
	wire, err := answerOf(ctx, honest, stream)
	if err != nil {
		return err
	}
	_, err = stream.Write(wire[:bytes])
	return err
}
