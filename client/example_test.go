package client_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/respirated/respirated/client"
)

// The examples have no output to compare, since ids are random, so this runs them.
func TestExamplesRun(t *testing.T) {
	t.Setenv("DATABASE_URL", newFixture(t).url)
	ExampleNew()
	ExampleNewSQL()
	ExampleClient_InsertTx()
	ExampleClient_InsertManyFast()
	ExampleClient_StrandList()
	ExampleClient_StrandCancelMany()
	ExampleInsertError()
	ExampleArgsWithInsertOpts()
}

// SendReceipt is what a strand of the kind "send_receipt" is about. A worker that serves the kind has the same type.
type SendReceipt struct {
	Order int `json:"order"`
}

func (SendReceipt) Kind() string { return "send_receipt" }

// ResizeImage is of a kind that waits in a queue of its own.
type ResizeImage struct {
	Path string `json:"path"`
}

func (ResizeImage) Kind() string { return "resize_image" }
func (ResizeImage) InsertOpts() client.InsertOpts {
	return client.InsertOpts{Queue: "slow", MaxTries: 3}
}

func connect(ctx context.Context) (*pgxpool.Pool, *client.Client[pgx.Tx]) {
	pool, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		log.Panic(err)
	}
	c, err := client.New(pool, nil)
	if err != nil {
		log.Panic(err)
	}
	return pool, c
}

func ExampleNew() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		log.Panic(err)
	}
	defer pool.Close()
	c, err := client.New(pool, nil)
	if err != nil {
		log.Panic(err)
	}
	strand, err := c.Insert(ctx, SendReceipt{Order: 7}, nil)
	if err != nil {
		log.Panic(err)
	}
	fmt.Println("inserted", strand.ID)
}

func ExampleNewSQL() {
	ctx := context.Background()
	db, err := sql.Open("pgx", os.Getenv("DATABASE_URL"))
	if err != nil {
		log.Panic(err)
	}
	defer db.Close()
	c, err := client.NewSQL(db, nil)
	if err != nil {
		log.Panic(err)
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		log.Panic(err)
	}
	defer tx.Rollback()
	if _, err := c.InsertTx(ctx, tx, SendReceipt{Order: 7}, nil); err != nil {
		log.Panic(err)
	}
	if err := tx.Commit(); err != nil {
		log.Panic(err)
	}
}

// The receipt is sent if the order is there, and only then.
func ExampleClient_InsertTx() {
	ctx := context.Background()
	pool, c := connect(ctx)
	defer pool.Close()
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "create table if not exists orders (id int)"); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "insert into orders values (7)"); err != nil {
			return err
		}
		_, err := c.InsertTx(ctx, tx, SendReceipt{Order: 7}, &client.InsertOpts{Priority: 1})
		return err
	})
	if err != nil {
		log.Panic(err)
	}
}

func ExampleClient_InsertManyFast() {
	ctx := context.Background()
	pool, c := connect(ctx)
	defer pool.Close()
	params := make([]client.InsertManyParams, 5000)
	for i := range params {
		params[i].Args = SendReceipt{Order: i}
	}
	n, err := c.InsertManyFast(ctx, params)
	if err != nil {
		log.Panic(err)
	}
	fmt.Println("inserted", n)
}

// A page may be short, or even empty, though there is more: After tells.
func ExampleClient_StrandList() {
	ctx := context.Background()
	pool, c := connect(ctx)
	defer pool.Close()
	params := &client.StrandListParams{Kinds: []string{"send_receipt"}, States: []client.State{client.Dead}}
	for {
		page, err := c.StrandList(ctx, params)
		if err != nil {
			log.Panic(err)
		}
		for _, strand := range page.Strands {
			fmt.Println(strand.ID, strand.Try, strand.FinishedAt)
		}
		if page.After == "" {
			return
		}
		params.After = page.After
	}
}

func ExampleClient_StrandCancelMany() {
	ctx := context.Background()
	pool, c := connect(ctx)
	defer pool.Close()
	n, err := c.StrandCancelMany(ctx, &client.StrandManyParams{Kinds: []string{"send_receipt"}})
	if err != nil {
		log.Panic(err)
	}
	fmt.Println("cancelled", n)
}

func ExampleInsertError() {
	ctx := context.Background()
	pool, c := connect(ctx)
	defer pool.Close()
	_, err := c.Insert(ctx, SendReceipt{Order: 7}, &client.InsertOpts{Priority: 10})
	var refused *client.InsertError
	if errors.As(err, &refused) {
		fmt.Println(refused.Field, refused.Why) // opts.priority is 10, not 1 to 9
	}
}

func ExampleArgsWithInsertOpts() {
	ctx := context.Background()
	pool, c := connect(ctx)
	defer pool.Close()
	strand, err := c.Insert(ctx, ResizeImage{Path: "cat.png"}, &client.InsertOpts{MaxTries: 5})
	if err != nil {
		log.Panic(err)
	}
	fmt.Println(strand.Opts.Queue, strand.Opts.MaxTries) // slow 5
}

// The strand waits for the payment, for free, however long it takes.
func ExampleClient_SignalTx() {
	ctx := context.Background()
	pool, c := connect(ctx)
	defer pool.Close()
	strand, err := c.Insert(ctx, SendReceipt{Order: 7}, nil)
	if err != nil {
		log.Panic(err)
	}
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		// ... the payment is written ...
		return c.SignalTx(ctx, tx, strand.ID, "paid", map[string]int{"cents": 1200})
	})
	if err != nil {
		log.Panic(err)
	}
}

// What a program was given is wrong. It is put right, and the strand goes on where it was told to.
func ExampleClient_StrandRetryAt() {
	ctx := context.Background()
	pool, c := connect(ctx)
	defer pool.Close()
	strand, err := c.Insert(ctx, SendReceipt{Order: 7}, nil)
	if err != nil {
		log.Panic(err)
	}
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := c.StrandEditTx(ctx, tx, strand.ID, []byte(`{"order": 8}`), "ann"); err != nil {
			return err
		}
		_, err := c.StrandRetryAtTx(ctx, tx, strand.ID, "start", "ann")
		return err
	})
	if errors.Is(err, client.ErrLeased) {
		fmt.Println("a worker runs it just now")
	} else if err != nil {
		log.Panic(err)
	}
}
