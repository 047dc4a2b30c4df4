package protocol

import (
	"errors"
	"fmt"
)

// DecodeToBroker decodes a frame's body that a worker has sent. An error is an *[Err] ready to be sent back: its Fatal says whether
// the connection can go on, its Re is the frame's id if there is one. The message shares no memory with the frame.
//
// A result that is wrong in itself does not fail its frame: it is in [Results].Invalid.
func DecodeToBroker(frame []byte) (ToBroker, error) {
	env, err := scan(frame)
	if err != nil {
		return nil, err
	}
	var m ToBroker
	switch string(env.op) {
	case "hello":
		m, err = decode(frame, env, helloFields)
	case "want":
		m, err = decode(frame, env, wantFields)
	case "touch":
		m, err = decode(frame, env, touchFields)
	case "save":
		m, err = decode(frame, env, saveFields)
	case "result":
		m, err = decode(frame, env, resultsFields)
	case "call":
		m, err = decode(frame, env, callFields)
	case "ping":
		m, err = decode(frame, env, pingFields)
	case "pong":
		m, err = decode(frame, env, pongFields)
	case "bye":
		m, err = decode(frame, env, byeFields)
	case "err":
		m, err = decode(frame, env, errFields)
	default:
		err = env.unknown()
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

// DecodeToWorker decodes a frame's body that a broker has sent, as [DecodeToBroker] does for the other direction.
func DecodeToWorker(frame []byte) (ToWorker, error) {
	env, err := scan(frame)
	if err != nil {
		return nil, err
	}
	var m ToWorker
	switch string(env.op) {
	case "welcome":
		m, err = decode(frame, env, welcomeFields)
	case "strands":
		m, err = decode(frame, env, strandsFields)
	case "lease":
		m, err = decode(frame, env, leaseFields)
	case "cancel":
		m, err = decode(frame, env, cancelFields)
	case "ack":
		m, err = decode(frame, env, ackFields)
	case "reply":
		m, err = decode(frame, env, replyFields)
	case "ping":
		m, err = decode(frame, env, pingFields)
	case "pong":
		m, err = decode(frame, env, pongFields)
	case "drain":
		m, err = decode(frame, env, drainFields)
	case "bye":
		m, err = decode(frame, env, byeFields)
	case "err":
		m, err = decode(frame, env, errFields)
	default:
		err = env.unknown()
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

// decode reads a scanned frame into a new T.
func decode[T any](frame []byte, env envelope, fields []field[T]) (m *T, err error) {
	defer func() {
		// The scanner leaves the library nothing to panic about. Should it find something, one connection is lost and not the host.
		if p := recover(); p != nil {
			m, err = nil, Errorf(CodeBadFrame, "%s: decoder panic: %v", env.op, p)
		}
	}()
	c := newCursor(frame)
	defer c.close()
	m = new(T)
	if err := readMap(c, fields, m); err != nil {
		return nil, env.refuse(err)
	}
	return m, nil
}

// refuse turns what is wrong with a message into the answer. Only a request that can fail alone leaves the session intact. After any
// other message the two ends would think differently of what is held, granted or agreed.
func (e envelope) refuse(err error) error {
	answer := &Err{Re: e.id, Code: CodeBadFrame, Message: fmt.Sprintf("%s: %v", e.op, err), Fatal: true}
	var f *fault
	if !errors.As(err, &f) {
		return answer
	}
	switch string(e.op) {
	case "want", "touch", "save", "call":
		answer.Code, answer.Fatal = f.code, false
	}
	return answer
}

// unknown is the answer to an op that this end does not take.
func (e envelope) unknown() error {
	if e.must {
		message := fmt.Sprintf("op %.64q is unknown to version %d and must not be ignored", e.op, Version)
		return &Err{Re: e.id, Code: CodeVersion, Message: message, Fatal: true}
	}
	return &Err{Re: e.id, Code: CodeUnknownOp, Message: fmt.Sprintf("op %.64q is unknown here", e.op)}
}
