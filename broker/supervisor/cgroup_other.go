//go:build !linux

package supervisor

import (
	"errors"
	"syscall"
)

// There are no cgroups here.

type groupHome struct{ base string }

func findGroupHome([]string, func(int) bool) groupHome { return groupHome{} }

func (groupHome) lacks(string) string { return "no cgroup v2" }

func (groupHome) make(string, Limits) (*group, error) { return nil, errors.ErrUnsupported }

type group struct{ path string }

func adoptGroup(string) *group { return nil }

func (*group) kill()                        {}
func (*group) oomKills() int64              { return 0 }
func (*group) usage() usage                 { return usage{} }
func (*group) tasks() int                   { return 0 }
func (*group) receive(*syscall.SysProcAttr) {}
func (*group) close()                       {}
func (*group) remove()                      {}
