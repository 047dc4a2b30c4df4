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
	"github.com/jackc/pgx/v5"
	"github.com/lmittmann/tint"
	"github.com/spf13/pflag"

	"github.com/respirated/respirated/broker/supervisor"
	"github.com/respirated/respirated/client"
	"github.com/respirated/respirated/protocol"
)

// settings are the flags that every verb has.
type settings struct {
	databaseURLs []string
	schema       string
	socket       string
	file         string
}

func (s *settings) addFlags(flags *pflag.FlagSet) {
	flags.StringArrayVar(&s.databaseURLs, "database-url", nil, "`URL` of the database (default $DATABASE_URL, else the PG* variables); run, migrate up and doctor take several")
	flags.StringVar(&s.schema, "schema", "", "`NAME` of the schema in the database (default "+client.DefaultSchema+")")
	flags.StringVar(&s.socket, "socket", "", "`PATH` of the broker's socket (default $RESPIRATE_SOCKET, else "+protocol.DefaultSocket+")")
	flags.StringVar(&s.file, "config", "", "`FILE` with settings, in YAML")
}

// load is the settings of a verb that works with one database.
func (s *settings) load() (fileConfig, error) {
	cfg, err := s.loadSeveral()
	if n := len(cfg.DatabaseURLs); err == nil && n > 1 {
		err = usage(fmt.Errorf("this works with one database, and %d are set: name one with --database-url", n))
	}
	return cfg, err
}

// loadSeveral puts the flags over the environment over the configuration file over the defaults.
func (s *settings) loadSeveral() (fileConfig, error) {
	var cfg fileConfig
	if s.file != "" {
		var err error
		if cfg, err = readConfig(s.file); err != nil {
			return cfg, err
		}
	}
	if url := os.Getenv("DATABASE_URL"); url != "" {
		cfg.DatabaseURLs = urls{url}
	}
	if len(s.databaseURLs) > 0 {
		cfg.DatabaseURLs = s.databaseURLs
	}
	if err := cfg.DatabaseURLs.check(); err != nil {
		return cfg, usage(err)
	}
	cfg.Schema = cmp.Or(s.schema, cfg.Schema, client.DefaultSchema)
	cfg.Socket = cmp.Or(s.socket, os.Getenv("RESPIRATE_SOCKET"), cfg.Socket, protocol.DefaultSocket)
	return cfg, nil
}

// fileConfig is a configuration file. Its keys are named after the flags that they stand for.
type fileConfig struct {
	DatabaseURLs  urls         `yaml:"database_url"`
	Schema        string       `yaml:"schema"`
	Socket        string       `yaml:"socket"`
	Migrate       bool         `yaml:"migrate"`
	Lease         duration     `yaml:"lease"`
	DrainTimeout  duration     `yaml:"drain_timeout"`
	LogFormat     logFormat    `yaml:"log_format"`
	LogLevel      logLevel     `yaml:"log_level"`
	WorkerLogs    lineMode     `yaml:"worker_logs"`
	WorkerLogKeep size         `yaml:"worker_log_keep"`
	Pools         []poolConfig `yaml:"pools"`

	Partition     partitionName `yaml:"partition"`
	MaxPartitions int           `yaml:"max_partitions"`
	Gaps          gapsName      `yaml:"gaps"`

	WorkersDir string `yaml:"workers_dir"`

	PageCommand shellCommand `yaml:"page_command"`
	Hooks       []hookConfig `yaml:"hooks"`

	HTTP httpConfig `yaml:"http"`
}

// each is the settings for each database, with that one alone.
func (cfg fileConfig) each() []fileConfig {
	if len(cfg.DatabaseURLs) < 2 {
		return []fileConfig{cfg}
	}
	all := make([]fileConfig, len(cfg.DatabaseURLs))
	for i, url := range cfg.DatabaseURLs {
		all[i] = cfg
		all[i].DatabaseURLs = urls{url}
	}
	return all
}

// among says which database an error is about, if there are several.
func (cfg fileConfig) among(all fileConfig, err error) error {
	if len(all.DatabaseURLs) < 2 {
		return err
	}
	return fmt.Errorf("database %s: %w", databaseName(cfg.DatabaseURLs.one()), err)
}

// databaseName is what a URL leads to, without the user and their password.
func databaseName(url string) string {
	conf, err := pgx.ParseConfig(url)
	if err != nil {
		return "of an URL that is none"
	}
	return fmt.Sprintf("%s:%d/%s", conf.Host, conf.Port, cmp.Or(conf.Database, conf.User))
}

// urls are those of one or several databases; none = what the PG* variables say.
type urls []string

// one is the URL of a verb that works with one database.
func (u urls) one() string {
	switch len(u) {
	case 0:
		return ""
	case 1:
		return u[0]
	}
	panic("bug: several databases where one is needed")
}

// check refuses what can only be a slip among several.
func (u urls) check() error {
	if len(u) < 2 {
		return nil
	}
	seen := map[string]bool{}
	for _, url := range u {
		name := databaseName(url)
		switch {
		case url == "":
			return errors.New("one of several database URLs is empty: leave it out, or correct it")
		case seen[name]:
			return fmt.Errorf("database %s is given twice: name each once", name)
		}
		seen[name] = true
	}
	return nil
}

// UnmarshalYAML takes one URL, or a list of them.
func (u *urls) UnmarshalYAML(node ast.Node) error {
	nodes := []ast.Node{node}
	if list, ok := node.(*ast.SequenceNode); ok {
		nodes = list.Values
	}
	for _, n := range nodes {
		if _, ok := n.(*ast.StringNode); !ok {
			return misplaced(n, "a database URL, or a list of them")
		}
		*u = append(*u, scalar(n))
	}
	return nil
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
	User        string   `yaml:"user"`
	BootTimeout duration `yaml:"boot_timeout"`
	Kinds       []string `yaml:"kinds"`
	Queues      queues   `yaml:"queues"`
	Isolate     []string `yaml:"isolate"`

	Limits  limitsConfig  `yaml:"limits"`
	Recycle recycleConfig `yaml:"recycle"`
}

// recycleConfig is when a worker is replaced by a fresh one.
type recycleConfig struct {
	Strands int      `yaml:"strands"`
	Age     duration `yaml:"age"`
	RSS     size     `yaml:"rss"`
	Files   int      `yaml:"files"`
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

// lineMode is what becomes of the lines that workers write, besides that they are in their files; "" = info.
type lineMode string

// Set takes info, debug or off.
func (m *lineMode) Set(name string) error {
	if name != supervisor.LogLinesInfo && name != supervisor.LogLinesDebug && name != supervisor.LogLinesOff {
		return errors.New("want info, debug or off")
	}
	*m = lineMode(name)
	return nil
}

func (m *lineMode) String() string { return string(*m) }

// Type names the value in a help text.
func (m *lineMode) Type() string { return "MODE" }

// UnmarshalYAML takes info, debug or off.
func (m *lineMode) UnmarshalYAML(node ast.Node) error { return setFrom(m, node) }

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

// terminalHandler writes for people, in colours unless they do not want any: see https://no-color.org.
func terminalHandler(out io.Writer, least slog.Level) slog.Handler {
	return tint.NewTextHandler(out, &tint.Options{
		Level: least, TimeFormat: time.TimeOnly, ReplaceAttr: plainAttr,
		NoColor: os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb",
	})
}

// plainAttr takes from a value what a terminal would take for a command: lines of workers may hold anything.
func plainAttr(_ []string, a slog.Attr) slog.Attr {
	switch v := a.Value.Any().(type) {
	case string:
		a.Value = slog.StringValue(plain(v))
	case error:
		a.Value = slog.StringValue(plain(v.Error()))
	case fmt.Stringer, bool, int64, uint64, float64, time.Time: // a level is one, too
	default:
		a.Value = slog.StringValue(plain(fmt.Sprint(v)))
	}
	return a
}

// newHandler writes a daemon's log. Without a format it writes text, and what people read with ease where one of them looks.
func newHandler(out io.Writer, terminal bool, format logFormat, level logLevel) slog.Handler {
	var least slog.Level
	if level != "" {
		if err := least.UnmarshalText([]byte(level)); err != nil {
			panic("bug: a log level that was not checked: " + err.Error())
		}
	}
	if format == "" && terminal {
		return terminalHandler(out, least)
	}
	opts := &slog.HandlerOptions{Level: least}
	if format == "json" {
		return slog.NewJSONHandler(out, opts)
	}
	return slog.NewTextHandler(out, opts)
}
