package layout

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// design is an index that carries the scan, and how strands are taken and ended.
type design struct {
	name     string
	index    string // its columns
	byLane   bool   // lane stands before schedule
	byBucket bool   // bucket stands before schedule
	way      way
}

// way is how strands are taken and ended.
type way int

const (
	byID      way = iota // leased and deleted by id
	product              // the same, and scanned, with the product's statements
	byTID                // leased and deleted at their place in the table
	owned                // not leased; deleted at their place, fenced by an epoch
	ownedByID            // the same, deleted by id
)

// designs stand so that those with the same index follow each other.
var designs = []design{
	{"present", "(lane, schedule, id)", true, false, product},
	{"a", "(lane, schedule, id)", true, false, byID},
	{"a tid", "(lane, schedule, id)", true, false, byTID},
	{"a owned", "(lane, schedule, id)", true, false, owned},
	{"a owned id", "(lane, schedule, id)", true, false, ownedByID},
	{"b", "(bucket, schedule, id)", false, true, byID},
	{"c", "(bucket, lane, schedule, id)", true, true, byID},
	{"d", "(schedule, id)", false, false, byID},
	{"d+", "(schedule, id) include (lane, bucket)", false, false, byID},
	{"e", "(lane, bucket, schedule, id)", true, true, byID},
}

func designNames() []string {
	names := make([]string, len(designs))
	for i, d := range designs {
		names[i] = d.name
	}
	return names
}

// served keeps the planner from turning the list of lanes into the outer side of a join, and looks it up by hash.
const served = "((s.lane in (select unnest($%d::int[]))) is true)"

// payload is what a worker is given of a strand.
const payload = ", s.label, s.args, s.stack, s.try, s.max_tries, s.crashes, s.created_at, s.tags, s.metadata"

// scanSQL finds up to $7 strands behind the cursor of each stripe: lanes, buckets, schedules and ids are $1 to $4, the
// bounds of ids $5 and $6. It tells as much of them as the product's scan does.
func (d design) scanSQL() string {
	columns := `, pg_column_size(s.args) + coalesce(pg_column_size(s.stack), 0) as bytes,
			s.crashes >= 2 or s.rescues + (s.lease > '-infinity')::int >= 5 as alone, s.cancel_at is not null as cancelled`
	if d.way == owned || d.way == ownedByID {
		columns += payload // nothing else will read the rows
	}
	return `
	select p.n, s.*
	from unnest($1::int[], $2::smallint[], $3::timestamptz[], $4::uuid[]) with ordinality as p (lane, bucket, low, low_id, n)
	cross join lateral (
		select s.ctid, s.id, s.schedule` + columns + `
		from respirate.strand s
		where ` + d.stripe("p") + `(s.schedule, s.id) > (p.low, p.low_id) and s.schedule <= now()
			and s.id between $5::uuid and $6::uuid and s.lease < now()` + d.filter(8) + `
		order by s.schedule, s.id
		limit $7::int
	) s`
}

// stripe says that a row is in the stripe that a row of the given table names.
func (d design) stripe(table string) string {
	var terms strings.Builder
	if d.byLane {
		fmt.Fprintf(&terms, "s.lane = %s.lane and ", table)
	}
	if d.byBucket {
		fmt.Fprintf(&terms, "s.bucket = %s.bucket and ", table)
	}
	return terms.String()
}

// filter leaves out the lanes that are not served where the index does not.
func (d design) filter(parameter int) string {
	if d.byLane {
		return ""
	}
	return " and " + fmt.Sprintf(served, parameter)
}

// listSQL gives lane, bucket and first schedule of each stripe that has something due: $1 = lanes, $2 = buckets, $3 and
// $4 = bounds of ids. Where stripes have two columns it walks the index from one to the next, since lanes times buckets
// are far more than those that have anything.
func (d design) listSQL() string {
	switch {
	case d.byLane && d.byBucket && strings.HasPrefix(d.index, "(bucket"):
		return walkSQL("bucket", "lane", "unnest($2::smallint[])", "$1::int[]", "w.at, p.bucket")
	case d.byLane && d.byBucket:
		return walkSQL("lane", "bucket", "unnest($1::int[])", "$2::smallint[]", "p.lane, w.at")
	case d.byLane:
		return firstsSQL("unnest($1::int[]) p (lane)", "p.lane, 0::smallint", "s.lane = p.lane")
	case d.byBucket:
		return firstsSQL("unnest($2::smallint[]) p (bucket)", "0, p.bucket", "s.bucket = p.bucket"+d.filter(1))
	}
	return firstsSQL("(select) p", "0, 0::smallint", "true"+d.filter(1))
}

// firstsSQL is the first due strand for each row of a list.
func firstsSQL(list, columns, where string) string {
	return `
	select ` + columns + `, s.schedule
	from ` + list + `
	cross join lateral (
		select s.schedule from respirate.strand s
		where ` + where + ` and s.schedule <= now() and s.id between $3::uuid and $4::uuid
		order by s.schedule, s.id
		limit 1
	) s
	where $1::int[] is not null and $2::smallint[] is not null -- each statement has the same parameters
	order by s.schedule`
}

// walkSQL goes from each value of the second column to the next, in each of the first values. It begins at the first of
// the second ones, which are sorted, and leaves out what is not among them.
func walkSQL(first, second, firsts, seconds, columns string) string {
	next := func(behind string) string {
		return fmt.Sprintf(`select s.%s as at, s.schedule from respirate.strand s
				where s.%s = p.%s and s.%s > %s
				order by s.%s, s.schedule, s.id limit 1`, second, first, first, second, behind, second)
	}
	return `
	select ` + columns + `, w.schedule
	from ` + firsts + ` p (` + first + `)
	cross join lateral (
		with recursive walk as (
			(` + next("("+seconds+")[1] - 1") + `)
			union all
			select n.* from walk w cross join lateral (` + next("w.at") + `) n
		)
		select * from walk
	) w
	where w.schedule <= now() and ((w.at in (select unnest(` + seconds + `))) is true)
		and $3::uuid is not null and $4::uuid is not null -- each statement has the same parameters
	order by w.schedule`
}

const (
	// leaseTID is the product's lease, at the places ($3) where the scan has seen the rows.
	leaseTID = `
	update respirate.strand s set
		token = p.token, lease = now() + interval '2 minutes', seq = 0, woken = false,
		rescues = least(s.rescues + (s.lease > '-infinity' and s.token is distinct from p.token)::int, 32767)
	from unnest($1::uuid[], $2::uuid[], $3::tid[]) as p (id, token, at)
	where s.ctid = p.at and s.id = p.id and (
		s.schedule <= now() and s.lease < now() and s.cancel_at is null or s.token = p.token and s.lease > now())
	returning s.id, s.ctid, s.token, s.lane` + payload

	plainEnd = `s.parent is null and s.children_left = 0 and s.cancel_at is null and not s.keep`
)

var (
	// exitID is the product's exit_bare, but that it looks up lanes ($4) by hash.
	exitID = `
	delete from respirate.strand s
	using unnest($1::uuid[], $2::uuid[], $3::int[]) as r (id, token, seq)
	where s.id = r.id and s.token = r.token and s.seq < r.seq and s.lease > '-infinity'
		and ` + plainEnd + ` and ` + fmt.Sprintf(served, 4) + `
	returning s.id`

	// exitTID does the same at the places ($5) where the lease has left the rows.
	exitTID = `
	delete from respirate.strand s
	using unnest($1::uuid[], $2::uuid[], $3::int[], $5::tid[]) as r (id, token, seq, at)
	where s.ctid = r.at and s.id = r.id and s.token = r.token and s.seq < r.seq and s.lease > '-infinity'
		and ` + plainEnd + ` and ` + fmt.Sprintf(served, 4) + `
	returning s.id`

	// exitOwned deletes what nobody has leased while the epoch ($4) holds. The lock keeps a new owner waiting.
	exitOwned = `
	with own as materialized (select from respirate.ownership where slice = 0 and epoch = $4 for share)
	delete from respirate.strand s
	using unnest($1::uuid[], $2::tid[]) as r (id, at), own
	where s.ctid = r.at and s.id = r.id and s.lease = '-infinity'
		and ` + plainEnd + ` and ` + fmt.Sprintf(served, 3) + `
	returning s.id`

	// exitOwnedID does the same by id.
	exitOwnedID = `
	with own as materialized (select from respirate.ownership where slice = 0 and epoch = $3 for share)
	delete from respirate.strand s
	using unnest($1::uuid[]) as r (id), own
	where s.id = r.id and s.lease = '-infinity'
		and ` + plainEnd + ` and ` + fmt.Sprintf(served, 2) + `
	returning s.id`
)

// statements are those of the product, by name.
type statements map[string]string

// readProduct reads the product's statements from their files, so that the comparison follows them.
func readProduct() (statements, error) {
	all := make(statements)
	for _, name := range []string{"scan", "lanes", "lease", "exit_bare"} {
		text, err := os.ReadFile(filepath.Join("broker", "postgres", "sql", name+".sql"))
		if err != nil {
			return nil, fmt.Errorf("read the product's statements (run this in the root of the repository): %w", err)
		}
		all[name] = string(text)
	}
	return all, nil
}
