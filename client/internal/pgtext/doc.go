// Package pgtext writes values as Postgres reads them from text, and knows which JSON it takes. Text is the one form
// that every driver sends unchanged, and every pooler lets through.
package pgtext
