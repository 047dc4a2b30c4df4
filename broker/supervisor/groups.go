package supervisor

import (
	"log/slog"
	"maps"
	"os"
	"slices"
)

// groups makes the cgroups of workers. It belongs to the loop.
type groups struct {
	home    *groupHome        // nil = nobody has needed one yet
	told    map[string]Limits // pools that were told what is not enforced of these
	useless bool              // no process can be born in one
	ours    func(pid int) bool
}

// make makes a cgroup for a worker that begins now; nil = it does without, and the log says why.
func (g *groups) make(p Pool, log *slog.Logger) *group {
	if !p.Limits.grouped() {
		return nil
	}
	g.find()
	g.tell(p, log)
	if g.home.base == "" || g.useless {
		return nil
	}
	const enough = 8 // digits, for a name that no other worker has
	made, err := g.home.make(p.Name+"-"+newKey()[:enough], p.Limits)
	if err != nil {
		log.Warn("worker starts without its limits of memory, cpu and pids", "pool", p.Name, "error", err)
		return nil
	}
	return made
}

func (g *groups) find() {
	if g.home == nil {
		home := findGroupHome([]string{"memory", "pids", "cpu"}, g.ours)
		g.home, g.told = &home, make(map[string]Limits)
	}
}

// tell tells once for each pool what the kernel does not enforce.
func (g *groups) tell(p Pool, log *slog.Logger) {
	if known, ok := g.told[p.Name]; ok && known == p.Limits {
		return
	}
	g.told[p.Name] = p.Limits
	controllers := p.Limits.controllers()
	for _, limit := range slices.Sorted(maps.Keys(controllers)) {
		if why, instead := g.home.lacks(controllers[limit]), lookedAt(limit); why != "" && instead != "" {
			log.Warn("limits: "+limit+" is not enforced by the kernel", "pool", p.Name, "why", why, "instead", instead)
		}
	}
}

// giveUp notes that a worker could start only without a cgroup.
func (g *groups) giveUp(pool string, log *slog.Logger) {
	g.useless = true
	log.Warn("limits: memory, cpu and pids are not enforced: no process can be started in a cgroup of its own", "pool", pool)
}

// enforces says whether the kernel sees to a controller's limits.
func (g *groups) enforces(controller string) bool {
	return g.home != nil && g.home.base != "" && !g.useless && g.home.lacks(controller) == ""
}

// isOurs says whether a process is the daemon, a worker, or one that a worker has started.
func (l *loop) isOurs(pid int) bool {
	session := sessionOf(pid)
	return pid == os.Getpid() || slices.ContainsFunc(l.seats, func(s *seat) bool { return s.proc != nil && s.proc.pid == session })
}

// watchUsage has the sampler look at what runs now.
func (l *loop) watchUsage() {
	var watched []sampled
	for _, s := range l.seats {
		if s.proc == nil {
			continue
		}
		w := sampled{key: s.rec.Key, proc: s.proc}
		if s.crew != nil {
			w.limits, w.recycle = s.crew.Limits, s.crew.Recycle
		}
		if s.build != nil { // other limits are for those that are started with them
			w.limits = s.build.pool.Limits
		}
		grouped := s.proc.group != nil
		w.kernel = grouped && l.groups.enforces("memory")
		w.counts = w.limits.PIDs > 0 && !(grouped && l.groups.enforces("pids"))
		watched = append(watched, w)
	}
	l.sampler.watched.Store(&watched)
}
