package sdk

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/hypermesh/hypermesh/sdk/api"
)

// maxKept bounds the file that NewKept reads back.
const maxKept = 64 << 10

// NewKept is New for a process that ends and comes again: what it learns of the
// cluster's servers it keeps in a file, and what an earlier one kept it knows from
// the start, so that it finds them though the configured ones are gone. The file
// is signed with the cluster's key: whoever writes into it can name no stranger.
// What goes wrong with it keeps nobody from asking, and warn is told. Without
// Config.Cluster there is nothing to keep, and no file.
func NewKept(path string, config Config, warn func(error)) (*Client, error) {
	if config.Cluster.IsZero() {
		return New(config)
	}
	config.Learned = func(list api.ServerAddresses) {
		if err := keepServers(path, list); err != nil {
			warn(fmt.Errorf("sdk: the cluster's servers cannot be kept: %w", err))
		}
	}
	c, err := New(config)
	if err != nil {
		return nil, err
	}
	list, err := keptServers(path)
	if err == nil {
		err = c.TakeServers(list)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		warn(fmt.Errorf("sdk: what %s says of the cluster's servers is of no use: %w", path, err))
	}
	return c, nil
}

// keptServers reads what keepServers wrote.
func keptServers(path string) (list api.ServerAddresses, err error) {
	file, err := os.Open(path)
	if err != nil {
		return list, err
	}
	data, err := io.ReadAll(io.LimitReader(file, maxKept+1))
	if err = errors.Join(err, file.Close()); err != nil {
		return list, err
	}
	if len(data) > maxKept {
		return list, fmt.Errorf("it has more than %d bytes", maxKept)
	}
	return list, json.Unmarshal(data, &list)
}

// keepServers puts a list in the place of the file's.
func keepServers(path string, list api.ServerAddresses) error {
	data, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return err
	}
	data = append(data, '\n')
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return nil
	}
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".")
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return nil
}
