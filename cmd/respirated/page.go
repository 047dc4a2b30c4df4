package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/respirated/respirated/client"
)

func pageCommand(s *settings) *cobra.Command {
	cmd := group("page", "List and resolve pages", `A page tells people that a deadline of a strand has passed. It is resolved when the strand gets where it should have been,
or takes another way, or ends; or by hand. respirated run --page-command sends pages on.`)
	cmd.AddCommand(pageListCommand(s), pageResolveCommand(s))
	return cmd
}

// openPages are deadlines that have passed and that nobody has looked after.
type openPages struct {
	Count int        `json:"count"`
	Since *time.Time `json:"since,omitempty"` // when the oldest was opened

	now time.Time // by the database's clock
}

func (p openPages) String() string {
	if p.Count == 0 {
		return "none is open"
	}
	return fmt.Sprintf("%d open, the oldest since %s", p.Count, span(p.now.Sub(*p.Since)))
}

func (db *database) openPages(ctx context.Context) (p openPages, err error) {
	pages := pgx.Identifier{db.schema, "pages"}.Sanitize()
	err = db.conn.QueryRow(ctx, "select count(*), min(opened_at), clock_timestamp() from "+pages+" where resolved_at is null").
		Scan(&p.Count, &p.Since, &p.now)
	return p, err
}

// pageList is what `page list --json` prints.
type pageList struct {
	Pages []*client.PageRow `json:"pages"`
	After int64             `json:"after,omitempty"` // where the next pages begin; none = there are none
}

func pageListCommand(s *settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the open pages, the newest first",
		Example: `  respirated page list
  respirated page list --all --limit 20
  respirated page list --json`,
		Args: takes(cobra.NoArgs),
	}
	all := cmd.Flags().Bool("all", false, "those that are resolved, too, for as long as they are kept")
	limit := cmd.Flags().Int("limit", client.DefaultFirst, "at most so many")
	after := cmd.Flags().Int64("after", 0, "go on behind this `ID`")
	asJSON := addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *limit < 1 || *limit > client.MaxFirst {
			return usage(fmt.Errorf("--limit is %d, it must be 1 to %d", *limit, client.MaxFirst))
		}
		return s.withDatabase(cmd.Context(), client.InsertOpts{}, func(db *database) error {
			pages, err := db.PageList(cmd.Context(), &client.PageListParams{All: *all, First: *limit, Before: *after})
			if err != nil {
				return err
			}
			list := pageList{Pages: append([]*client.PageRow{}, pages...)}
			if len(pages) == *limit {
				list.After = pages[len(pages)-1].ID
			}
			if *asJSON {
				return printJSON(cmd.OutOrStdout(), list)
			}
			now := time.Now()
			t := newTable(cmd.OutOrStdout(), "ID", "STRAND", "KIND", "TARGET", "DUE", "OPENED", "RESOLVED", "WHY")
			for _, p := range pages {
				t.row(strconv.FormatInt(p.ID, 10), p.Strand, p.Kind, p.Target, ago(p.DueAt, now), ago(p.OpenedAt, now), agoIf(p.ResolvedAt, now), p.Why)
			}
			if err := t.flush(); err != nil {
				return err
			}
			if list.After != 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "there may be more: --after %d\n", list.After)
			}
			return nil
		})
	}
	return cmd
}

func pageResolveCommand(s *settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "resolve ID...",
		Short: "Close pages that somebody has looked after",
		Long: `Close pages that somebody has looked after. Their strands go on as they do, and no other page is opened for the same deadlines.
It needs the rights of respirate.grant_operator('ROLE').`,
		Example: `  respirated page resolve 7
  respirated page resolve 7 8 --by 'ann, ticket 7' --json`,
		Args: takes(cobra.MinimumNArgs(1)),
	}
	by := addBy(cmd)
	asJSON := addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ids := make([]int64, len(args))
		for i, arg := range args {
			id, err := strconv.ParseInt(arg, 10, 64)
			if err != nil || id < 1 {
				return usage(fmt.Errorf("%.40q is not the id of a page, which page list tells", arg))
			}
			ids[i] = id
		}
		return s.withDatabase(cmd.Context(), client.InsertOpts{}, func(db *database) error {
			type resolved struct {
				ID  int64  `json:"id"`
				Why string `json:"why,omitempty"` // it is over; none = there is no such page
			}
			results := make([]resolved, len(ids))
			var missing error
			for i, id := range ids {
				why, err := db.PageResolve(cmd.Context(), id, by())
				if errors.Is(err, client.ErrPageNotFound) {
					missing = errors.Join(missing, err)
				} else if err != nil {
					return err
				}
				results[i] = resolved{id, why}
				if why != "" && !*asJSON {
					fmt.Fprintf(cmd.OutOrStdout(), "%d is resolved: %s\n", id, plain(why))
				}
			}
			if *asJSON {
				if err := printJSON(cmd.OutOrStdout(), results); err != nil {
					return err
				}
			}
			return missing
		})
	}
	return cmd
}
