package protocol

import (
	"strings"
	"testing"
)

func TestCheckNameSaysWhatIsWrong(t *testing.T) {
	for name, want := range map[string]string{
		"mail.send":                    "",
		"größe 1":                      "",
		"a\u00a0b":                     "",
		strings.Repeat("x", MaxName):   "",
		"":                             "is empty",
		strings.Repeat("ä", 128):       "is 256 bytes long, at most 255 are allowed: it begins with",
		"a\xff":                        `is not valid UTF-8: "a\xff"`,
		"a\x00":                        `has a control character: "a\x00"`,
		"a\x7f":                        `has a control character: "a\x7f"`,
		"a\u0080":                      `has a control character: "a\u0080"`,
		"a\u009f":                      `has a control character: "a\u009f"`,
		strings.Repeat("x", 50) + "\n": `has a control character: "` + strings.Repeat("x", 40) + `"`,
	} {
		err := CheckName(name)
		switch {
		case want == "" && err != nil:
			t.Errorf("%q: %v, want no error", name, err)
		case want != "" && (err == nil || !strings.HasPrefix(err.Error(), want)):
			t.Errorf("%q: got %v, want %s", name, err, want)
		}
	}
}

func TestANameOnTheWireIsHeldToTheSameRule(t *testing.T) {
	body, err := Append(nil, &Hello{ID: 1, Versions: []uint64{1, 1}, Lib: "x", Worker: worker1, Build: "b", Kinds: []Kind{{Name: "a\u0085b"}}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = DecodeToBroker(body[4:])
	if err == nil || !strings.Contains(err.Error(), `kinds[0].kind: has a control character: "a\u0085b"`) {
		t.Errorf("got %v, want the character refused", err)
	}
}
