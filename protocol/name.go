package protocol

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// CheckName tells what is wrong with the name of a kind, label, queue, tenant or tag: it has 1 to MaxName bytes of UTF-8
// without control characters, those of Latin-1 (U+0080 to U+009F) included, as a terminal shows it in one line. The error
// goes on from the name of what was checked: "is empty". respirate.check_name is the same rule in SQL.
func CheckName(name string) error {
	switch {
	case name == "":
		return errors.New("is empty")
	case len(name) > MaxName:
		return fmt.Errorf("is %d bytes long, at most %d are allowed: it begins with %.40q", len(name), MaxName, name)
	case !utf8.ValidString(name):
		return fmt.Errorf("is not valid UTF-8: %.40q", name)
	case strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Errorf("has a control character: %.40q", name)
	}
	return nil
}
