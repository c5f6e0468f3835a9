package control

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

func TestStrict(t *testing.T) {
	for _, c := range []struct{ name, doc, want string }{
		{"object", `{"a": [1, 2.5e3, "x", true, null, {"b": {}}], "c": "\u00e9"}`, ""},
		{"empty", ``, "it ends in the middle"},
		{"white space", " \n", "it ends in the middle"},
		{"cut", `{"a": [1`, "it ends in the middle"},
		{"cut in a string", `{"a": "x`, "it ends in the middle"},
		{"twice", `{"a": 1, "a": 1}`, `byte 12: the field "a" comes twice`},
		{"twice, escaped", `{"a": 1, "\u0061": 2}`, `the field "a" comes twice`},
		{"twice further in", `{"a": [{"b": 1, "b": 2}]}`, `the field "b" comes twice`},
		{"the same name in two objects", `{"a": {"b": 1}, "c": {"b": 1}}`, ""},
		{"more behind", `{"a": 1} {}`, "more than one value"},
		{"garbage behind", `{"a": 1}x`, "more than one value"},
		{"garbage", `{a: 1}`, "byte 1: invalid character 'a'"},
		{"comma at the end", `{"a": 1,}`, "invalid character '}'"},
		{"comment", "{} // more", "more than one value"},
		{"byte order mark", "\xef\xbb\xbf{}", "byte 0: invalid character"},
		{"no UTF-8", "{\"a\": \"\xff\"}", "not valid UTF-8"},
		{"deep", strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth), ""},
		{"too deep", strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1), "nested too deep"},
		{"far too deep", strings.Repeat("[", 1<<16), "nested too deep"},
		{"NaN", `{"a": NaN}`, "invalid character 'N'"},
		{"leading zero", `{"a": 01}`, "invalid character '1'"},
		{"colon missing", `{"a" 1}`, "invalid character '1'"},
		{"no name", `{1: 2}`, "invalid character '1'"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := strict([]byte(c.doc))
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

// FuzzStrict: what is let through has one meaning, for whatever reader.
func FuzzStrict(f *testing.F) {
	f.Add([]byte(`{"backends": ["2001:db8:64::2"], "http": 80, "https": 0, "off": false}`))
	f.Add([]byte(`{"a": {"b": 1}, "c": [{"b": 1}]}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		if strict(doc) != nil {
			return
		}
		var v any
		if err := json.Unmarshal(doc, &v); err != nil {
			t.Fatalf("let through, and no JSON: %v", err)
		}
		// Written out and read again it is the same: nothing was dropped on the way.
		again, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var w any
		if err := json.Unmarshal(again, &w); err != nil || !reflect.DeepEqual(v, w) || strict(again) != nil {
			t.Fatalf("%q is %q: %v", doc, again, err)
		}
	})
}
