package explorer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hypermesh/hypermesh/internal/web"
	"github.com/hypermesh/hypermesh/sdk"
)

// Limits of the pages' server.
const (
	maxHeaderBytes  = 16 << 10
	maxConnections  = 1024
	maxRequests     = 64  // served at a time, live streams not counted
	maxLiveStreams  = 256 // at a time
	readTimeout     = 10 * time.Second
	writeTimeout    = 30 * time.Second // of one page
	idleTimeout     = 60 * time.Second
	shutdownTimeout = 5 * time.Second
)

// Explorer is an open index and a bound address. Run serves.
type Explorer struct {
	config   Config
	log      *slog.Logger
	index    *index
	client   *sdk.Client // for pages
	follower *follower
	site     *site
	listener net.Listener
}

// Run opens the explorer and serves until ctx ends. Then it returns nil.
func Run(ctx context.Context, config Config) error {
	e, err := Open(ctx, config)
	if err != nil {
		return err
	}
	return e.Run(ctx)
}

// Open checks the configuration, opens or makes the index of config.Home, and
// binds the address.
func Open(ctx context.Context, config Config) (*Explorer, error) {
	if err := config.Check(); err != nil {
		return nil, fmt.Errorf("explorer: %w", err)
	}
	e := &Explorer{config: config, log: config.Log}
	if e.log == nil {
		var level slog.Level
		if err := level.UnmarshalText([]byte(config.LogLevel)); err != nil {
			return nil, fmt.Errorf("explorer: log_level: %w", err)
		}
		e.log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	}
	var err error
	if e.client, err = e.ask(); err != nil {
		return nil, fmt.Errorf("explorer: %w", err)
	}
	if e.index, err = openIndex(ctx, &config, e.log); err != nil {
		return nil, err
	}
	if e.follower, err = newFollower(&config, e.index, e.log); err == nil {
		e.site, err = newSite(e)
	}
	if err != nil {
		return nil, errors.Join(err, e.index.close())
	}
	if e.listener, err = config.address().Open("listen", maxConnections); err != nil {
		return nil, errors.Join(fmt.Errorf("explorer: %w", err), e.index.close())
	}
	return e, nil
}

// serversFile is what the cluster said of its servers, in the home.
const serversFile = "servers.json"

// ask returns the client that pages ask with: each server that it knows of once.
func (e *Explorer) ask() (*sdk.Client, error) {
	cluster, err := sdk.ParseCluster(e.config.Cluster)
	if err != nil {
		return nil, err
	}
	config := sdk.Config{Nodes: e.config.RPC, Nexus: e.config.Nexus, Cluster: cluster, Timeout: e.config.AskTimeout, Attempts: sdk.EachOnce}
	return sdk.NewKept(filepath.Join(e.config.Home, serversFile), config, func(err error) { e.log.Warn("the cluster's servers", slog.Any("error", err)) })
}

// Addr returns the bound address.
func (e *Explorer) Addr() net.Addr { return e.listener.Addr() }

// Run follows the chain and serves pages until ctx ends, and returns nil; or
// until the index or the listener fails. It is called once.
func (e *Explorer) Run(ctx context.Context) error {
	group, inner := errgroup.WithContext(ctx)
	group.Go(func() error { return e.follower.run(inner) })
	group.Go(func() error { return e.serve(inner) })
	return errors.Join(group.Wait(), e.index.close())
}

func (e *Explorer) serve(ctx context.Context) error {
	server := &http.Server{
		Handler:           e.site.handler(),
		MaxHeaderBytes:    maxHeaderBytes,
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		ErrorLog:          slog.NewLogLogger(e.log.Handler(), slog.LevelDebug),
	}
	e.log.Info("serving", slog.String("address", e.Addr().String()))
	if err := web.Serve(ctx, server, e.listener, shutdownTimeout, func() { close(e.site.closing) }); err != nil {
		return fmt.Errorf("explorer: %w", err)
	}
	return nil
}
