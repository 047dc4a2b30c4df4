package brokertest

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/respirated/respirated/broker"
)

// Join implements [broker.Store].
func (s *Store) Join(ctx context.Context, req broker.JoinRequest, ttl time.Duration) (broker.Joined, error) {
	var joined broker.Joined
	err := s.call(ctx, Join, func(now time.Time) error {
		joined = broker.Joined{Number: req.Number, Members: s.members(req.Broker, now)}
		if req.Number == 0 {
			joined.Number = lowestFree(joined.Members, req.Most)
		}
		s.brokers[req.Broker] = presence{broker.Announcement{
			Broker: req.Broker, Host: req.Host, PID: req.PID, Build: req.Build, Number: joined.Number,
		}, now.Add(ttl)}
		return nil
	})
	if err != nil {
		return broker.Joined{}, err
	}
	return joined, nil
}

// members lists the live brokers that have a number, but for one.
func (s *Store) members(but broker.ID, now time.Time) []broker.Presence {
	var members []broker.Presence
	for id, b := range s.brokers {
		if id != but && b.Number > 0 && b.alive(now) {
			members = append(members, broker.Presence{Broker: id, Number: b.Number})
		}
	}
	slices.SortFunc(members, func(a, b broker.Presence) int {
		return cmp.Or(cmp.Compare(a.Number, b.Number), bytes.Compare(a.Broker[:], b.Broker[:]))
	})
	return members
}

// lowestFree is the lowest number up to most that no member has, of members in the order of their numbers; 0 = none.
func lowestFree(members []broker.Presence, most int) int {
	free := 1
	for _, m := range members {
		if m.Number == free {
			free++
		}
	}
	if free > most {
		return 0
	}
	return free
}

// Tell implements [broker.Store].
func (s *Store) Tell(ctx context.Context, p broker.Presence) error {
	err := s.call(ctx, Tell, func(time.Time) error { return nil })
	if err == nil {
		s.channel.Hint(broker.Hint{Presence: &p})
	}
	return err
}

// Announce implements [broker.Store]. It opens the pages that are due, too.
func (s *Store) Announce(ctx context.Context, a broker.Announcement, ttl time.Duration) error {
	return s.call(ctx, Announce, func(now time.Time) error {
		s.brokers[a.Broker] = presence{a, now.Add(ttl)}
		s.openPages(now)
		return nil
	})
}

// Leave implements [broker.Store].
func (s *Store) Leave(ctx context.Context, id broker.ID) error {
	number := 0
	err := s.call(ctx, Leave, func(time.Time) error {
		number = s.brokers[id].Number
		delete(s.brokers, id)
		return nil
	})
	if err == nil && number > 0 {
		s.channel.Hint(broker.Hint{Presence: &broker.Presence{Broker: id, Number: number, Left: true}})
	}
	return err
}

// hintWanted says whether some live broker would care for a hint; with none known, a new one may be listening.
func (s *Store) hintWanted(now time.Time) bool {
	live := 0
	for _, b := range s.brokers {
		if !b.alive(now) {
			continue
		}
		if !b.Busy {
			return true
		}
		live++
	}
	return live == 0
}

// served says whether a live broker has a worker for kind.
func (s *Store) served(kind string, now time.Time) bool {
	for _, b := range s.brokers {
		if !b.alive(now) {
			continue
		}
		for _, k := range b.Kinds {
			if k == kind {
				return true
			}
		}
	}
	return false
}
