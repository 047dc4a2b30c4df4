package postgres

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"
)

//go:embed sql/*.sql
var sqlFiles embed.FS

//go:embed migrations/*.sql
var migrationFiles embed.FS

// DefaultSchema is where everything lives unless [Config] says otherwise.
const DefaultSchema = "respirate"

var (
	// schemaName leaves room in the 63 bytes of an identifier for the channels' names, which are the schema's and "_partition".
	schemaName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,52}$`)

	// The files name the schema and the channels as they are by default, so that they can be pasted into psql.
	schemaInFile  = regexp.MustCompile(`\brespirate\.`)
	channelInFile = regexp.MustCompile(`\brespirate_(wake|partition)\b`)
)

func checkSchema(schema string) error {
	if !schemaName.MatchString(schema) || strings.HasPrefix(schema, "pg_") {
		return fmt.Errorf("schema %.70q: a name is 1 to 53 small letters, digits and _, and begins with no digit and not with pg_", schema)
	}
	return nil
}

// inSchema writes a file's text for the given schema, which has been checked.
func inSchema(text, schema string) string {
	text = schemaInFile.ReplaceAllLiteralString(text, `"`+schema+`".`)
	return channelInFile.ReplaceAllString(text, schema+"_$1")
}

// wakeChannel is what brokers LISTEN to for what is due.
func wakeChannel(schema string) string { return schema + "_wake" }

// partitionChannel is where they tell each other that they are there.
func partitionChannel(schema string) string { return schema + "_partition" }

// statements are the texts of sql/, by name without ".sql", in the configured schema.
type statements map[string]string

func loadStatements(schema string) statements {
	names, err := fs.Glob(sqlFiles, "sql/*.sql")
	if err != nil {
		panic("bug: " + err.Error())
	}
	all := make(statements, len(names))
	for _, name := range names {
		text := mustRead(sqlFiles, name)
		all[strings.TrimSuffix(path.Base(name), ".sql")] = inSchema(text, schema)
	}
	return all
}

// get is the text of a statement.
func (s statements) get(name string) string {
	text, ok := s[name]
	if !ok {
		panic("bug: there is no sql/" + name + ".sql")
	}
	return text
}

func mustRead(files embed.FS, name string) string {
	text, err := files.ReadFile(name)
	if err != nil {
		panic("bug: " + err.Error())
	}
	return string(text)
}
