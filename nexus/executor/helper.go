package executor

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Compiling is the one thing that a module has done to it which cannot be
// interrupted, and its time and memory grow faster than the module. So an agent
// has it done by a process of its own, which it can kill: Config.Compiler names
// it, and ServeCompiler is what it runs.
//
// A request is the limit of a function's bytes and the module's length, 8 bytes
// each, big endian, and the module. The answer is one byte; after answerCode the
// module's first memory in bytes (8, big endian) and the code, after
// answerRefused the reason. The helper ends when its standard input does, so
// that it does not outlive who asked.
const (
	answerCode    = 0
	answerRefused = 1

	maxCodeBytes        = 1 << 30
	compilerBytes       = 2 << 30  // memory of the helper
	compilerThreadBytes = 32 << 20 // and for each processor
)

// ServeCompiler answers one request and returns. It is the whole life of a
// process: it bounds the memory of the one that calls it. The error says that
// there is no answer.
func ServeCompiler(in io.Reader, out io.Writer) error {
	if err := boundMemory(); err != nil {
		return fmt.Errorf("executor: bounding the compiler's memory: %w", err)
	}
	functionBytes, module, err := readRequest(in)
	if err != nil {
		return fmt.Errorf("executor: reading a module to compile: %w", err)
	}
	answer := make(chan error, 1)
	go func() { answer <- answerRequest(out, functionBytes, module) }()
	orphaned := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, in)
		orphaned <- errors.Join(errors.New("executor: whoever asked for a compilation has gone"), err)
	}()
	select {
	case err = <-answer:
	case err = <-orphaned:
	}
	return err
}

// boundMemory leaves this process compilerBytes and what its threads need, or
// less if that is what it was given. Data and not address space: what is only
// reserved grows with the number of processors.
func boundMemory() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_DATA, &limit); err != nil {
		return err
	}
	limit.Max = min(limit.Max, compilerBytes+uint64(runtime.NumCPU())*compilerThreadBytes)
	limit.Cur = min(limit.Cur, limit.Max)
	return syscall.Setrlimit(syscall.RLIMIT_DATA, &limit)
}

func readRequest(in io.Reader) (functionBytes int, module []byte, err error) {
	var head [16]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return 0, nil, err
	}
	limit, length := binary.BigEndian.Uint64(head[:]), binary.BigEndian.Uint64(head[8:])
	if limit > maxModule || length > maxModule {
		return 0, nil, fmt.Errorf("limit %d and length %d, at most %d", limit, length, uint64(maxModule))
	}
	module = make([]byte, length)
	_, err = io.ReadFull(in, module)
	return int(limit), module, err
}

func answerRequest(out io.Writer, functionBytes int, module []byte) error {
	engine := newEngine()
	defer engine.Close()
	w := bufio.NewWriter(out)
	product, err := compile(engine, module, functionBytes)
	if r, ok := errors.AsType[*refusal](err); ok {
		_, err = w.Write(append([]byte{answerRefused}, clip(r.reason)...))
	} else if err == nil {
		_, err = w.Write(binary.BigEndian.AppendUint64([]byte{answerCode}, product.minMemoryBytes))
		if err == nil {
			_, err = w.Write(product.code)
		}
	}
	return errors.Join(err, w.Flush())
}

// ask has a helper compile a module, and kills it when ctx ends. Errors: a
// *refusal, also of a module that the compiler dies of; the context's cause.
func ask(ctx context.Context, command []string, module []byte, functionBytes int) (artifact, error) {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env, cmd.Dir = []string{}, "/"
	complaint := &beginning{}
	cmd.Stderr = complaint
	in, err := cmd.StdinPipe()
	if err != nil {
		return artifact{}, fmt.Errorf("executor: starting the compiler: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return artifact{}, fmt.Errorf("executor: starting the compiler: %w", err)
	}
	started := time.Now()
	if err := cmd.Start(); err != nil {
		return artifact{}, fmt.Errorf("executor: starting the compiler: %w", err)
	}
	head := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(functionBytes)), uint64(len(module)))
	_, failed := io.Copy(in, io.MultiReader(bytes.NewReader(head), bytes.NewReader(module)))
	answer, err := io.ReadAll(io.LimitReader(out, maxCodeBytes+1))
	failed = errors.Join(failed, err)
	if len(answer) > maxCodeBytes {
		failed = errors.Join(failed, cmd.Process.Kill())
	}
	if err := cmd.Wait(); err != nil {
		return artifact{}, compilerDied(ctx, err, string(complaint.text), time.Since(started))
	}
	if failed != nil {
		return artifact{}, fmt.Errorf("executor: asking the compiler: %w", failed)
	}
	return readAnswer(answer)
}

// compilerDied says what the end of a helper means. spent is billed where it is
// the module's doing.
func compilerDied(ctx context.Context, err error, complaint string, spent time.Duration) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return fmt.Errorf("executor: the compiler failed: %w", err)
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	if ok && status.Signaled() && slices.ContainsFunc(lastWords, func(w string) bool { return strings.Contains(complaint, w) }) {
		return &refusal{reason: "module does not compile: the compiler ran out of memory or failed", spent: spent}
	}
	return fmt.Errorf("executor: the compiler failed: %w: %s", err, complaint)
}

// lastWords are what the compiler says when it ends its process for what it
// found in a module, or for the memory that this takes.
var lastWords = []string{"memory allocation of", "has overflowed its stack", "panicked at"}

func readAnswer(answer []byte) (artifact, error) {
	switch {
	case len(answer) > maxCodeBytes:
		return artifact{}, refusef("compiled code has more than %d bytes", maxCodeBytes)
	case len(answer) > 0 && answer[0] == answerRefused:
		return artifact{}, refusef("%s", answer[1:])
	case len(answer) > 9 && answer[0] == answerCode:
		return artifact{code: answer[9:], minMemoryBytes: binary.BigEndian.Uint64(answer[1:])}, nil
	}
	return artifact{}, fmt.Errorf("executor: the compiler's answer has %d bytes, which is none", len(answer))
}

// beginning keeps the beginning of what is written to it.
type beginning struct{ text []byte }

// Write implements io.Writer; it never fails.
func (b *beginning) Write(p []byte) (int, error) {
	b.text = append(b.text, p[:min(len(p), maxDetail-len(b.text))]...)
	return len(p), nil
}
