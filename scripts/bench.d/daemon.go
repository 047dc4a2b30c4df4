package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/respirated/respirated/scripts/bench.d/system"
)

// daemon answers questions and orders about the host of a visit.
type daemon struct {
	v      *visit
	client http.Client
}

func newDaemon(v *visit, ours system.Respirate) *daemon {
	file := filepath.Join(filepath.Dir(ours.Socket(v.place)), "control.sock")
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", file)
	}
	return &daemon{v, http.Client{Transport: &http.Transport{DialContext: dial}}}
}

// ask gets, or posts, a path of the API.
func (d *daemon) ask(method, path string, into any) error {
	req, err := http.NewRequestWithContext(d.v.ctx, method, "http://daemon/api/v1/"+path, strings.NewReader("{}"))
	if err != nil {
		return err
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return fmt.Errorf("ask the daemon for %s: %w", path, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		why, _ := io.ReadAll(resp.Body) // whatever there is of it
		return fmt.Errorf("ask the daemon for %s: %s: %s", path, resp.Status, why)
	}
	return json.NewDecoder(resp.Body).Decode(into)
}

// poolSays is what a daemon says of a pool.
type poolSays struct{ Name, State, Build, Note string }

func (d *daemon) pool() (poolSays, error) {
	var pools []poolSays
	if err := d.ask(http.MethodGet, "pools", &pools); err != nil {
		return poolSays{}, err
	}
	i := slices.IndexFunc(pools, func(p poolSays) bool { return p.Name == system.Pool })
	if i < 0 {
		return poolSays{}, fmt.Errorf("the daemon has no pool %s", system.Pool)
	}
	return pools[i], nil
}

// connected waits until so many workers are. The daemon itself may just have been started.
func (d *daemon) connected(n int) error {
	for {
		var workers []struct{ Connected bool }
		asked := d.ask(http.MethodGet, "workers", &workers)
		there := 0
		for _, w := range workers {
			if w.Connected {
				there++
			}
		}
		if asked == nil && there >= n {
			return nil
		}
		if err := pause(d.v.ctx, 100*time.Millisecond); err != nil {
			return fmt.Errorf("%d of %d workers are connected: %w", there, n, errors.Join(err, asked))
		}
	}
}
