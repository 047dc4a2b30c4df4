package protocol

import (
	"encoding/hex"
	"fmt"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/vmihailenco/msgpack/v5"
)

// PROTOCOL.md is what strangers build from. These tests compare it with the code, so that neither can move alone.

// row is a line of a table; the cells are without their back-quotes.
type row []string

// spec is PROTOCOL.md, cut up.
type spec struct {
	tables map[string][]row // by the heading above and the first column's title, such as "hello/field"
	text   string
}

func readSpec(t *testing.T) spec {
	t.Helper()
	text, err := os.ReadFile("PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	s := spec{tables: map[string][]row{}, text: string(text)}
	heading, table := "", ""
	for line := range strings.Lines(s.text) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "#"):
			heading = strings.ReplaceAll(strings.TrimLeft(line, "# "), "`", "")
		case !strings.HasPrefix(line, "|"):
			table = ""
		case table == "":
			table = heading + "/" + cells(line)[0]
		case !strings.HasPrefix(line, "| ---"):
			s.tables[table] = append(s.tables[table], cells(line))
		}
	}
	return s
}

func cells(line string) row {
	parts := strings.Split(strings.Trim(line, "|"), "|")
	for i := range parts {
		parts[i] = strings.ReplaceAll(strings.TrimSpace(parts[i]), "`", "")
	}
	return parts
}

// fieldTables are the tables of fields, by path: hello, hello.kinds, result.r.err. A heading may name several paths.
func (s spec) fieldTables() map[string][]row {
	found := map[string][]row{}
	for at, rows := range s.tables {
		heading, ok := strings.CutSuffix(at, "/field")
		if !ok {
			continue
		}
		for _, path := range strings.Split(strings.TrimPrefix(heading, "each of "), " and of ") {
			found[path] = rows
		}
	}
	return found
}

// wireFields is the fields of the structs of message.go, by path, in order.
func wireFields(path string, typ reflect.Type, found map[string][][2]string) {
	for i := range typ.NumField() {
		f := typ.Field(i)
		key, _, _ := strings.Cut(f.Tag.Get("msgpack"), ",")
		if key == "-" {
			continue
		}
		name, inner := wireType(f.Type)
		found[path] = append(found[path], [2]string{key, name})
		if inner != nil && inner != reflect.TypeFor[Err]() {
			wireFields(path+"."+key, inner, found)
		}
	}
}

// wireType is how PROTOCOL.md calls a Go type, and the struct within, if there is one.
func wireType(typ reflect.Type) (string, reflect.Type) {
	switch typ.Kind() {
	case reflect.Pointer:
		return wireType(typ.Elem())
	case reflect.Struct:
		return "map", typ
	case reflect.Slice:
		if typ.Elem().Kind() == reflect.Uint8 {
			return "bin", nil
		}
		name, inner := wireType(typ.Elem())
		return "[" + name + "]", inner
	}
	return map[reflect.Kind]string{reflect.Uint64: "uint", reflect.Int64: "int", reflect.Bool: "bool", reflect.String: "str"}[typ.Kind()], nil
}

func TestSpecificationHasTheFieldsOfEveryMessage(t *testing.T) {
	want := map[string][][2]string{}
	for _, m := range samples() {
		wireFields(m.Op(), reflect.TypeOf(m).Elem(), want)
	}
	got := map[string][][2]string{}
	for path, rows := range readSpec(t).fieldTables() {
		for _, r := range rows {
			got[path] = append(got[path], [2]string{r[0], r[1]})
		}
	}
	for _, path := range slices.Sorted(maps.Keys(want)) {
		if !reflect.DeepEqual(got[path], want[path]) {
			t.Errorf("%s\nspecified %v\nin Go     %v", path, got[path], want[path])
		}
		delete(got, path)
	}
	for path := range got {
		t.Errorf("%s is specified and no message has it", path)
	}
}

// A field is required if its message is refused without it, wholly or, of a result, that entry.
func TestSpecificationSaysWhichFieldsAreRequired(t *testing.T) {
	for path, rows := range readSpec(t).fieldTables() {
		for _, r := range rows {
			got := requiredness(t, path, r[0])
			want := r[2]
			if strings.HasPrefix(want, "with ") {
				want = "sometimes"
			}
			if got != want {
				t.Errorf("%s.%s is specified as %q, without it the answer is %q", path, r[0], r[2], got)
			}
		}
	}
}

// requiredness takes a key out of a sample, at every place that path leads to, and tells whether it was missed.
func requiredness(t *testing.T, path, key string) string {
	t.Helper()
	steps := strings.Split(path, ".")
	m := sampleFields(t, steps[0])
	places, had := without(m, steps[1:], key)
	refused := []string{"call.enq.child", "call.enq.watch"}
	if had == 0 && !slices.Contains(refused, path+"."+key) {
		t.Errorf("no sample has %s.%s", path, key)
	}
	frame := encodeFields(t, m)
	got, err := DecodeToBroker(frame)
	if isUnknown(err) {
		_, err = DecodeToWorker(frame)
	}
	invalid := 0
	if results, ok := got.(*Results); ok {
		invalid = len(results.Invalid)
	}
	switch {
	case err != nil || invalid == places:
		return "yes"
	case invalid > 0:
		return "sometimes"
	}
	return "no"
}

// without deletes key in the maps that steps lead to, and returns how many there are and how many had it.
func without(v any, steps []string, key string) (places, had int) {
	if list, ok := v.([]any); ok {
		for _, e := range list {
			p, h := without(e, steps, key)
			places, had = places+p, had+h
		}
		return places, had
	}
	m, ok := v.(map[string]any)
	if !ok {
		return 0, 0
	}
	if len(steps) > 0 {
		return without(m[steps[0]], steps[1:], key)
	}
	if _, ok := m[key]; ok {
		had = 1
	}
	delete(m, key)
	return 1, had
}

func source(t *testing.T, name string) *ast.File {
	t.Helper()
	f, err := parser.ParseFile(gotoken.NewFileSet(), name, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// constants lists the string constants whose names begin with prefix.
func constants(t *testing.T, file, prefix string) []string {
	t.Helper()
	var values []string
	ast.Inspect(source(t, file), func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, prefix) {
			return true
		}
		if lit, ok := spec.Values[0].(*ast.BasicLit); ok && lit.Kind == gotoken.STRING {
			value, err := strconv.Unquote(lit.Value)
			if err != nil {
				t.Fatal(err)
			}
			values = append(values, value)
		}
		return true
	})
	return values
}

// The samples are what the other tests go by, so none may be missing.
func TestSamplesHaveEveryMessageOfBothSets(t *testing.T) {
	want := map[string][]string{}
	ast.Inspect(source(t, "message.go"), func(n ast.Node) bool {
		if f, ok := n.(*ast.FuncDecl); ok && (f.Name.Name == "toBroker" || f.Name.Name == "toWorker") {
			typ := f.Recv.List[0].Type.(*ast.StarExpr).X.(*ast.Ident).Name
			want[f.Name.Name] = append(want[f.Name.Name], typ)
		}
		return true
	})
	got := map[string][]string{}
	for _, m := range samples() {
		typ := reflect.TypeOf(m).Elem().Name()
		if _, ok := m.(ToBroker); ok {
			got["toBroker"] = append(got["toBroker"], typ)
		}
		if _, ok := m.(ToWorker); ok {
			got["toWorker"] = append(got["toWorker"], typ)
		}
	}
	for _, set := range []string{"toBroker", "toWorker"} {
		slices.Sort(want[set])
		slices.Sort(got[set])
		if !slices.Equal(want[set], got[set]) {
			t.Errorf("%s: samples of %v, messages %v", set, got[set], want[set])
		}
	}
}

func TestSpecificationListsEveryWord(t *testing.T) {
	s := readSpec(t)
	for _, c := range []struct {
		table string
		want  []string
	}{
		{"each of result.r/act", constants(t, "message.go", "Act")},
		{"each of cancel.c/why", constants(t, "message.go", "Stop")},
		{"each of ack.r/st", constants(t, "message.go", "Ack")},
		{"9. Faults/code", constants(t, "code.go", "Code")},
	} {
		var got []string
		for _, r := range s.tables[c.table] {
			got = append(got, r[0])
		}
		slices.Sort(got)
		slices.Sort(c.want)
		if !slices.Equal(got, c.want) || len(got) == 0 {
			t.Errorf("%s: specified %v, in Go %v", c.table, got, c.want)
		}
	}
}

func TestSpecificationSaysWhichFaultsAreFatal(t *testing.T) {
	for _, r := range readSpec(t).tables["9. Faults/code"] {
		if got := Code(r[0]).Fatal(); got != (r[1] == "yes") {
			t.Errorf("%s: specified %q, in Go %t", r[0], r[1], got)
		}
	}
}

func TestSpecificationSaysWhatEachActTakes(t *testing.T) {
	for _, r := range readSpec(t).tables["each of result.r/act"] {
		allowed, _ := actFields(r[0])
		got, want := strings.Fields(allowed), strings.Split(r[2], ", ")
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: specified %v, in Go %v", r[0], want, got)
		}
	}
}

func TestSpecificationSaysWhoMaySendWhat(t *testing.T) {
	rows := map[string]row{}
	for _, r := range readSpec(t).tables["3. A session/op"] {
		rows[r[0]] = r
	}
	for _, m := range samples() {
		r := rows[m.Op()]
		delete(rows, m.Op())
		senders := strings.Join(r, " ")
		_, toBroker := m.(ToBroker)
		_, toWorker := m.(ToWorker)
		if strings.Contains(senders, "W") != toBroker || strings.Contains(senders, "B") != toWorker {
			t.Errorf("%s: specified %v, a worker may send it: %t, a broker: %t", m.Op(), r, toBroker, toWorker)
		}
	}
	for op := range rows {
		t.Errorf("%s is in the table of states and no message", op)
	}
}

func TestSpecificationStatesTheLimitsAndTimers(t *testing.T) {
	s := readSpec(t)
	want := []string{
		fmt.Sprintf("bytes of a frame before welcome: %d", HandshakeMaxFrame),
		fmt.Sprintf("bytes of a frame after it: welcome.max_frame, at most %d", HardMaxFrame),
		fmt.Sprintf("containers within containers, the frame's own map included: %d", maxDepth),
		fmt.Sprintf("pairs of a map: %d", maxPairs),
		fmt.Sprintf("elements of an array: %d", MaxItems),
		fmt.Sprintf("bytes of a str: %d", maxText),
		fmt.Sprintf("bytes of a key: %d", maxKey),
		"bytes of a bin: what is left of the frame",
		fmt.Sprintf("from connect to the end of hello: %d s", int(HandshakeTimeout.Seconds())),
		fmt.Sprintf("hb_ms: %d s", int(DefaultHeart.Seconds())),
		fmt.Sprintf("dead_ms; also from a frame's first byte to its last: %d s", int(DefaultDead.Seconds())),
		fmt.Sprintf("one write to a peer that does not read: %d s", int(WriteTimeout.Seconds())),
		fmt.Sprintf("lease_ms: %d s", int(DefaultLease.Seconds())),
	}
	var got []string
	for _, r := range append(s.tables["10. Limits and timers/what"], s.tables["10. Limits and timers/timer"]...) {
		got = append(got, r[0]+": "+r[1])
	}
	if !slices.Equal(got, want) {
		t.Errorf("specified\n%s\nin Go\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// Each example is a block of JSON and the same frame as a block of hex, with comments behind #.
func TestExamplesOfTheSpecificationAreTrue(t *testing.T) {
	blocks := regexp.MustCompile("(?s)```json\n(.*?)\n```\n\n```hex\n(.*?)```").FindAllStringSubmatch(readSpec(t).text, -1)
	if len(blocks) != 5 {
		t.Fatalf("%d examples, want 5", len(blocks))
	}
	for _, b := range blocks {
		frame := unhex(t, b[2])
		body, err := NewReader(strings.NewReader(string(frame)), HandshakeMaxFrame).Next()
		if err != nil || len(body) != len(frame)-header {
			t.Errorf("the frame of %.40s: %d of %d bytes, %v", b[1], len(body), len(frame)-header, err)
			continue
		}
		if got := asJSON(t, body); got != b[1] {
			t.Errorf("the hex says %s\nthe JSON     %s", got, b[1])
		}
		decodeEither(t, body)
	}
}

func unhex(t *testing.T, block string) (b []byte) {
	t.Helper()
	for line := range strings.Lines(block) {
		digits, _, _ := strings.Cut(line, "#")
		part, err := hex.DecodeString(strings.Join(strings.Fields(digits), ""))
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		b = append(b, part...)
	}
	return b
}

// The tags are read by the library, by its decoder too: whoever uses it on these structs gets what the tables get.
func TestLibraryReadsWhatTheTagsSay(t *testing.T) {
	for _, m := range samples() {
		again := reflect.New(reflect.TypeOf(m).Elem())
		if err := msgpack.Unmarshal(mustAppend(t, m)[header:], again.Interface()); err != nil {
			t.Errorf("%s: %v", m.Op(), err)
		}
		if !reflect.DeepEqual(again.Interface(), m) {
			t.Errorf("%s: got %+v, want %+v", m.Op(), again.Elem(), m)
		}
	}
}
