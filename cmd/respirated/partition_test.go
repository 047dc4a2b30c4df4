package main

import (
	"strings"
	"testing"

	"github.com/respirated/respirated/broker"
)

func TestThePartitionIsWhatTheFirstSaysWhoSaysAnything(t *testing.T) {
	for _, c := range []struct {
		name string
		args string // of `respirated run`
		flag partitionName
		file partitionName
		env  string // NAME=VALUE, with spaces between

		want int
		from string
	}{
		{name: "nobody says anything", want: broker.Auto, from: "the default"},
		{name: "the argument", args: "3", want: 3, from: "the argument"},
		{name: "the argument wins", args: "3", file: "4", env: "DYNO=respirate.5 PS=respirate.6 K8S_POD_INDEX=7", want: 3, from: "the argument"},
		{name: "the argument may be a word", args: "none", want: 0, from: "the argument"},
		{name: "the highest number", args: "256", want: 256, from: "the argument"},
		{name: "the flag", flag: "2", file: "4", env: "DYNO=respirate.5", want: 2, from: "--partition"},
		{name: "the flag says none", flag: "none", env: "DYNO=respirate.5", want: 0, from: "--partition"},
		{name: "the flag says auto", flag: "auto", file: "4", want: broker.Auto, from: "--partition"},
		{name: "the file", file: "4", env: "DYNO=respirate.5", want: 4, from: "the configuration file"},
		{name: "the file says auto", file: "auto", env: "K8S_POD_INDEX=7", want: broker.Auto, from: "the configuration file"},
		{name: "DYNO", env: "DYNO=respirate.4", want: 4, from: "DYNO"},
		{name: "DYNO wins over PS", env: "DYNO=respirate.4 PS=respirate.2", want: 4, from: "DYNO"},
		{name: "DYNO by our own name", env: "DYNO=respirated.12", want: 12, from: "DYNO"},
		{name: "DYNO with more before it", env: "DYNO=web/respirated.12", want: 12, from: "DYNO"},
		{name: "another program's DYNO", env: "DYNO=run.1234", want: broker.Auto, from: "the default"},
		{name: "another program's DYNO hides PS", env: "DYNO=run.1234 PS=respirate.2", want: broker.Auto, from: "the default"},
		{name: "another program's DYNO does not hide K8S_POD_INDEX", env: "DYNO=run.1234 K8S_POD_INDEX=2", want: 3, from: "K8S_POD_INDEX + 1"},
		{name: "another program whose name ends like ours", env: "DYNO=notrespirate.4", want: broker.Auto, from: "the default"},
		{name: "a number that is not at the end", env: "DYNO=respirate.4.log", want: broker.Auto, from: "the default"},
		{name: "a number that is none", env: "DYNO=respirate.4x", want: broker.Auto, from: "the default"},
		{name: "a negative number", env: "DYNO=respirate.-4", want: broker.Auto, from: "the default"},
		{name: "PS", env: "PS=respirate.2", want: 2, from: "PS"},
		{name: "an empty DYNO is as good as none", env: "DYNO= PS=respirate.2", want: 2, from: "PS"},
		{name: "another program's PS", env: "PS=worker.2", want: broker.Auto, from: "the default"},
		{name: "the first pod", env: "K8S_POD_INDEX=0", want: 1, from: "K8S_POD_INDEX + 1"},
		{name: "the last pod", env: "K8S_POD_INDEX=255", want: 256, from: "K8S_POD_INDEX + 1"},
	} {
		got, from, err := partitionOf(strings.Fields(c.args), c.flag, fileConfig{Partition: c.file, MaxPartitions: 256}, environment(c.env))
		if want := (broker.Partition{Number: c.want, Most: 256}); got != want || from != c.from || err != nil {
			t.Errorf("%s: got %+v from %q, %v; want %+v from %q", c.name, got, from, err, want, c.from)
		}
	}
}

func TestBadPartitionsAreRefusedAndTheirSourceIsNamed(t *testing.T) {
	for _, c := range []struct {
		args string
		flag partitionName
		file partitionName
		env  string
		most int // 0 = 256

		want string
	}{
		{args: "0", want: `from the argument: "0" is not none, auto or a number from 1 on`},
		{args: "257", want: `from the argument: 257 is more than 256`},
		{args: "x", want: `from the argument: "x" is not none, auto`},
		{args: "-1", want: `from the argument: "-1" is not`},
		{args: "+1", want: `from the argument: "+1" is not`},
		{args: "1.5", want: `from the argument: "1.5" is not`},
		{args: "0x10", want: `from the argument: "0x10" is not`},
		{args: "99999999999999999999", want: `from the argument: "99999999999999999999" is not`},
		{args: "3", flag: "3", want: "twice"},
		{flag: "257", want: `from --partition: 257 is more than 256`},
		{file: "300", want: `from the configuration file: 300 is more than 256`},
		{file: "4", most: 3, want: `4 is more than 3: correct it, or raise --max-partitions`},
		{env: "DYNO=respirate.0", want: `from DYNO: "0" is not`},
		{env: "DYNO=respirate.257", want: `from DYNO: 257 is more than 256`},
		{env: "PS=respirate.0", want: `from PS: "0" is not`},
		{env: "PS=respirate.99999999999999999999", want: `from PS: "99999999999999999999" is not`},
		{env: "K8S_POD_INDEX=256", want: `from K8S_POD_INDEX + 1: 257 is more than 256`},
		{env: "K8S_POD_INDEX=2147483647", want: `from K8S_POD_INDEX + 1: 2147483648 is more than 256`},
		{env: "K8S_POD_INDEX=-1", want: `from K8S_POD_INDEX: "-1" is not a whole number from 0 on`},
		{env: "K8S_POD_INDEX=x", want: `from K8S_POD_INDEX: "x" is not`},
		{env: "K8S_POD_INDEX=auto", want: `from K8S_POD_INDEX: "auto" is not`},
		{most: -1, want: `max_partitions is -1, it must be 1 to 4096`},
		{most: 4097, want: `max_partitions is 4097, it must be 1 to 4096`},
	} {
		cfg := fileConfig{Partition: c.file, MaxPartitions: c.most}
		if c.most == 0 {
			cfg.MaxPartitions = 256
		}
		got, _, err := partitionOf(strings.Fields(c.args), c.flag, cfg, environment(c.env))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("argument %q, flag %q, file %q, %q: got %+v and error %v, want one with %q", c.args, c.flag, c.file, c.env, got, err, c.want)
		}
	}
}

func TestTheRuleForGapsAndTheHighestNumberReachTheBroker(t *testing.T) {
	for name, want := range map[gapsName]broker.Gaps{"": broker.GapsRank, "rank": broker.GapsRank, "overdue": broker.GapsOverdue} {
		got, _, err := partitionOf([]string{"1000"}, "", fileConfig{MaxPartitions: 4096, Gaps: name}, environment(""))
		if want := (broker.Partition{Number: 1000, Most: 4096, Gaps: want}); got != want || err != nil {
			t.Errorf("gaps %q: got %+v, %v; want %+v", name, got, err, want)
		}
	}
}

// environment looks up what is written as NAME=VALUE, with spaces between.
func environment(text string) func(string) string {
	return func(name string) string {
		for _, pair := range strings.Fields(text) {
			if value, ok := strings.CutPrefix(pair, name+"="); ok {
				return value
			}
		}
		return ""
	}
}
