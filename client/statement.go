package client

import (
	"embed"
	"fmt"
	"regexp"
	"strings"
)

//go:embed sql/*.sql
var files embed.FS

// statements are the files of sql/, in the configured schema.
type statements struct {
	insertMany, lanes, copyStrands, hint        string
	live, finished, attempts, isLive            string
	bounds, pickLanes, visitLive, visitFinished string
	visitChildren, program, pages               string
	cancel, retry, wake, signalMany             string
	edit, retryAt, resolvePage                  string
	brokers                                     string
}

func loadStatements(schema string) statements {
	read := func(name string) string {
		text, err := files.ReadFile("sql/" + name + ".sql")
		if err != nil {
			panic("bug: " + err.Error())
		}
		return schemaInFile.ReplaceAllLiteralString(string(text), `"`+schema+`".`)
	}
	return statements{
		insertMany:    read("insert_many"),
		lanes:         read("lanes"),
		copyStrands:   read("copy_strands"),
		hint:          read("hint"),
		live:          read("live"),
		finished:      read("finished"),
		attempts:      read("attempts"),
		isLive:        read("is_live"),
		bounds:        read("bounds"),
		pickLanes:     read("pick_lanes"),
		visitLive:     read("visit_live"),
		visitFinished: read("visit_finished"),
		cancel:        read("cancel"),
		retry:         read("retry"),
		wake:          read("wake"),
		signalMany:    read("signal_many"),
		visitChildren: read("visit_children"),
		program:       read("program"),
		pages:         read("pages"),
		edit:          read("edit"),
		retryAt:       read("retry_at"),
		resolvePage:   read("resolve_page"),
		brokers:       read("brokers"),
	}
}

var (
	// schemaName is what migrations accept: a name that needs no quotes and leaves room for the ends of channels.
	schemaName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,52}$`)
	// schemaInFile is how the files name the schema, so that they can be pasted into psql.
	schemaInFile = regexp.MustCompile(`\brespirate\.`)
)

func checkSchema(schema string) error {
	if !schemaName.MatchString(schema) || strings.HasPrefix(schema, "pg_") {
		return fmt.Errorf("schema %.70q: a name is 1 to 53 small letters, digits and _, and begins with no digit and not with pg_", schema)
	}
	return nil
}
