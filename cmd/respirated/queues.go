package main

import (
	"fmt"

	"github.com/goccy/go-yaml/ast"

	"github.com/respirated/respirated/broker"
)

// queues are those that a pool may take strands of; none = all.
type queues []broker.Queue

// parse takes names such as mail, or acme/mail.
func (q *queues) parse(names []string) error {
	*q = nil
	for _, name := range names {
		one, err := broker.ParseQueue(name)
		if err != nil {
			return fmt.Errorf("queues lists %q: %w", name, err)
		}
		*q = append(*q, one)
	}
	return nil
}

// UnmarshalYAML takes a list of names, and says where anything else stands.
func (q *queues) UnmarshalYAML(node ast.Node) error {
	list, ok := node.(*ast.SequenceNode)
	if !ok {
		return misplaced(node, "a list of queues")
	}
	for _, n := range list.Values {
		one, err := broker.ParseQueue(scalar(n))
		if err != nil {
			return misplaced(n, "the name of a queue, or tenant/queue")
		}
		*q = append(*q, one)
	}
	return nil
}
