package wire

import (
	"encoding/json"
	"errors"
	"strconv"
)

// Decimal is a number as its exact decimal text. In JSON it is a number, never a string; its text is taken and
// written as it stands and never passes through floating point. The empty text is "not given".
type Decimal string

// DecimalOf is the shortest decimal text that reads back as f.
func DecimalOf(f float64) Decimal { return Decimal(strconv.FormatFloat(f, 'g', -1, 64)) }

// Float is the nearest floating point number, for display; 0 where the text is empty.
func (d Decimal) Float() float64 {
	f, err := strconv.ParseFloat(string(d), 64)
	if err != nil {
		return 0
	}
	return f
}

// MarshalJSON writes the text as a JSON number.
func (d Decimal) MarshalJSON() ([]byte, error) {
	if !isNumber(string(d)) {
		return nil, errors.New("a decimal's text is not a JSON number")
	}
	return []byte(d), nil
}

// UnmarshalJSON keeps the text of a JSON number.
func (d *Decimal) UnmarshalJSON(token []byte) error {
	if !isNumber(string(token)) {
		return errors.New("expected a number")
	}
	*d = Decimal(token)
	return nil
}

// isNumber tells whether text is a number in JSON's grammar.
func isNumber(text string) bool {
	digit := func(c byte) bool { return '0' <= c && c <= '9' }
	if text == "" || (text[0] != '-' && !digit(text[0])) || !digit(text[len(text)-1]) {
		return false // no other JSON value starts and ends like this
	}
	return json.Valid([]byte(text))
}

// Text is a value to compare with, as text. In JSON it may be a string, a number (whose text is kept as it
// stands), or true or false.
type Text string

// MarshalJSON writes a string.
func (t Text) MarshalJSON() ([]byte, error) { return json.Marshal(string(t)) }

// UnmarshalJSON reads a string, a number or a boolean.
func (t *Text) UnmarshalJSON(token []byte) error {
	text := string(token)
	switch {
	case text == "true" || text == "false" || isNumber(text):
		*t = Text(text)
		return nil
	case len(text) > 0 && text[0] == '"':
		var s string
		if err := json.Unmarshal(token, &s); err != nil {
			return errors.New("expected a string, a number or a boolean")
		}
		*t = Text(s)
		return nil
	}
	return errors.New("expected a string, a number or a boolean")
}
