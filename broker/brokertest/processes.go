package brokertest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/respirated/respirated/broker"
)

// Processes are [broker.Processes] without processes: they start, die and obey as the test says.
type Processes struct {
	mu     sync.Mutex          // guards all below
	living map[string]*process // by spawn key
	deaths []broker.WorkerExit // not yet told
	told   chan struct{}       // has room for one: something was added to deaths
	last   int                 // the pid drawn last
}

// process is one that lives.
type process struct {
	pid       int
	connected int
	why       string // it was asked to end; "" = it was not
	stubborn  bool
	served    []int // what was told of its results
}

// NewProcesses returns none.
func NewProcesses() *Processes {
	return &Processes{living: map[string]*process{}, told: make(chan struct{}, 1)}
}

// Run tells exited of each death, until ctx ends.
func (p *Processes) Run(ctx context.Context, exited func(broker.WorkerExit)) error {
	for {
		for _, d := range p.takeDeaths() {
			exited(d)
		}
		select {
		case <-p.told:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (p *Processes) takeDeaths() []broker.WorkerExit {
	p.mu.Lock()
	defer p.mu.Unlock()
	deaths := p.deaths
	p.deaths = nil
	return deaths
}

// Start makes a process and returns its spawn key.
func (p *Processes) Start() (key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last++
	key = fmt.Sprintf("key-%d", p.last)
	p.living[key] = &process{pid: p.last}
	return key
}

// StartStubborn makes a process that does not end when it is asked to.
func (p *Processes) StartStubborn() (key string) {
	key = p.Start()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.living[key].stubborn = true
	return key
}

// Die lets a process end by itself, with a last word on stderr.
func (p *Processes) Die(key, how, stderr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.living[key]; !ok {
		panic(fmt.Sprintf("bug: %s dies, but does not live", key))
	}
	p.die(key, how, stderr)
}

func (p *Processes) die(key, how, stderr string) {
	proc := p.living[key]
	delete(p.living, key)
	p.deaths = append(p.deaths, broker.WorkerExit{Key: key, PID: proc.pid, How: how, Stderr: stderr, Asked: proc.why != ""})
	select {
	case p.told <- struct{}{}:
	default:
	}
}

// Admit implements [broker.Processes].
func (p *Processes) Admit(_ string, _ int, kinds []string) (may []string, known bool) {
	return kinds, true
}

// Terms implements [broker.Processes].
func (p *Processes) Terms(string) broker.Terms { return broker.Terms{} }

// Connected implements [broker.Processes].
func (p *Processes) Connected(key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if proc, ok := p.living[key]; ok {
		proc.connected++
	}
}

// End implements [broker.Processes].
func (p *Processes) End(key string, _ time.Duration, why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	proc, ok := p.living[key]
	if !ok || proc.why != "" {
		return
	}
	proc.why = why
	if !proc.stubborn {
		p.die(key, "signal: terminated", "")
	}
}

// Served implements [broker.Processes].
func (p *Processes) Served(key string, results int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if proc, ok := p.living[key]; ok {
		proc.served = append(proc.served, results)
	}
}

// ToldServed returns what was told of the results of a living process, in order.
func (p *Processes) ToldServed(key string) []int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if proc, ok := p.living[key]; ok {
		return slices.Clone(proc.served)
	}
	return nil
}

// Connections tells how often a living process has said hello.
func (p *Processes) Connections(key string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if proc, ok := p.living[key]; ok {
		return proc.connected
	}
	return 0
}

// AskedToEnd tells why a living process was asked to end; "" = it was not.
func (p *Processes) AskedToEnd(key string) (why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if proc, ok := p.living[key]; ok {
		return proc.why
	}
	return ""
}
