package client_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/respirated/respirated/client"
)

func TestEverythingWorksThroughPgBouncerInTransactionMode(t *testing.T) {
	f := newFixture(t)
	url := startPgBouncer(t, f)
	const clients, rounds = 8, 8 // on two connections of the server, so that they change hands all the time
	var group sync.WaitGroup
	for range clients {
		pool := openPoolConfig(t, cacheDescribe(t, url))
		group.Go(func() {
			c := newClient(t, pool, nil)
			for round := 0; round < rounds && !t.Failed(); round++ {
				if err := useAll(t, c, pool); err != nil {
					t.Errorf("round %d: %v", round, err)
				}
			}
		})
	}
	group.Wait()
	if n := scalar[int](f, "select count(*) from respirate.strand"); n != clients*rounds*7 {
		t.Errorf("got %d strands, want %d", n, clients*rounds*7)
	}
}

func cacheDescribe(t *testing.T, url string) *pgxpool.Config {
	t.Helper()
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	return config
}

// useAll calls every sort of statement that a client has. It leaves seven strands behind.
func useAll(t *testing.T, c *client.Client[pgx.Tx], pool *pgxpool.Pool) error {
	ctx := t.Context()
	opts := &client.InsertOpts{Tags: []string{"a"}, Metadata: []byte(`{"b": 1}`), ScheduledAt: time.Now().Add(time.Hour)}
	one, err := c.Insert(ctx, mail{To: "a"}, opts)
	if err != nil {
		return err
	}
	steps := []func() error{
		func() error { _, err := c.InsertMany(ctx, many(2)); return err },
		func() error { _, err := c.InsertManyFast(ctx, many(3)); return err },
		func() error {
			return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
				_, err := c.InsertTx(ctx, tx, mail{}, nil)
				return err
			})
		},
		func() error { _, err := c.StrandGet(ctx, one.ID); return err },
		func() error { return c.StrandWake(ctx, one.ID) },
		func() error { _, err := c.StrandCancel(ctx, one.ID); return err },
		func() error { _, err := c.StrandWait(ctx, one.ID); return err },
		func() error { _, err := c.StrandRetry(ctx, one.ID); return err },
		func() error {
			_, err := c.StrandList(ctx, &client.StrandListParams{Kinds: []string{"mail"}, First: 10})
			return err
		},
		func() error { _, err := c.BrokerList(ctx); return err },
	}
	for i, step := range steps {
		if err := step(); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	return nil
}

// startPgBouncer runs a PgBouncer in front of the fixture's server, and returns the URL of the same database behind it.
func startPgBouncer(t *testing.T, f *fixture) string {
	t.Helper()
	binary, err := exec.LookPath("pgbouncer")
	if err != nil {
		t.Skip("there is no pgbouncer on this machine; apt-get install pgbouncer brings it")
	}
	server := f.pool.Config().ConnConfig
	dir, owner := folderOfOwner(t, server.Host)
	config := filepath.Join(dir, "pgbouncer.ini")
	check(t, os.WriteFile(config, fmt.Appendf(nil, `[databases]
* = host=%s port=%d user=%s
[pgbouncer]
pool_mode = transaction
default_pool_size = 2
auth_type = any
listen_addr =
listen_port = 6432
unix_socket_dir = %s
logfile = %s/log
`, server.Host, server.Port, server.User, dir, dir), 0o644))

	command := exec.Command(binary, config)
	command.SysProcAttr = &syscall.SysProcAttr{Credential: owner}
	check(t, command.Start())
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	})
	url := fmt.Sprintf("host=%s port=6432 user=%s dbname=%s", dir, server.User, server.Database)
	awaitConnect(t, url, filepath.Join(dir, "log"))
	return url
}

// folderOfOwner makes a folder for whom the server's socket belongs to: nobody else may use that, and PgBouncer refuses to
// run as root.
func folderOfOwner(t *testing.T, socketFolder string) (string, *syscall.Credential) {
	t.Helper()
	info := must(os.Stat(socketFolder))(t)
	dir := must(os.MkdirTemp("", "pgbouncer"))(t)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	stat := info.Sys().(*syscall.Stat_t)
	if os.Geteuid() != 0 {
		return dir, nil
	}
	check(t, os.Chown(dir, int(stat.Uid), int(stat.Gid)))
	return dir, &syscall.Credential{Uid: stat.Uid, Gid: stat.Gid}
}

func awaitConnect(t *testing.T, url, log string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		conn, err := pgx.ConnectConfig(t.Context(), cacheDescribe(t, url).ConnConfig)
		if err == nil {
			check(t, conn.Close(t.Context()))
			return
		}
		if time.Now().After(end) {
			text, _ := os.ReadFile(log)
			t.Fatalf("pgbouncer does not answer: %v\n%s", err, text)
		}
	}
}
