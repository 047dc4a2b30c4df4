package protocol_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/respirated/respirated/protocol"
)

// One end appends messages to a stream, the other cuts it into frames and decodes them.
func Example() {
	var stream []byte
	for _, m := range []protocol.Message{&protocol.Want{N: 4}, &protocol.Bye{Why: "done"}} {
		var err error
		if stream, err = protocol.Append(stream, m); err != nil {
			panic(err)
		}
	}

	frames := protocol.NewReader(bytes.NewReader(stream), protocol.DefaultMaxFrame)
	for {
		frame, err := frames.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			panic(err)
		}
		message, err := protocol.DecodeToBroker(frame)
		if err != nil {
			panic(err)
		}
		switch m := message.(type) {
		case *protocol.Want:
			fmt.Println("the worker wants", m.N)
		case *protocol.Bye:
			fmt.Println("it leaves:", m.Why)
		}
	}
	// Output:
	// the worker wants 4
	// it leaves: done
}

// A fault says whether the connection can go on.
func ExampleDecodeToBroker_fault() {
	_, err := protocol.DecodeToBroker([]byte("\x82\xa2op\xa4want\xa1n\xff"))
	var fault *protocol.Err
	if errors.As(err, &fault) {
		fmt.Println(fault.Code, fault.Fatal, fault.Message)
	}
	// Output: bad_field false want: n: -1, want 0 to 9007199254740991
}
