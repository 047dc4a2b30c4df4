package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestConfigErrorsNameFileLineAndColumn(t *testing.T) {
	for text, want := range map[string]string{
		"database_url: x\nfoo: 1\n":                   `:2:1: unknown field "foo"`,
		"pools:\n- name: a\n  proc: 3\n":              `:3:3: unknown field "proc"`,
		"pools:\n- name: a\n  procs: many\n":          `:3:10: cannot unmarshal string`,
		"pools: 3\n":                                  `:1:8: int was used where sequence is expected`,
		"drain_timeout: 30\n":                         `:1:16: "30" is not a duration above 0 such as 30s`,
		"lease: -3s\n":                                `:1:8: "-3s" is not a duration above 0 such as 30s`,
		"lease: [1s]\n":                               `:1:8: "[" is not a duration`,
		"log_level: loud\n":                           `:1:12: "loud" is not debug, info, warn or error`,
		"worker_logs: all\n":                          `:1:14: "all" is not info, debug or off`,
		"log_format: xml\n":                           `:1:13: "xml" is not text or json`,
		"schema: a\nschema: b\n":                      `:2:1: mapping key "schema" already defined`,
		"pools: [\n":                                  `:1:8: sequence end token ']' not found`,
		"migrate: perhaps\n":                          `:1:10: cannot unmarshal string`,
		"partition: 0\n":                              `:1:12: "0" is not none, auto or a number from 1 on`,
		"partition: first\n":                          `:1:12: "first" is not none, auto or a number from 1 on`,
		"partition: [1]\n":                            `:1:12: "[" is not none, auto`,
		"partition: 1.5\n":                            `:1:12: "1.5" is not none, auto`,
		"max_partitions: many\n":                      `:1:17: cannot unmarshal string`,
		"page_command: [page]\n":                      `:1:15: "[" is not a command such as /usr/local/bin/page`,
		"page_command: \" \"\n":                       `:1:15: " " is not a command`,
		"page_command: 3\n":                           `:1:15: "3" is not a command`,
		"hooks:\n- on: [spawn, dance]\n":              `:2:15: "dance" is not an event: spawn, connect, exit`,
		"hooks:\n- command: x\n":                      `:2:12: string was used where sequence is expected`,
		"pools:\n- limits: {memory: much}\n":          `:2:20: "much" is not a size such as 512MiB`,
		"pools:\n- limits: {memory: 3MB}\n":           `:2:20: "3MB" is not a size`,
		"pools:\n- limits: {memory: 9000000TiB}\n":    `:2:20: "9000000TiB" is not a size`,
		"pools:\n- limits: {core: -1}\n":              `:2:18: "-1" is not a size`,
		"pools:\n- limits: {umask: 0999}\n":           `:2:19: "0999" is not a mask in octal digits`,
		"pools:\n- limits: {files: 3}\n":              `:2:12: unknown field "files"`,
		"pools:\n- recycle: {rss: big}\n":             `:2:18: "big" is not a size such as 512MiB`,
		"gaps: no\n":                                  `:1:7: "no" is not rank or overdue`,
		"schema: a\n---\nschema: b\n":                 `: holds a second document`,
		"schema: " + strings.Repeat("a", 2<<20):       `larger than 1048576 bytes`,
		"socket: \"\\x1b[2J\"\nlog_level: \"\x1b\"\n": `:2:`,
	} {
		name := writeConfig(t, text)
		_, err := readConfig(name)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), filepath.Base(name)) {
			t.Errorf("%.60q: got error %v, want one with the file's name and %q", text, err, want)
		}
	}
}

func TestConfigFileIsReadWhole(t *testing.T) {
	got, err := readConfig(writeConfig(t, `
# all there is
database_url: postgres://localhost/app
schema: jobs
socket: /run/respirate/respirate.sock
migrate: true
lease: 2m
drain_timeout: 45s
log_format: json
log_level: warn
worker_logs: debug
worker_log_keep: 1MiB
partition: 3
max_partitions: 64
gaps: overdue
workers_dir: /etc/respirate/workers.d
page_command: /usr/local/bin/page --team "a"
http: {listen: "127.0.0.1:8383", token_file: /etc/respirate/token}
hooks:
  - {on: [exit, idle], command: [/usr/local/bin/tell, --loud]}
pools:
  - name: web
    worker: ./worker
    args: [--fast]
    procs: 3
    slots: 20
    env: [AWS_REGION]
    dir: /srv
    stop_timeout: 1m
    user: nobody:daemon
    boot_timeout: 20s
    kinds: [mail, sms]
    recycle: {strands: 10000, age: 12h, rss: 300MiB, files: 200}
    limits: {nofile: 256, core: 0, address_space: 8GiB, nproc: 99, nice: 5, umask: 0027, no_new_privs: true,
      memory: 512MiB, memory_soft: 400MiB, cpu: 1.5, pids: 64}
  - {name: slow, worker: ./other}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := fileConfig{
		DatabaseURLs: urls{"postgres://localhost/app"}, Schema: "jobs", Socket: "/run/respirate/respirate.sock", Migrate: true,
		Lease: duration(2 * time.Minute), DrainTimeout: duration(45 * time.Second), LogFormat: "json", LogLevel: "warn", WorkerLogs: "debug", WorkerLogKeep: 1 << 20,
		Partition: "3", MaxPartitions: 64, Gaps: "overdue", WorkersDir: "/etc/respirate/workers.d", PageCommand: `/usr/local/bin/page --team "a"`,
		Hooks: []hookConfig{{On: []eventName{"exit", "idle"}, Command: []string{"/usr/local/bin/tell", "--loud"}}},
		HTTP:  httpConfig{Listen: "127.0.0.1:8383", TokenFile: "/etc/respirate/token"},
		Pools: []poolConfig{
			{Name: "web", Worker: "./worker", Args: []string{"--fast"}, Procs: 3, Slots: 20, Env: []string{"AWS_REGION"}, Dir: "/srv", StopTimeout: duration(time.Minute), User: "nobody:daemon", BootTimeout: duration(20 * time.Second), Kinds: []string{"mail", "sms"},
				Recycle: recycleConfig{Strands: 10000, Age: duration(12 * time.Hour), RSS: 300 << 20, Files: 200}, Limits: limitsConfig{
					Files: 256, Core: new(size), AddressSpace: 8 << 30, Procs: 99, Nice: 5, Umask: new(octal(0o027)), NoNewPrivs: true,
					Memory: 512 << 20, MemorySoft: 400 << 20, CPU: 1.5, PIDs: 64,
				}},
			{Name: "slow", Worker: "./other"},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestPageCommandMayHaveSeveralLines(t *testing.T) {
	for text, want := range map[string]shellCommand{
		"page_command: |\n  a\n  b\nschema: x\n": "a\nb\n",
		"page_command: >-\n  a\n  b\n":           "a b",
		"page_command: 'a'\n":                    "a",
	} {
		if got, err := readConfig(writeConfig(t, text)); err != nil || got.PageCommand != want {
			t.Errorf("%q: got %q and error %v, want %q", text, got.PageCommand, err, want)
		}
	}
}

func TestEmptyConfigSetsNothing(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "---\n"} {
		got, err := readConfig(writeConfig(t, text))
		if diff := cmp.Diff(fileConfig{}, got); err != nil || diff != "" {
			t.Errorf("%q: got %v and -want +got:\n%s", text, err, diff)
		}
	}
}

func TestFlagsWinOverEnvironmentOverFile(t *testing.T) {
	file := writeConfig(t, "database_url: from-file\nsocket: from-file\nschema: from-file\n")
	t.Setenv("DATABASE_URL", "from-env")
	t.Setenv("RESPIRATE_SOCKET", "")
	got, err := (&settings{file: file, schema: "from-flag"}).load()
	if err != nil {
		t.Fatal(err)
	}
	want := fileConfig{DatabaseURLs: urls{"from-env"}, Socket: "from-file", Schema: "from-flag"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestDatabaseURLsAreOneOrAList(t *testing.T) {
	t.Setenv("DATABASE_URL", "")
	file := writeConfig(t, "database_url: [postgres://east/app, \"postgres://west/app\"]\n")
	both := urls{"postgres://east/app", "postgres://west/app"}
	for _, c := range []struct {
		s    settings
		want urls
	}{
		{settings{file: file}, both},
		{settings{databaseURLs: both}, both},
		{settings{file: file, databaseURLs: []string{"host=other"}}, urls{"host=other"}},
	} {
		got, err := c.s.loadSeveral()
		if diff := cmp.Diff(c.want, got.DatabaseURLs); err != nil || diff != "" {
			t.Errorf("%+v: got %v and -want +got:\n%s", c.s, err, diff)
		}
	}
	for text, want := range map[string]string{
		"database_url: [postgres://east/app, {a: b}]": ":1:37: ",
		"database_url: {a: b}":                        ":1:",
		"database_url: 7":                             `"7" is not a database URL, or a list of them`,
		"database_url: [postgres://east/app, 'postgres://a:b@east:5432/app']": "database east:5432/app is given twice",
	} {
		_, err := (&settings{file: writeConfig(t, text)}).loadSeveral()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error with %s", text, err, want)
		}
	}
	t.Setenv("DATABASE_URL", "from-env")
	if got, err := (&settings{file: file}).load(); err != nil || got.DatabaseURLs.one() != "from-env" {
		t.Errorf("got %v and %v, want what the environment says", got.DatabaseURLs, err)
	}
}

func TestRunFlagsWinOverFileAndContradictionsAreRefused(t *testing.T) {
	file := fileConfig{Lease: duration(time.Minute), DrainTimeout: duration(time.Minute), LogLevel: "warn", Partition: "3", Gaps: "overdue"}
	got, err := (&runFlags{worker: "w", procs: 2, lease: time.Second, maxPartitions: 8}).over(file)
	if err != nil {
		t.Fatal(err)
	}
	want := fileConfig{
		Lease: duration(time.Second), DrainTimeout: duration(time.Minute), LogLevel: "warn",
		Partition: "3", MaxPartitions: 8, Gaps: "overdue",
		Pools: []poolConfig{{Name: "default", Worker: "w", Procs: 2}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for _, bad := range []struct {
		flags runFlags
		file  fileConfig
	}{
		{runFlags{procs: 3}, fileConfig{}},
		{runFlags{worker: "w"}, fileConfig{Pools: []poolConfig{{Name: "a"}}}},
		{runFlags{lease: -1}, fileConfig{}},
		{runFlags{lease: time.Millisecond}, fileConfig{}},
		{runFlags{drainTimeout: -time.Second}, fileConfig{}},
		{runFlags{}, fileConfig{DrainTimeout: duration(10 * time.Second), Pools: []poolConfig{{StopTimeout: duration(10 * time.Second)}}}},
	} {
		if _, err := bad.flags.over(bad.file); err == nil {
			t.Errorf("%+v over %+v was taken", bad.flags, bad.file)
		}
	}
}

func TestWorkersAreKilledBeforeTheBrokerGivesUpWhatTheyHold(t *testing.T) {
	for _, drain := range []time.Duration{time.Second, 10 * time.Second, time.Hour} {
		got := fileConfig{DrainTimeout: duration(drain)}.stopTimeout()
		if got >= drain || got < drain/2 {
			t.Errorf("drain timeout %v: stop timeout %v, want a little less", drain, got)
		}
	}
}

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}
