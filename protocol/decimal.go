package protocol

import (
	"strconv"
	"strings"
)

// decimal is the size of a JSON number as Postgres' numeric sees it. Numeric prints every digit: 1e1000 takes 1001 bytes.
type decimal struct {
	negative bool
	digits   int // before the point; at least 1
	scale    int // digits after the point
}

// farExponent stands for an exponent so large, either way, that numeric cannot hold the number.
const farExponent = 1 << 29

func parseDecimal(text string) decimal {
	number, negative := strings.CutPrefix(text, "-")
	mantissa, exponent := number, 0
	if e := strings.IndexAny(number, "eE"); e >= 0 {
		mantissa, exponent = number[:e], parseExponent(number[e+1:])
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits := whole + fraction
	significant := strings.TrimLeft(digits, "0")
	d := decimal{digits: 1, scale: max(0, len(fraction)-exponent)}
	if significant == "" {
		if exponent >= farExponent {
			d.digits = farExponent
		}
		return d
	}
	d.negative = negative
	d.digits = max(1, len(whole)-(len(digits)-len(significant))+exponent)
	return d
}

func parseExponent(text string) int {
	n, err := strconv.Atoi(text)
	switch {
	case err == nil && n > -farExponent && n < farExponent:
		return n
	case strings.HasPrefix(text, "-"):
		return -farExponent
	default:
		return farExponent
	}
}

func (d decimal) printed() int {
	n := d.digits
	if d.scale > 0 {
		n += len(".") + d.scale
	}
	if d.negative {
		n += len("-")
	}
	return n
}
