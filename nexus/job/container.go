package job

import (
	"fmt"
	"strings"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// Bounds of a container's specification.
const (
	MinProcesses   = 16 // an OCI runtime's own threads need about as many to begin
	MaxProcesses   = 4_096
	MaxRestarts    = 1_000
	MaxHealthMs    = 3600 * 1000
	MaxHealthFails = 100
	MaxHealthPath  = 256
	minHealthMs    = 100
)

// DefaultProcesses suits a server with some workers.
const DefaultProcesses = 64

// KindContainer is what a node names in Hello.Kernels when it runs containers.
// No zk kernel has this name.
const KindContainer = "container"

// Container is a program in an OCI image. It sees /in (read only), /out and
// /tmp, no network but its own loopback, and no clock or randomness but the
// machine's.
type Container struct {
	_         struct{}      `cbor:",toarray"`
	Image     crypto.Digest `json:"image"`             // blob: a tarball as docker save or an OCI layout has it
	Input     crypto.Digest `json:"input"`             // blob: a packed directory, seen at /in; zero: none
	Command   []string      `json:"command,omitempty"` // in the place of the image's entrypoint and command; empty: those
	Env       []string      `json:"env,omitempty"`     // KEY=value, over the image's
	Processes uint64        `json:"processes"`         // at once, threads included
	Service   Service       `json:"service,omitzero"`
}

// Restart says when a service is begun again. A batch job has none and ends when
// its program does.
type Restart uint8

// The policies.
const (
	RestartNone      Restart = iota // a batch job
	RestartNever                    // a service that is not begun again
	RestartOnFailure                // unless it exited with 0
	RestartAlways
	restartCount = iota
)

// String names the policy in lower case.
func (r Restart) String() string {
	if int(r) >= restartCount {
		return fmt.Sprintf("Restart(%d)", uint8(r))
	}
	return [restartCount]string{"none", "never", "on-failure", "always"}[r]
}

// MarshalText is String.
func (r Restart) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads a policy by its name.
func (r *Restart) UnmarshalText(text []byte) error {
	for known := range Restart(restartCount) {
		if known.String() == string(text) {
			*r = known
			return nil
		}
	}
	return fmt.Errorf("job: restart policy %.20q is unknown", text)
}

// Service makes a container one that runs until Limits.WallMs have passed,
// which is then its good end. Its zero value is a batch job.
type Service struct {
	_        struct{}    `cbor:",toarray"`
	Restart  Restart     `json:"restart,omitempty"`
	Restarts uint64      `json:"restarts,omitempty"` // at most so many, after pauses that double from 100 ms to 30 s
	Health   HealthCheck `json:"health,omitzero"`
}

// HealthCheck is how a service is asked whether it is well: by a command in its
// sandbox, which exits with 0, or at a port of its loopback, which accepts a
// connection or, with Path, answers GET with a status of 200 to 399. One that
// fails Failures times in a row is ended, as one that failed. Its zero value
// asks nothing.
type HealthCheck struct {
	_          struct{} `cbor:",toarray"`
	Command    []string `json:"command,omitempty"`
	Port       uint64   `json:"port,omitempty"`
	Path       string   `json:"path,omitempty"`
	StartMs    uint64   `json:"start_ms,omitempty"`    // grace before the first
	IntervalMs uint64   `json:"interval_ms,omitempty"` // between two
	TimeoutMs  uint64   `json:"timeout_ms,omitempty"`  // of each
	Failures   uint64   `json:"failures,omitempty"`
}

// Asks reports whether there is a check.
func (h *HealthCheck) Asks() bool { return len(h.Command) > 0 || h.Port != 0 }

func (Container) sealedWork() {}

func checkContainer(c *Container) error {
	if c.Image.IsZero() {
		return fmt.Errorf("%w: work.image is zero", ErrSpec)
	}
	if err := checkStrings("work.command", c.Command); err != nil {
		return err
	}
	if err := checkStrings("work.env", c.Env); err != nil {
		return err
	}
	for i, v := range c.Env {
		if name, _, ok := strings.Cut(v, "="); !ok || name == "" {
			return fmt.Errorf("%w: work.env[%d] is not NAME=value", ErrSpec, i)
		}
	}
	if c.Processes < MinProcesses || c.Processes > MaxProcesses {
		return fmt.Errorf("%w: work.processes is %d, want %d to %d", ErrSpec, c.Processes, MinProcesses, MaxProcesses)
	}
	return checkService(&c.Service)
}

func checkService(s *Service) error {
	h := &s.Health
	switch {
	case s.Restart >= restartCount:
		return fmt.Errorf("%w: work.service.restart %d is unknown", ErrSpec, s.Restart)
	case s.Restart <= RestartNever && s.Restarts != 0:
		return fmt.Errorf("%w: work.service.restarts is %d with restart %s", ErrSpec, s.Restarts, s.Restart)
	case s.Restart > RestartNever && (s.Restarts == 0 || s.Restarts > MaxRestarts):
		return fmt.Errorf("%w: work.service.restarts is %d, want 1 to %d", ErrSpec, s.Restarts, MaxRestarts)
	case !h.Asks() && (h.Path != "" || h.StartMs|h.IntervalMs|h.TimeoutMs|h.Failures != 0):
		return fmt.Errorf("%w: work.service.health has neither a command nor a port", ErrSpec)
	case !h.Asks():
		return nil
	case s.Restart == RestartNone:
		return fmt.Errorf("%w: work.service.health is for services, this is a batch job", ErrSpec)
	}
	return checkHealth(h)
}

func checkHealth(h *HealthCheck) error {
	if len(h.Command) > 0 && h.Port != 0 {
		return fmt.Errorf("%w: work.service.health has both a command and a port", ErrSpec)
	}
	if err := checkStrings("work.service.health.command", h.Command); err != nil {
		return err
	}
	if h.Path != "" && (h.Port == 0 || len(h.Path) > MaxHealthPath || h.Path[0] != '/' || strings.ContainsFunc(h.Path, unprintable)) {
		return fmt.Errorf("%w: work.service.health.path wants a port, a slash first and at most %d printable bytes of ASCII", ErrSpec, MaxHealthPath)
	}
	for _, n := range []struct {
		field           string
		value, min, max uint64
	}{
		{"port", h.Port, 0, 1<<16 - 1},
		{"start_ms", h.StartMs, 0, MaxHealthMs},
		{"interval_ms", h.IntervalMs, minHealthMs, MaxHealthMs},
		{"timeout_ms", h.TimeoutMs, minHealthMs, MaxHealthMs},
		{"failures", h.Failures, 1, MaxHealthFails},
	} {
		if n.value < n.min || n.value > n.max {
			return fmt.Errorf("%w: work.service.health.%s is %d, want %d to %d", ErrSpec, n.field, n.value, n.min, n.max)
		}
	}
	return nil
}

func unprintable(r rune) bool { return r <= ' ' || r > '~' }
