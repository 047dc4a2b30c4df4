package main

import (
	"strings"
	"testing"
	"time"

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/client"
)

func TestBrokersAreListedWithTheirPartsAndWhoElseHasTheirNumber(t *testing.T) {
	now := time.Now()
	row := func(id, host string, number, rank, members int, lo, hi int64) *client.BrokerRow {
		return &client.BrokerRow{ID: id, Host: host, PID: 7, Alive: true, Partition: number, Rank: rank, Members: members, Lo: lo, Hi: hi, StartedAt: now, AliveUntil: now}
	}
	gone := row("e", "gone", 5, 2, 2, 0, 1<<31)
	gone.Alive = false
	list := brokerList{Brokers: []*client.BrokerRow{
		row("a", "one", 1, 1, 2, 0, 1<<31),
		row("b", "two", 5, 2, 2, 1<<31, 1<<32),
		row("c", "twin", 5, 2, 2, 1<<31, 1<<32),
		row("d", "all", 0, 0, 0, 0, 1<<32),
		gone,
		row("f", "new", 2, 0, 0, 0, 0),
	}}
	want := [][]string{
		{"HOST", "PID", "STATE", "PARTITION", "RANGE", "STARTED"},
		{"one", "7", "idle", "1 of 2", "00000000-7fffffff", "0s ago"},
		{"two", "7", "idle", "5, as 2 of 2 (2 have it)", "80000000-ffffffff"},
		{"twin", "7", "idle", "5, as 2 of 2 (2 have it)", "80000000-ffffffff"},
		{"all", "7", "idle", "-", "all"},
		{"gone", "7", "gone, seen 0s ago", "5, as 2 of 2", "00000000-7fffffff"},
		{"new", "7", "idle", "2", "none"},
	}
	compareTable(t, list, now, want)

	list.Here = &brokerView{Broker: "a", PartitionSnapshot: &broker.PartitionSnapshot{Members: []broker.MemberSnapshot{{Broker: "b", SilentMS: 2500}, {Broker: "c", SilentMS: -1}}}}
	want[0] = []string{"HOST", "PID", "STATE", "PARTITION", "RANGE", "HEARD", "STARTED"}
	for i, heard := range []string{"self", "2s ago", "not yet", "-", "-", "-"} {
		want[i+1] = append(want[i+1][:5:5], heard)
	}
	compareTable(t, list, now, want)
}

// compareTable compares the first cells of each row.
func compareTable(t *testing.T, list brokerList, now time.Time, want [][]string) {
	t.Helper()
	var out strings.Builder
	if err := list.print(&out, now); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != len(want) {
		t.Fatalf("got %d lines, want %d:\n%s", len(lines), len(want), out.String())
	}
	for i, cells := range want {
		got := strings.Join(strings.Fields(lines[i]), " ")
		if !strings.HasPrefix(got+" ", strings.Join(cells, " ")+" ") {
			t.Errorf("line %d: got %s\nwant %s", i, got, strings.Join(cells, " | "))
		}
	}
}
