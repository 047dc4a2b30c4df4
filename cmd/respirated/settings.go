package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/spf13/pflag"

	"github.com/respirated/respirated/client"
	"github.com/respirated/respirated/protocol"
)

// settings are the flags that every verb has.
type settings struct {
	databaseURL string
	schema      string
	socket      string
	file        string
}

func (s *settings) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&s.databaseURL, "database-url", "", "`URL` of the database (default $DATABASE_URL, else the PG* variables)")
	flags.StringVar(&s.schema, "schema", "", "`NAME` of the schema in the database (default "+client.DefaultSchema+")")
	flags.StringVar(&s.socket, "socket", "", "`PATH` of the broker's socket (default $RESPIRATE_SOCKET, else "+protocol.DefaultSocket+")")
	flags.StringVar(&s.file, "config", "", "`FILE` with settings, in YAML")
}

// load puts the flags over the environment over the configuration file over the defaults.
func (s *settings) load() (fileConfig, error) {
	var cfg fileConfig
	if s.file != "" {
		var err error
		if cfg, err = readConfig(s.file); err != nil {
			return cfg, err
		}
	}
	cfg.DatabaseURL = cmp.Or(s.databaseURL, os.Getenv("DATABASE_URL"), cfg.DatabaseURL)
	cfg.Schema = cmp.Or(s.schema, cfg.Schema, client.DefaultSchema)
	cfg.Socket = cmp.Or(s.socket, os.Getenv("RESPIRATE_SOCKET"), cfg.Socket, protocol.DefaultSocket)
	return cfg, nil
}

// fileConfig is a configuration file. Its keys are named after the flags that they stand for.
type fileConfig struct {
	DatabaseURL  string       `yaml:"database_url"`
	Schema       string       `yaml:"schema"`
	Socket       string       `yaml:"socket"`
	Migrate      bool         `yaml:"migrate"`
	Lease        duration     `yaml:"lease"`
	DrainTimeout duration     `yaml:"drain_timeout"`
	LogFormat    logFormat    `yaml:"log_format"`
	LogLevel     logLevel     `yaml:"log_level"`
	Pools        []poolConfig `yaml:"pools"`

	Partition     partitionName `yaml:"partition"`
	MaxPartitions int           `yaml:"max_partitions"`
	Gaps          gapsName      `yaml:"gaps"`
}

// poolConfig is one set of worker processes.
type poolConfig struct {
	Name        string   `yaml:"name"`
	Worker      string   `yaml:"worker"`
	Args        []string `yaml:"args"`
	Procs       int      `yaml:"procs"`
	Slots       int      `yaml:"slots"`
	Env         []string `yaml:"env"`
	Dir         string   `yaml:"dir"`
	StopTimeout duration `yaml:"stop_timeout"`
}

// maxConfig is more than any configuration file has.
const maxConfig = 1 << 20

// readConfig reads a file strictly: what it does not know is an error with line and column.
func readConfig(name string) (fileConfig, error) {
	var cfg fileConfig
	f, err := os.Open(name)
	if err != nil {
		return cfg, fmt.Errorf("read the configuration: %w: correct --config, or the rights to the file", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return cfg, fmt.Errorf("read the configuration: %w: correct --config, or the rights to the file", err)
	}
	if len(text) > maxConfig {
		return cfg, fmt.Errorf("the configuration %s is larger than %d bytes", name, maxConfig)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text), yaml.Strict())
	err = decoder.Decode(&cfg)
	if err == nil && !errors.Is(decoder.Decode(new(any)), io.EOF) {
		err = errors.New("holds a second document: put everything into the first")
	}
	if err != nil && !errors.Is(err, io.EOF) { // an empty file sets nothing
		return cfg, placed(name, err)
	}
	return cfg, nil
}

// placed says where in a file an error is, in the form that editors know.
func placed(name string, err error) error {
	var at yaml.Error
	if !errors.As(err, &at) || at.GetToken() == nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	pos := at.GetToken().Position
	return fmt.Errorf("%s:%d:%d: %s", name, pos.Line, pos.Column, at.GetMessage())
}

// duration is a time.Duration of the configuration file.
type duration time.Duration

// UnmarshalYAML takes "30s", and says where anything else stands.
func (d *duration) UnmarshalYAML(node ast.Node) error {
	parsed, err := time.ParseDuration(scalar(node))
	if err != nil || parsed <= 0 {
		return misplaced(node, "a duration above 0 such as 30s")
	}
	*d = duration(parsed)
	return nil
}

// logLevel is a level of slog by its name; "" = info.
type logLevel string

// Set takes a level's name.
func (l *logLevel) Set(name string) error {
	if err := new(slog.Level).UnmarshalText([]byte(name)); err != nil {
		return errors.New("want debug, info, warn or error")
	}
	*l = logLevel(name)
	return nil
}

func (l *logLevel) String() string { return string(*l) }

// Type names the value in a help text.
func (l *logLevel) Type() string { return "LEVEL" }

// UnmarshalYAML takes a level's name.
func (l *logLevel) UnmarshalYAML(node ast.Node) error { return setFrom(l, node) }

// logFormat is "text" or "json"; "" = text.
type logFormat string

// Set takes a format's name.
func (f *logFormat) Set(name string) error {
	if name != "text" && name != "json" {
		return errors.New("want text or json")
	}
	*f = logFormat(name)
	return nil
}

func (f *logFormat) String() string { return string(*f) }

// Type names the value in a help text.
func (f *logFormat) Type() string { return "FORMAT" }

// UnmarshalYAML takes a format's name.
func (f *logFormat) UnmarshalYAML(node ast.Node) error { return setFrom(f, node) }

// setFrom reads from a configuration file what is a flag too.
func setFrom(value pflag.Value, node ast.Node) error {
	if err := value.Set(scalar(node)); err != nil {
		return misplaced(node, strings.TrimPrefix(err.Error(), "want "))
	}
	return nil
}

// scalar is the text of a node that is one word.
func scalar(node ast.Node) string {
	if _, ok := node.(ast.ScalarNode); !ok {
		return ""
	}
	return node.GetToken().Value
}

func misplaced(node ast.Node, want string) error {
	token := node.GetToken()
	return &yaml.SyntaxError{Message: fmt.Sprintf("%.40q is not %s", token.Value, want), Token: token}
}

// newLogger is the logger of a daemon.
func newLogger(out io.Writer, format logFormat, level logLevel) *slog.Logger {
	var least slog.Level
	if level != "" {
		if err := least.UnmarshalText([]byte(level)); err != nil {
			panic("bug: a log level that was not checked: " + err.Error())
		}
	}
	opts := &slog.HandlerOptions{Level: least}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(out, opts))
	}
	return slog.New(slog.NewTextHandler(out, opts))
}
