package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
)

// sqlVerb makes this test binary run a file of SQL in DATABASE_URL, for the tour of the README.
const sqlVerb = "run-sql"

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == sqlVerb {
		if err := runSQLFile(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	// Programs that look for races wait for a second before they exit, which these tests would see often.
	if err := os.Setenv("GORACE", "atexit_sleep_ms=0"); err != nil {
		panic(err)
	}
	code := m.Run()
	if builtIn != "" {
		_ = os.RemoveAll(builtIn)
	}
	os.Exit(code)
}

func runSQLFile(name string) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, string(text))
	return err
}

// programsVar names a folder with the programs under test that somebody else has made.
const programsVar = "RESPIRATE_TEST_PROGRAMS"

// builtIn is the folder with the programs under test, once somebody has asked for them.
var builtIn string

// build makes respirated and demo-worker once for all tests that need real processes.
var build = sync.OnceValues(func() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "respirated-test-"); err != nil {
		return "", err
	}
	builtIn = dir
	args := []string{"build", "-pgo=off", "-o", dir} // they do the same without a profile, and are there sooner
	if raceEnabled {
		args = append(args, "-race")
	}
	out, err := exec.Command("go", append(args, ".", "../demo-worker")...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the programs: %w\n%s", err, out)
	}
	return dir, nil
})

// programs is the folder that holds respirated and demo-worker.
func programs(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv(programsVar); dir != "" {
		return dir
	}
	dir, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// call runs a verb in this process.
func call(args ...string) (code int, stdout, stderr string) {
	var out, errOut bytes.Buffer
	code = execute(context.Background(), args, strings.NewReader(""), &out, &errOut)
	return code, out.String(), errOut.String()
}

func TestWrongCallsAreErrorsOfUsageOnOneLine(t *testing.T) {
	for _, c := range []struct{ call, want string }{
		{"frob", `there is no verb "frob"`},
		{"strand lst", `did you mean list?`},
		{"strand list extra", `it is called as respirated strand list`},
		{"strand list --limit 0", `--limit is 0, it must be at least 1`},
		{"strand list --limit x", `invalid argument "x"`},
		{"strand show", `accepts 1 arg(s)`},
		{"strand cancel", `say which strands`},
		{"strand cancel --kind a", `and --all`},
		{"strand show x", `id "x" is not a UUID such as`},
		{"strand why x", `id "x" is not a UUID such as`},
		{"strand tail x", `id "x" is not a UUID such as`},
		{"strand cancel x", `id "x" is not a UUID such as`},
		{"strand retry x --at a", `id "x" is not a UUID such as`},
		{"strand edit x --args 1", `id "x" is not a UUID such as`},
		{"strand signal x go", `id "x" is not a UUID such as`},
		{"strand list --parent x", `id "x" is not a UUID such as`},
		{"strand list --state lost", `"lost" is not a state; the states are`},
		{"strand cancel --state lost --all", `"lost" is not a state; the states are`},
		{"dev --for -1s", `--for -1s is negative`},
		{"insert a --in -5m", `--in -5m0s is negative`},
		{"pool recycle .", `"." is not the name of a pool`},
		{"pool show ..", `".." is not the name of a pool`},
		{"pool set . --procs 1", `"." is not the name of a pool`},
		{"strand retry x --all --at a", `ids go without a filter and --all`},
		{"strand retry --all --at a", `--at goes with ids`},
		{"strand retry x --at=", `--at is empty`},
		{"strand retry x --by ann", `--by goes with --at`},
		{"strand signal x", `say which strand and the name of the semaphore`},
		{"strand signal x go {", `the value is not JSON: "{"; a text needs quotes of its own`},
		{"strand signal x go --kind k", `a filter goes with --all`},
		{"strand signal x go 1 --all", `with --all there is no id`},
		{"strand edit x", `--args JSON`},
		{"strand edit x --args {", `--args is not JSON: "{"`},
		{"strand why", `accepts 1 arg(s)`},
		{"page list --limit 0", `--limit is 0, it must be 1 to 1000`},
		{"page resolve x", `"x" is not the id of a page`},
		{"run --page-command=", `want a command such as /usr/local/bin/page`},
		{"strand retry x --all", `ids go without a filter and --all`},
		{"run --log-level loud", `want debug, info, warn or error`},
		{"run --procs 3", `go with --worker`},
		{"run --http :0", `the dashboard needs a login token: set --http-token-file`},
		{"run --http 8383", `it should look like 127.0.0.1:8383`},
		{"run --http-token-file f", `there is a login token for the dashboard, and no address`},
		{"run --http :0 --http-token-file /no/such/file", `read the login token of the dashboard`},
		{"run --frob", `unknown flag: --frob`},
		{"run 3 4", `accepts at most 1 arg(s)`},
		{"run x", `the partition, from the argument: "x" is not none, auto or a number`},
		{"run 257", `257 is more than 256`},
		{"run --partition 0", `want none, auto or a number from 1 on`},
		{"run --max-partitions 4097", `max_partitions is 4097, it must be 1 to 4096`},
		{"run --gaps no", `want rank or overdue`},
		{"insert", `a KIND, or --file`},
		{"insert a --at 1 --in 1s", `--at goes without --in`},
		{"insert a --at tomorrow", `--at "tomorrow" is not a time such as`},
		{"insert a --timeout 1s", `--timeout is for --wait`},
		{"insert a --file f", `--file goes without KIND`},
		{"migrate down", `say which version remains`},
		{"migrate sql --schema Bad", `schema "Bad"`},
		{"dev --database-url postgres:///x", `leave out --database-url`},
		{"bench --jobs -1", `--jobs is -1, it must be 0 to`},
		{"bench --procs 0", `--procs is 0, it must be 1 to`},
		{"bench --jobs 0 --latency 0", `there is nothing to measure`},
		{"bench --schema s", `leave out --schema and --socket`},
	} {
		code, stdout, stderr := call(strings.Fields(c.call)...)
		if code != exitUsage || !strings.Contains(stderr, c.want) || strings.Count(stderr, "\n") != 1 || stdout != "" {
			t.Errorf("respirated %s: code %d, stdout %q, stderr %q; want code %d and one line with %q", c.call, code, stdout, stderr, exitUsage, c.want)
		}
	}
}

func TestEveryVerbHasHelpWithExamples(t *testing.T) {
	var verbs [][]string
	for _, cmd := range rootCommand().Commands() {
		if cmd.Hidden {
			continue
		}
		for _, sub := range cmd.Commands() {
			verbs = append(verbs, []string{cmd.Name(), sub.Name()})
		}
		if !cmd.HasSubCommands() {
			verbs = append(verbs, []string{cmd.Name()})
		}
	}
	if len(verbs) < 15 {
		t.Fatalf("found the verbs %v, which are too few", verbs)
	}
	for _, verb := range verbs {
		code, stdout, stderr := call(append(verb, "--help")...)
		hasExample := strings.Contains(stdout, "Examples:\n  ")
		if code != 0 || stderr != "" || !hasExample {
			t.Errorf("%v --help: code %d, stderr %q, examples %v", verb, code, stderr, hasExample)
		}
	}
}

func TestHelpTellsTheExitCodes(t *testing.T) {
	for _, args := range [][]string{{}, {"--help"}} {
		code, stdout, _ := call(args...)
		if code != 0 || !strings.Contains(stdout, "3  there is no such strand") {
			t.Errorf("respirated %v: code %d and %q", args, code, stdout)
		}
	}
}

func TestSchemaCanBePrintedWithoutADatabase(t *testing.T) {
	code, stdout, stderr := call("migrate", "sql", "--schema", "jobs")
	if code != 0 || !strings.Contains(stdout, `create table "jobs".strand`) || strings.Contains(stdout, "respirate.") {
		t.Errorf("code %d, stderr %q, stdout %.300q", code, stderr, stdout)
	}
}

// moduleRoot is the folder of go.mod.
func moduleRoot(t testing.TB) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return root
}
