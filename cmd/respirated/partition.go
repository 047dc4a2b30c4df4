package main

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"strconv"

	"github.com/goccy/go-yaml/ast"

	"github.com/respirated/respirated/broker"
)

const (
	defaultMaxPartitions = 256
	mostMaxPartitions    = 4096
)

// partitionOf says which part of the ids a daemon scans, and who has said so. The first that says anything wins: the
// argument of `respirated run`, --partition, the configuration file, and what platforms tell their processes: DYNO, PS
// (if there is no DYNO), and K8S_POD_INDEX, which counts from 0. If nobody does, a number is found.
func partitionOf(args []string, flag partitionName, cfg fileConfig, env func(string) string) (p broker.Partition, from string, err error) {
	p = broker.Partition{Most: cfg.MaxPartitions, Gaps: cfg.Gaps.rule()}
	if p.Most < 1 || p.Most > mostMaxPartitions {
		return p, "", fmt.Errorf("max_partitions is %d, it must be 1 to %d", p.Most, mostMaxPartitions)
	}
	if len(args) > 0 && flag != "" {
		return p, "", errors.New("the partition is given twice: leave out the argument or --partition")
	}
	if p.Number, from, err = partitionNumber(args, flag, cfg.Partition, env); err != nil {
		return p, from, fmt.Errorf("the partition, from %s: %w", from, err)
	}
	if p.Number > p.Most {
		return p, from, fmt.Errorf("the partition, from %s: %d is more than %d: correct it, or raise --max-partitions", from, p.Number, p.Most)
	}
	return p, from, nil
}

// numbered is the name that platforms give to the third process, say, of ours: respirate.3, or web-respirated.3. It has
// to be the last part, and nothing else will do: somebody's run.1234 is no partition 1234.
var numbered = regexp.MustCompile(`\brespirated?\.([0-9]+)$`)

// partitionNumber is what the first says who says anything.
func partitionNumber(args []string, flag, file partitionName, env func(string) string) (number int, from string, err error) {
	told := func(name partitionName, from string) (int, string, error) {
		number, err := name.number()
		return number, from, err
	}
	switch {
	case len(args) > 0:
		return told(partitionName(args[0]), "the argument")
	case flag != "":
		return told(flag, "--partition")
	case file != "":
		return told(file, "the configuration file")
	}
	platform := "DYNO"
	if env(platform) == "" {
		platform = "PS"
	}
	if m := numbered.FindStringSubmatch(env(platform)); m != nil {
		return told(partitionName(m[1]), platform)
	}
	if index := env("K8S_POD_INDEX"); index != "" {
		n, err := wholeNumber(index)
		if err != nil {
			return 0, "K8S_POD_INDEX", fmt.Errorf("%.40q is not a whole number from 0 on", index)
		}
		return n + 1, "K8S_POD_INDEX + 1", nil
	}
	return told("auto", "the default")
}

const wantPartition = "none, auto or a number from 1 on"

// partitionName is "none", "auto" or a number; "" = nothing was said.
type partitionName string

// number is that of broker.Partition.
func (p partitionName) number() (int, error) {
	switch p {
	case "none":
		return 0, nil
	case "auto":
		return broker.Auto, nil
	}
	n, err := wholeNumber(string(p))
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%.40q is not %s", string(p), wantPartition)
	}
	return n, nil
}

// wholeNumber reads digits, and nothing but digits.
func wholeNumber(text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 31)
	return int(n), err
}

// Set takes the name of a partition.
func (p *partitionName) Set(name string) error {
	if _, err := partitionName(name).number(); err != nil {
		return errors.New("want " + wantPartition)
	}
	*p = partitionName(name)
	return nil
}

func (p *partitionName) String() string { return string(*p) }

// Type names the value in a help text.
func (p *partitionName) Type() string { return "none|auto|N" }

// UnmarshalYAML takes the name of a partition.
func (p *partitionName) UnmarshalYAML(node ast.Node) error { return setFrom(p, node) }

// gapsName is "rank" or "overdue"; "" = rank.
type gapsName string

func (g gapsName) rule() broker.Gaps {
	rule, err := broker.ParseGaps(cmp.Or(string(g), broker.GapsRank.String()))
	if err != nil {
		panic("bug: a rule that was not checked: " + err.Error())
	}
	return rule
}

// Set takes the name of a rule.
func (g *gapsName) Set(name string) error {
	if _, err := broker.ParseGaps(name); err != nil {
		return errors.New("want rank or overdue")
	}
	*g = gapsName(name)
	return nil
}

func (g *gapsName) String() string { return string(*g) }

// Type names the value in a help text.
func (g *gapsName) Type() string { return "RULE" }

// UnmarshalYAML takes the name of a rule.
func (g *gapsName) UnmarshalYAML(node ast.Node) error { return setFrom(g, node) }

// describePartition is a partition as the log tells of it: before the broker has found itself a number.
func describePartition(p broker.Partition) string {
	switch p.Number {
	case 0:
		return "none"
	case broker.Auto:
		return "auto"
	}
	return strconv.Itoa(p.Number)
}
