// Package pgtext writes values as Postgres reads them from text, the one form that every driver sends unchanged, and every
// pooler lets through.
package pgtext
