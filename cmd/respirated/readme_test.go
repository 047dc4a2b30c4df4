package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/respirated/respirated/broker/postgres/private/privatetest"
)

// TestCommandsOfTheReadmeWork runs the README's tour from its first line to its last, in one shell, in a copy of the
// tree. SQL is run and programs are put where the text says.
func TestCommandsOfTheReadmeWork(t *testing.T) {
	t.Parallel()
	url := privatetest.URL(t)
	dir := copyTree(t)
	script := "set -euo pipefail\n" + tour(t, dir)
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "DATABASE_URL="+url, "RESPIRATE_SOCKET=")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	out, err := cmd.CombinedOutput()
	if err != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) // what it has left
		log, _ := os.ReadFile(filepath.Join(dir, "tmp/respirated.log"))
		t.Fatalf("%v\n%s\nthe daemon said:\n%s", err, out, log)
	}
	for _, want := range []string{
		`"text": "hello"`, `"attempts"`, `later|in 59m`, `connected`, `echo`, `state +(cancelled|leased)`, `3 strands inserted`, `kind +greet`, `"moved"`, `"machine"`, `"box of hat"`, `provision +[a-z]+ +default`, `open pages:`, `provision +ready .* reached`,
	} {
		if !regexp.MustCompile(want).Match(out) {
			t.Errorf("the tour did not print %s, but\n%s", want, out)
		}
	}
	if pids := processesWith(dir); len(pids) > 0 {
		t.Errorf("the tour left %v", pids)
	}
}

// block is a fenced block of the README and the text before it.
var block = regexp.MustCompile("(?s)(.*?)\n```(\\w+)\n(.*?)\n```\n")

// tour makes one shell script of the blocks that are commands.
func tour(t *testing.T, dir string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	for n, b := range block.FindAllStringSubmatch(readme(t), -1) {
		before, language, text := b[1], b[2], b[3]
		switch language {
		case "sh":
			fmt.Fprintf(&script, "set -x\n%s\n{ set +x; } 2>/dev/null\n", text)
		case "sql":
			name := fmt.Sprintf("tour%d.sql", n)
			writeFile(t, filepath.Join(dir, name), text)
			fmt.Fprintf(&script, "%s %s %s\n", self, sqlVerb, name)
		case "go":
			places := regexp.MustCompile("`(tmp/[a-z/.]+)`").FindAllStringSubmatch(before, -1)
			if places == nil {
				t.Fatalf("where does this go?\n%s", text)
			}
			writeFile(t, filepath.Join(dir, places[len(places)-1][1]), text)
		case "text", "yaml":
		default:
			t.Fatalf("a block of %s, which nobody runs", language)
		}
	}
	if !strings.Contains(script.String(), "respirated run") {
		t.Fatalf("the tour starts no daemon: %s", script.String())
	}
	return script.String()
}

func TestReadmeListsEverySetting(t *testing.T) {
	text := readme(t)
	for _, config := range []reflect.Type{reflect.TypeFor[fileConfig](), reflect.TypeFor[poolConfig]()} {
		for i := range config.NumField() {
			if key := config.Field(i).Tag.Get("yaml"); !strings.Contains(text, "| `"+key+"` |") {
				t.Errorf("the README's table lacks the key %q", key)
			}
		}
	}
	runCommand(&settings{}).Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden && !strings.Contains(text, "| `--"+f.Name+"` |") {
			t.Errorf("the README's table lacks the flag --%s", f.Name)
		}
	})
}

func TestReadmesConfigurationIsRead(t *testing.T) {
	for _, b := range block.FindAllStringSubmatch(readme(t), -1) {
		if b[2] != "yaml" {
			continue
		}
		if _, err := readConfig(writeConfig(t, b[3])); err != nil {
			t.Error(err)
		}
		return
	}
	t.Error("the README has no configuration")
}

func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(moduleRoot(t), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}

// copyTree copies what the tour needs of this checkout, so that it meets nothing that is there already.
func copyTree(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tour")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	root := moduleRoot(t)
	for _, name := range []string{"protocol", "client", "worker", "broker", "cmd"} {
		if err := os.CopyFS(filepath.Join(dir, name), os.DirFS(filepath.Join(root, name))); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(dir, name), strings.TrimSuffix(string(text), "\n"))
	}
	return dir
}
