package protocol

import "fmt"

// Code names a fault. PROTOCOL.md says what a worker does about each.
type Code string

// The codes. A fatal one ends the connection it is sent on, and no other.
const (
	CodeBadFrame   Code = "bad_frame"  // fatal: not one well-formed map within the limits
	CodeTooLarge   Code = "too_large"  // fatal for a frame, not for one field
	CodeVersion    Code = "version"    // fatal: no common major version
	CodeDenied     Code = "denied"     // fatal: uid, key or worker id refused; one message for all reasons
	CodeState      Code = "state"      // fatal: not allowed now, such as a second hello
	CodeUnknownOp  Code = "unknown_op" // not fatal: the op or method is not offered
	CodeBadField   Code = "bad_field"  // not fatal: that request failed
	CodeRange      Code = "range"      // fatal: a number that both sides must agree on is out of range
	CodeRate       Code = "rate"       // fatal: too many frames that carry no result
	CodeFull       Code = "full"       // fatal: too many connections
	CodeSuperseded Code = "superseded" // fatal: a newer connection of the same worker took over
	CodeSlow       Code = "slow"       // fatal: the peer does not read
	CodeDead       Code = "dead"       // fatal: the peer has been silent too long
	CodeDBAway     Code = "db_away"    // not fatal: try again after RetryMS
	CodeInternal   Code = "internal"   // not fatal: a fault of the broker; the message names the log entry
)

// Fatal reports whether a fault of this code ends the connection, as far as the code alone decides it.
func (c Code) Fatal() bool {
	switch c {
	case CodeUnknownOp, CodeBadField, CodeDBAway, CodeInternal:
		return false
	}
	return true
}

// Errorf makes an Err that is fatal if its code is.
func Errorf(code Code, format string, args ...any) *Err {
	return &Err{Code: code, Message: Clip(fmt.Sprintf(format, args...), MaxMessage), Fatal: code.Fatal()}
}

// Error makes an Err usable as a Go error.
func (e *Err) Error() string { return fmt.Sprintf("%s: %s", e.Code, e.Message) }
