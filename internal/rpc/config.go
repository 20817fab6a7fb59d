package rpc

import (
	"fmt"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/web"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// Config says where and within which limits the API is served. A zero number or
// duration is its default.
type Config struct {
	Listen       string // host:port; port 0 picks one
	TLSCert      string // PEM file; with TLSKey
	TLSKey       string // PEM file; with TLSCert
	InsecureHTTP bool   // plain HTTP on an address that is not loopback

	MaxConnections    int           // 1,024
	MaxRequests       int           // served at a time, streams not counted: 256
	MaxSubscribers    int           // event streams at a time: 64
	SubmitBytes       int           // bytes of submissions in flight: 16 MiB
	ReadHeaderTimeout time.Duration // 5 s
	ReadTimeout       time.Duration // of one body: 30 s
	WriteTimeout      time.Duration // of one answer, or of one step of a stream: 20 s
	IdleTimeout       time.Duration // of a kept connection: 60 s
	Heartbeat         time.Duration // of an event stream without events: 15 s
	ShutdownTimeout   time.Duration // 5 s

	Faucet *FaucetConfig // nil: no faucet
}

// FaucetConfig bounds the faucet. A zero field is its default.
type FaucetConfig struct {
	MaxAmount chain.Amount  // of one request: 1,000 HYPER
	Burst     int           // requests of one client network at once: 30
	Every     time.Duration // then one in this time: 1 s
}

// withDefaults returns the configuration with every zero number replaced.
func (c Config) withDefaults() Config {
	setInt(&c.MaxConnections, 1024)
	setInt(&c.MaxRequests, 256)
	setInt(&c.MaxSubscribers, 64)
	setInt(&c.SubmitBytes, 16<<20)
	setDuration(&c.ReadHeaderTimeout, 5*time.Second)
	setDuration(&c.ReadTimeout, 30*time.Second)
	setDuration(&c.WriteTimeout, 20*time.Second)
	setDuration(&c.IdleTimeout, 60*time.Second)
	setDuration(&c.Heartbeat, 15*time.Second)
	setDuration(&c.ShutdownTimeout, 5*time.Second)
	if c.Faucet != nil {
		faucet := *c.Faucet
		if faucet.MaxAmount.IsZero() {
			faucet.MaxAmount = chain.Hyper(1_000)
		}
		setInt(&faucet.Burst, 30)
		setDuration(&faucet.Every, time.Second)
		c.Faucet = &faucet
	}
	return c
}

func setInt(field *int, to int) {
	if *field == 0 {
		*field = to
	}
}

func setDuration(field *time.Duration, to time.Duration) {
	if *field == 0 {
		*field = to
	}
}

// check returns an error that names the first setting that cannot be served.
func (c Config) check() error {
	if c.SubmitBytes < api.MaxSubmitBytes {
		return fmt.Errorf("rpc: SubmitBytes is %d, below the %d of one submission", c.SubmitBytes, api.MaxSubmitBytes)
	}
	for name, n := range map[string]int{
		"MaxConnections": c.MaxConnections, "MaxRequests": c.MaxRequests, "MaxSubscribers": c.MaxSubscribers,
	} {
		if n < 0 {
			return fmt.Errorf("rpc: %s is %d", name, n)
		}
	}
	for name, d := range map[string]time.Duration{
		"ReadHeaderTimeout": c.ReadHeaderTimeout, "ReadTimeout": c.ReadTimeout, "WriteTimeout": c.WriteTimeout,
		"IdleTimeout": c.IdleTimeout, "Heartbeat": c.Heartbeat, "ShutdownTimeout": c.ShutdownTimeout,
	} {
		if d < 0 {
			return fmt.Errorf("rpc: %s is %s", name, d)
		}
	}
	return nil
}

func (c Config) address() web.Address {
	return web.Address{Listen: c.Listen, TLSCert: c.TLSCert, TLSKey: c.TLSKey, Insecure: c.InsecureHTTP}
}
