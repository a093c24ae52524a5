package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
)

// jsonFormat reads JSON more strictly than encoding/json and never repeats any of it in an error: one value, in
// UTF-8, no key twice in one object (readers differ in which of the two they take). Numbers stay text until
// something asks for a float.
func jsonFormat() huma.Format {
	return huma.Format{Marshal: huma.DefaultJSONFormat.Marshal, Unmarshal: unmarshal}
}

func unmarshal(data []byte, v any) error {
	if _, tree := v.(*any); tree {
		// huma reads every body twice: first into a tree, which is validated, then into its type.
		if !utf8.Valid(data) {
			return errors.New("the body is not UTF-8")
		}
		if err := checkKeys(data); err != nil {
			return err
		}
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(v); err != nil {
		return sayWhere(data, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("the body must be a single JSON value: something follows it")
	}
	return nil
}

// sayWhere words an error of encoding/json, whose own text quotes the input.
func sayWhere(data []byte, err error) error {
	var syntax *json.SyntaxError
	var mistyped *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		line, column := position(data, syntax.Offset)
		return fmt.Errorf("not valid JSON at byte %d (line %d, column %d)", syntax.Offset, line, column)
	case errors.As(err, &mistyped):
		return fmt.Errorf("has a value of the wrong type or out of range at byte %d", mistyped.Offset)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("not valid JSON: it ends too early, at byte %d", len(data))
	}
	return errors.New("has a value of the wrong type")
}

// position is where a byte stands; offsets count from 1, as encoding/json's do.
func position(data []byte, offset int64) (line, column int) {
	before := data[:max(0, min(int(offset)-1, len(data)))]
	return 1 + bytes.Count(before, []byte("\n")), len(before) - bytes.LastIndexByte(before, '\n')
}

// checkKeys refuses an object that has a key twice. Values that are not JSON at all are left to the decoder.
func checkKeys(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var open []map[string]bool // one per open object or array; nil of arrays
	expectKey := false
	for {
		token, err := d.Token()
		if err != nil {
			return nil
		}
		switch t := token.(type) {
		case json.Delim:
			switch t {
			case '{':
				open, expectKey = append(open, map[string]bool{}), true
				continue
			case '[':
				open, expectKey = append(open, nil), false
				continue
			}
			open = open[:len(open)-1]
		case string:
			if keys := top(open); expectKey && keys != nil {
				if keys[t] {
					return fmt.Errorf("has a key twice in one object, before byte %d", d.InputOffset())
				}
				keys[t], expectKey = true, false
				continue
			}
		}
		expectKey = top(open) != nil // a value ended; in an object a key follows
	}
}

func top(open []map[string]bool) map[string]bool {
	if len(open) == 0 {
		return nil
	}
	return open[len(open)-1]
}
