// Package supervisor owns the worker processes of a host: it starts them, sees them die, starts them again, ends them,
// and takes over those that a former daemon left behind.
//
//	broker's loop ── Connected, End ──┐                     ┌──► spawn: setsid, allow-listed environment, log files
//	watchers ─────── died ────────────┼──► loop ── life ────┼──► TERM, KILL to the group
//	timer ────────── tick ────────────┤     │  (rules.go,   └──► halt the pool
//	ctx ──────────── quit ────────────┘     │    pure)
//	                                        ├──► workers.json, for the next daemon
//	                                        ├──► Workers(), a snapshot
//	                                        ├──► Exited(broker.WorkerExit), from a goroutine of its own
//	                                        └──► Hook.Event(Event), from another one
//	log files of workers ── tails, a goroutine ──► Log
//
// A pool has Procs seats. At most one process sits on a seat at a time, and each process has a spawn key that is drawn
// for it alone.
//
//	idle ──begin──► starting ──hello──► connected ─┐
//	                 ▲    │                 │      ├─ End, stop, no hello ──► ending ──StopTimeout──► killed
//	  back-off over  │    └───── died ──────┤      │                            │                       │
//	              waiting ◄─────────────────┴──────┼────────── died ────────────┴───────────────────────┘
//	                                               │
//	  a former daemon's process ──► adopted ───────┘
//
// # What holds
//
//   - At most Procs processes of a pool run that were started here or adopted, and one more while it takes over from
//     another: a seat gets a new process only after the death of the old one was seen, or for that. Those of a pool that
//     is gone, or has become smaller, end their work; if it comes back or grows again, their seats wait for that.
//   - A process is replaced (recycled, rolled, over a limit) by one that is connected before the old one is asked to end.
//     One that cannot connect changes nothing. Of a pool one is replaced at a time.
//   - Another build, which is another binary or configuration, first runs in one process, the canary. The others follow
//     when that has brought a result, or was connected for 10 s without a strand. When it dies twice before, the old
//     build goes on, from the file that is kept open, until there is yet another one.
//   - What was learnt of a pool holds for a later daemon, if this one is killed or becomes another program: that it is halted,
//     crash-looping or backs off, that a build is held back, what it was set to. It does until the binary or the configuration
//     changes, somebody asks for a roll, or a daemon ends in order. A pause holds in any case (past.go).
//   - Each death is told once by each daemon that sees it. A daemon that is killed between telling a death and writing
//     workers.json leaves the next one to tell it again, as "unknown (adopted)".
//   - A key is in workers.json before its process exists, and the pid follows. A daemon killed in between leaves a
//     process that the next one finds by its key (on Linux).
//   - A pid alone is never trusted: boot id, pid, start time and group must match, and signals go through a pidfd
//     where the kernel can. A pid of 1 or less is refused, since kill(-1) means everybody.
//   - Whatever is left in a process's group when it dies is killed before the death is told, so that the next run of a
//     strand does not meet the children of the last one. Only what made itself a session of its own escapes, where the worker
//     has no cgroup.
//   - TERM goes to the worker alone: the children of its handlers must live for the handlers to finish. KILL goes to the
//     whole group.
//   - Workers depend on nothing of the daemon's: no pipe, no parent-death signal, no shared group. Kill -9 of the
//     daemon leaves them running.
//   - What workers write is in their files first, and in our log second: nobody who reads along, or does not, holds up a
//     worker. The files take bounded space on disk; see log.go.
//   - Supervision waits for nobody: neither the Exited callback, nor a hook, nor a caller can hold it up.
//   - A process that is above a hard limit dies alone, by the kernel's hand or ours, and its death says why. What the host
//     cannot enforce is told once for each pool, and keeps nobody from starting (limits.go, shim_linux.go, cgroup_linux.go,
//     groups.go; usage.go looks at what is used).
//
// # When things go wrong
//
//   - Five deaths in a minute, each within 10 s of the start: the pool is crash-looping. What lives is left alone, and one
//     process is started each 30 s, until one lives for 10 s. It is never given up.
//   - A death within 60 s of hello, or before it, doubles the range that the back-off is drawn from, up to 30 s.
//   - A process that uses more than Recycle allows is replaced when it is a minute old; where its successors do the same, each
//     is spared for twice as long, up to an hour.
//   - Exit status 75 says "not now": back off, however long it had been well. Exit status 78 says "my configuration is
//     wrong": the pool starts nothing more until its binary or its configuration changes.
//   - workers.json torn, of another boot, or writable by others: ignored with a warning, but for pauses in another boot. Workers that were running then
//     are strangers; they reconnect as any foreign worker would.
//   - Disk full: workers.json stays as it was (it is replaced by rename, never in part), the error is logged once, and
//     supervision goes on. It is tried again each second.
//   - A binary that is missing or cannot be executed when a daemon starts: its pool waits for one, and others run. Only where there
//     is no other the daemon does not start.
//   - A process that does not die of KILL (stuck in the kernel) keeps its seat, is logged, and is left behind by Run.
//
// # Admitted weaknesses
//
// A binary that is overwritten in place has no old build to go back to. After a daemon that was killed the old build of a
// pool is known, but can be started again only if it is no script and one of its processes lives, or its path still leads to it;
// where there is nothing to go on with, the new one is tried as in a crash loop. A daemon that is killed leaves the log lines of its last second to be
// told again by the next. Where two processes share a seat for a while, their lines in its files are not told apart. The
// children of a worker that died while no daemon ran
// live on. The loop itself writes workers.json and syncs it, so a disk that hangs holds up supervision. Where there is
// no pidfd, deaths of adopted processes are polled, and a signal to a group could in theory reach one that got its
// number a moment ago.
package supervisor
