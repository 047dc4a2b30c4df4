package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/parser"
	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/respirated/respirated/protocol"
)

func checkConfigCommand(s *settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check-config [FILE]",
		Short: "Check a configuration file as `respirated run` would",
		Long: `Check a configuration file (that of --config unless one is named) as respirated run would on this host: what it does not
know, values, and that binaries, folders, users and commands are there. It connects to nothing and changes nothing.

Each finding is a line on standard output, with the place in the file. The exit code is 0 when there is none, 1 when the
file cannot be used, and 2 when no file is named. What does not fit the form of the file ends the search, as the
last line says then: what else may be wrong is found once that is mended.`,
		Example: `  respirated check-config /etc/respirated.yaml
  respirated check-config --config /etc/respirated.yaml --json`,
		Args: takes(cobra.MaximumNArgs(1)),
	}
	asJSON := addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		file := s.file
		if len(args) > 0 {
			file = args[0]
		}
		if file == "" {
			return usage(errors.New("there is no file to check: name one"))
		}
		findings, whole, err := checkFile(file)
		if err != nil {
			return err
		}
		if *asJSON {
			if err := printJSON(cmd.OutOrStdout(), configCheck{file, len(findings) == 0, append([]string{}, findings...)}); err != nil {
				return err
			}
		} else {
			for _, f := range findings {
				fmt.Fprintln(cmd.OutOrStdout(), plain(f))
			}
		}
		if len(findings) > 0 {
			return fmt.Errorf("%s cannot be used as it is: %s", file, found(len(findings), whole))
		}
		return nil
	}
	return cmd
}

// found says how much is wrong.
func found(n int, whole bool) string {
	switch {
	case !whole:
		return "what follows the finding was not looked at, there may be more"
	case n == 1:
		return "1 finding"
	}
	return fmt.Sprintf("%d findings", n)
}

// configCheck is what check-config prints as JSON.
type configCheck struct {
	File     string   `json:"file"`
	OK       bool     `json:"ok"`
	Findings []string `json:"findings"`
}

// checkFile returns what is wrong with a file, and whether all of it was looked at. An error says that it cannot be read.
func checkFile(file string) (findings []string, whole bool, err error) {
	cfg, err := readConfig(file)
	if unread := (*fs.PathError)(nil); errors.As(err, &unread) {
		return nil, false, fmt.Errorf("read the configuration: %w: correct its name, or the rights to it", unread)
	}
	if err != nil {
		return []string{err.Error()}, false, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, false, fmt.Errorf("read the configuration: %w", err)
	}
	places := configPlaces{file, text}
	find := func(path string, err error) {
		if err != nil {
			findings = append(findings, places.of(path)+": "+err.Error())
		}
	}
	for i, url := range cfg.DatabaseURLs {
		if _, err := pgx.ParseConfig(url); err != nil {
			find("$.database_url", fmt.Errorf("database URL %d is not one, it should look like postgres://user:password@host:5432/name", i+1)) // err may tell the password
		}
	}
	find("$.database_url", cfg.DatabaseURLs.check())
	if cfg.Socket != "" {
		_, err := protocol.SocketPath(cfg.Socket)
		find("$.socket", err)
	}
	cfg, err = new(runFlags).over(cfg)
	find("$", err)
	find("$.http", cfg.HTTP.check())
	_, _, err = partitionOf(nil, "", cfg, func(string) string { return "" })
	find("$.partition", err)
	names := map[string]bool{}
	for i, p := range cfg.pools() {
		at := fmt.Sprintf("$.pools[%d]", i)
		find(at, p.Check())
		if names[p.Name] {
			find(at, fmt.Errorf("two pools are named %q: give one another name", p.Name))
		}
		names[p.Name] = true
	}
	if len(findings) == 0 { // the rest of what concerns workers; pools were looked at one by one, for their places
		find("$", cfg.supervisor(cmp.Or(cfg.Socket, protocol.DefaultSocket), slog.New(slog.DiscardHandler)).Check())
	}
	for i, h := range cfg.Hooks {
		find(fmt.Sprintf("$.hooks[%d]", i), h.check())
	}
	return findings, true, nil
}

// configPlaces find where in a file a setting stands.
type configPlaces struct {
	file string
	text []byte
}

// of is the place of a setting, in the form that editors know.
func (p configPlaces) of(path string) string {
	yamlPath, err := yaml.PathString(path)
	if err != nil || path == "$" {
		return p.file
	}
	tree, err := parser.ParseBytes(p.text, 0)
	if err != nil {
		return p.file
	}
	node, err := yamlPath.FilterFile(tree)
	if err != nil || node.GetToken() == nil {
		return p.file
	}
	first := node.GetToken()
	// The token of a mapping is the first colon in it: it begins where the key before that does.
	if first.Prev != nil && strings.TrimSpace(first.Value) == ":" {
		first = first.Prev
	}
	return fmt.Sprintf("%s:%d:%d", p.file, first.Position.Line, first.Position.Column)
}
