package brokertest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/respirated/respirated/broker"
)

// The checks answer why something cannot be stored; "" means that it can. They refuse what Postgres refuses: it holds
// no NUL and no half of a surrogate pair in text, and nothing but JSON in JSON.

// What an insert may carry.
const (
	maxName     = 255     // bytes of a kind, label, queue, tenant or tag
	maxArgs     = 1 << 20 // bytes
	maxMetadata = 64 << 10
	maxTags     = 100
)

func checkName(name string) (why string) {
	switch {
	case name == "":
		return "is empty"
	case len(name) > maxName:
		return fmt.Sprintf("is %d bytes long, at most %d are allowed", len(name), maxName)
	case !utf8.ValidString(name):
		return fmt.Sprintf("%.40q is not valid UTF-8", name)
	case strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Sprintf("%.40q has a control character", name)
	}
	return ""
}

func checkSize(doc []byte, most int) (why string) {
	if len(doc) > most {
		return fmt.Sprintf("is %d bytes long, at most %d are allowed", len(doc), most)
	}
	return ""
}

func checkJSON(doc []byte) (why string) {
	if !utf8.Valid(doc) || !json.Valid(doc) {
		return fmt.Sprintf("%.40q is not JSON", doc)
	}
	for rest := doc; ; {
		i := bytes.IndexByte(rest, '\\')
		if i < 0 {
			return ""
		}
		n, ok := escape(rest[i:])
		if !ok {
			return fmt.Sprintf("%.12q stands for no character that can be stored", rest[i:])
		}
		rest = rest[i+n:]
	}
}

// escape measures the escape that valid JSON begins with, and says whether it stands for a character other than NUL.
func escape(doc []byte) (n int, ok bool) {
	if doc[1] != 'u' {
		return 2, true
	}
	const low, high, end = 0xDC00, 0xD800, 0xE000
	first := unit(doc)
	switch {
	case first == 0, first >= low && first < end:
		return 6, false
	case first < high, first >= end:
		return 6, true
	}
	if len(doc) < 12 || doc[6] != '\\' || doc[7] != 'u' {
		return 6, false
	}
	second := unit(doc[6:])
	return 12, second >= low && second < end
}

// unit is the number in the \uXXXX that doc begins with.
func unit(doc []byte) uint64 {
	n, err := strconv.ParseUint(string(doc[2:6]), 16, 16)
	if err != nil {
		panic(fmt.Sprintf("bug: %q in valid JSON: %v", doc[:6], err))
	}
	return n
}

// checkReport checks what a report wants stored, its inserts aside.
func checkReport(r broker.Report) (why string) {
	if hasEffects(r.Act) {
		if why := checkEffects(r); why != "" {
			return why
		}
	}
	switch r.Act {
	case broker.Exit:
		return checkOptional("value", r.Value)
	case broker.Hop:
		if why := checkName(r.Label); why != "" {
			return "label: " + why
		}
		if r.Kind != "" {
			if why := checkName(r.Kind); why != "" {
				return "kind: " + why
			}
		}
	}
	if keepsStack(r.Act) {
		return checkStack(r.Stack)
	}
	return ""
}

func checkOptional(field string, doc []byte) (why string) {
	if doc == nil {
		return ""
	}
	if why := checkJSON(doc); why != "" {
		return field + ": " + why
	}
	return ""
}

func checkStack(stack []byte) (why string) {
	if why := checkOptional("stack", stack); why != "" {
		return why
	}
	if stack != nil && bytes.TrimLeft(stack, " \t\r\n")[0] != '[' {
		return fmt.Sprintf("stack: %.40q is not an array", stack)
	}
	return ""
}
