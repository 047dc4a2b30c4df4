package worker_test

import (
	"context"
	"fmt"

	"github.com/respirated/respirated/worker"
)

// Transfer moves money between two accounts of the application's.
type Transfer struct {
	From   string `json:"from"`
	To     string `json:"to"`
	Amount int    `json:"amount"`
}

func (Transfer) Kind() string { return "transfer" }

// transaction stands for a pgx.Tx here, so that the example needs no database.
type transaction struct{}

func (transaction) Exec(ctx context.Context, sql string, args ...any) (struct{}, error) {
	fmt.Println(sql)
	return struct{}{}, nil
}

func (transaction) Commit(ctx context.Context) error {
	fmt.Println("commit")
	return nil
}

func ExampleCommitTx() {
	mux := worker.NewMux()
	worker.AddProg(mux, worker.Prog[Transfer]{Labels: map[string]worker.Label[Transfer]{
		"start": func(ctx context.Context, s *worker.Strand[Transfer]) (worker.Outcome, error) {
			tx := transaction{} // tx, err := pool.Begin(ctx) ... defer tx.Rollback(ctx)
			_, err := tx.Exec(ctx, "update account set balance = balance - $2 where name = $1", s.Args.From, s.Args.Amount)
			if err != nil {
				return worker.Outcome{}, err
			}
			return worker.CommitTx(ctx, tx, worker.Hop("deposit"))
		},
		"deposit": func(ctx context.Context, s *worker.Strand[Transfer]) (worker.Outcome, error) {
			return worker.Exit(nil), nil
		},
	}})
	serve(mux, strand("transfer", `{"from":"ann","to":"bob","amount":40}`))
	// Output:
	// update account set balance = balance - $2 where name = $1
	// select "respirate".step($1::text::uuid, $2::text::uuid, $3::text::bigint, $4::text::jsonb)
	// commit
	// the broker gets: own
}
