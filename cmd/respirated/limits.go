package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/respirated/respirated/broker/supervisor"
)

// limitsConfig is what one worker process of a pool may use, as a configuration file says it.
type limitsConfig struct {
	Files        int     `yaml:"nofile"`
	Core         *size   `yaml:"core"`
	AddressSpace size    `yaml:"address_space"`
	Procs        int     `yaml:"nproc"`
	Nice         int     `yaml:"nice"`
	Umask        *octal  `yaml:"umask"`
	NoNewPrivs   bool    `yaml:"no_new_privs"`
	Memory       size    `yaml:"memory"`
	MemorySoft   size    `yaml:"memory_soft"`
	CPU          float64 `yaml:"cpu"`
	PIDs         int     `yaml:"pids"`
}

func (c limitsConfig) limits() supervisor.Limits {
	return supervisor.Limits{
		Files: c.Files, Core: (*int64)(c.Core), AddressSpace: int64(c.AddressSpace), Procs: c.Procs, Nice: c.Nice, Umask: (*int)(c.Umask),
		NoNewPrivs: c.NoNewPrivs, Memory: int64(c.Memory), MemorySoft: int64(c.MemorySoft), CPU: c.CPU, PIDs: c.PIDs,
	}
}

// size is a number of bytes of the configuration file.
type size int64

// Set takes "512MiB", or a plain number.
func (s *size) Set(text string) error {
	digits := strings.TrimRight(text, "KMGTiB")
	n, err := strconv.ParseInt(digits, 10, 64)
	unit, known := map[string]int64{"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}[text[len(digits):]]
	if err != nil || !known || n < 0 || n > math.MaxInt64/unit {
		return errors.New("want a size such as 512MiB")
	}
	*s = size(n * unit)
	return nil
}

func (s *size) String() string { return strconv.FormatInt(int64(*s), 10) }

// Type names the value in a help text.
func (s *size) Type() string { return "SIZE" }

// UnmarshalYAML takes a size, and says where anything else stands.
func (s *size) UnmarshalYAML(node ast.Node) error { return setFrom(s, node) }

// octal is a mask of rights of the configuration file.
type octal int

// Set takes octal digits, such as 0027.
func (o *octal) Set(text string) error {
	n, err := strconv.ParseUint(strings.TrimPrefix(text, "0o"), 8, 9)
	if err != nil {
		return errors.New("want a mask in octal digits such as 0027")
	}
	*o = octal(n)
	return nil
}

func (o *octal) String() string { return fmt.Sprintf("%04o", int(*o)) }

// Type names the value in a help text.
func (o *octal) Type() string { return "MASK" }

// UnmarshalYAML takes a mask, and says where anything else stands.
func (o *octal) UnmarshalYAML(node ast.Node) error { return setFrom(o, node) }
