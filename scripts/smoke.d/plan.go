package main

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/pflag"
)

const usage = "usage: scripts/smoke [PARTITIONS [DAEMONS]] [--gaps rank|overdue]"

// mostDaemons fit on one machine.
const mostDaemons = 32

// plan says which daemons are started.
type plan struct {
	daemons    int
	partitions int // the highest number; 0 = none has one; -1 = as `respirated run` does by itself
	gaps       string
}

// parsePlan reads what follows the folder.
func parsePlan(args []string) (plan, error) {
	p := plan{daemons: 1, partitions: -1, gaps: "rank"}
	flags := pflag.NewFlagSet("smoke", pflag.ContinueOnError)
	flags.Usage = func() {}
	flags.StringVar(&p.gaps, "gaps", p.gaps, "")
	if err := flags.Parse(args); err != nil {
		return p, err
	}
	if p.gaps != "rank" && p.gaps != "overdue" {
		return p, fmt.Errorf("--gaps is %q, it must be rank or overdue", p.gaps)
	}
	var err error
	switch args = flags.Args(); len(args) {
	case 0:
		return p, nil
	case 1, 2:
		if p.partitions, err = number("PARTITIONS", args[0], 0, 256); err != nil {
			return p, err
		}
		p.daemons = max(p.partitions, 1)
		if len(args) == 2 {
			p.daemons, err = number("DAEMONS", args[1], 1, mostDaemons)
		}
	default:
		err = errors.New("there are more than two numbers")
	}
	switch {
	case err != nil:
		return p, err
	case p.partitions > 0 && p.daemons > p.partitions:
		return p, fmt.Errorf("%d daemons need as many PARTITIONS, which are %d", p.daemons, p.partitions)
	case p.daemons > mostDaemons:
		return p, fmt.Errorf("%d daemons are too many for one machine: give DAEMONS, at most %d", p.daemons, mostDaemons)
	}
	return p, nil
}

func number(name, text string, lowest, highest int) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < lowest || n > highest {
		return 0, fmt.Errorf("%s is %q, it must be %d to %d", name, text, lowest, highest)
	}
	return n, nil
}

// workers is how many worker processes each daemon gets, so that many daemons fit on few cores.
func (p plan) workers() int {
	switch {
	case p.daemons == 1:
		return 4
	case p.daemons < 4:
		return 2
	}
	return 1
}

// partition is what the daemon of an index is told to be; "" = nothing.
func (p plan) partition(index int) string {
	switch p.partitions {
	case -1:
		return ""
	case 0:
		return "none"
	}
	return strconv.Itoa(p.partitions - index)
}

// gapStays says whether there are strands that nobody looks for until they are overdue.
func (p plan) gapStays() bool { return p.gaps == "overdue" && p.partitions > p.daemons }

func (p plan) String() string {
	switch p.partitions {
	case -1:
		return counted(p.daemons, "daemon")
	case 0:
		return counted(p.daemons, "daemon") + " without partitions"
	}
	return fmt.Sprintf("%s for %s, gaps %s", counted(p.daemons, "daemon"), counted(p.partitions, "partition"), p.gaps)
}

func counted(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
