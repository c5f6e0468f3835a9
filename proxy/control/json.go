package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
)

// jsonFormat is how bodies are read and written. Reading is strict (RFC 8259 4 and
// 8.1, I-JSON in RFC 7493 2): one value, each name once in its object, valid UTF-8.
// Two readers never see two different things in a body.
var jsonFormat = huma.Format{
	Marshal: func(w io.Writer, v any) error {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if err := e.Encode(v); err != nil {
			return err
		}
		_, _ = w.Write(b.Bytes()) // a client that has gone is told nothing; the library would panic
		return nil
	},
	Unmarshal: unmarshal,
}

// maxDepth is how deep values may be nested. Ours need 3.
const maxDepth = 16

// unmarshal is called twice for a body: into an any, which the schema is held
// against, and into the type.
func unmarshal(data []byte, v any) error {
	if _, first := v.(*any); first {
		if err := strict(data); err != nil {
			return err
		}
	}
	err := json.Unmarshal(data, v)
	var typed *json.UnmarshalTypeError
	if errors.As(err, &typed) {
		// The schema has let it pass, as it does 8e1 for a whole number.
		return fmt.Errorf("%s: %s has no room for it in this form", typed.Field, typed.Type)
	}
	return err
}

var errUTF8 = errors.New("not valid UTF-8")

// strict says what is wrong with a JSON text, and where.
func strict(data []byte) error {
	if !utf8.Valid(data) {
		return errUTF8
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := value(d, 0); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return errors.New("it ends in the middle")
		}
		return fmt.Errorf("byte %d: %w", d.InputOffset(), err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("byte %d: more than one value", d.InputOffset())
	}
	return nil
}

// value reads one value.
func value(d *json.Decoder, depth int) error {
	t, err := d.Token()
	if err != nil {
		return err
	}
	open, ok := t.(json.Delim)
	if !ok {
		return nil
	}
	if depth == maxDepth {
		return errors.New("values are nested too deep")
	}
	var seen map[string]bool
	if open == '{' {
		seen = map[string]bool{}
	}
	for d.More() {
		if open == '{' {
			t, err := d.Token()
			if err != nil {
				return err
			}
			name, ok := t.(string)
			if !ok {
				return errors.New("a name in quotes is missing")
			}
			if seen[name] {
				return fmt.Errorf("the field %s comes twice", strconv.Quote(name))
			}
			seen[name] = true
		}
		if err := value(d, depth+1); err != nil {
			return err
		}
	}
	_, err = d.Token() // the end
	return err
}
