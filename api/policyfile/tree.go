package policyfile

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// node is a value of the file with its place: the part of YAML that policies need. Scalars keep the text as
// it was written, so that 1e-9 never becomes a binary fraction.
type node struct {
	kind    kind
	at      position
	text    string // of a scalar
	quoted  bool
	entries []entry // of a mapping, keys distinct
	items   []*node // of a list
	noted   bool    // a null that was reported as missing
}

type entry struct {
	key   string
	at    position
	value *node
}

type kind int

const (
	scalar kind = iota
	null        // nothing, null or ~
	mapping
	list
)

type position struct{ line, column int }

func (p position) String() string { return strconv.Itoa(p.line) + ":" + strconv.Itoa(p.column) }

// parseTree reads the source as one YAML document; nil means that problems were noted instead.
func (r *reader) parseTree(source []byte) *node {
	top := position{1, 1}
	if len(source) > r.limits.Bytes {
		r.problem(top, "", "file larger than %d bytes: split the dataset or shorten its lists", r.limits.Bytes)
		return nil
	}
	source = bytes.TrimPrefix(source, []byte("\xef\xbb\xbf"))
	if !r.checkCharacters(source) {
		return nil
	}
	tokens, doc, err := parseYAML(source, r.checkTokens)
	switch {
	case errors.Is(err, errTokens):
		return nil
	case err != nil:
		at, message := syntaxProblem(err, tokens)
		r.problem(at, "", "%s", message)
		return nil
	case doc == nil:
		r.problem(top, "", "empty file: write at least name, kind, population, unit, bounds, cap, default and purposes")
		return nil
	}
	before := r.count
	root := r.convert(doc, "", 0)
	if r.count > before {
		return nil
	}
	return root
}

// checkCharacters refuses what no editor shows, since a reader of the file could not see it either.
func (r *reader) checkCharacters(source []byte) bool {
	at := position{1, 1}
	for i := 0; i < len(source); {
		c, size := utf8.DecodeRune(source[i:])
		switch {
		case c == utf8.RuneError && size == 1:
			r.problem(at, "", "not UTF-8: save the file in that encoding")
			return false
		case c == '\n':
			at = position{at.line + 1, 0}
		case c < ' ' && c != '\t' && c != '\r', c == 0x7f:
			r.problem(at, "", "control character: remove it")
			return false
		}
		at.column++
		i += size
	}
	return true
}

const secondDocument = "second document: a file holds one policy"

var errTokens = errors.New("tokens refused")

// parseYAML runs the YAML library, check between its two halves. The library is not ours: should it panic
// on some input, that input is refused and the process lives.
func parseYAML(source []byte, check func(token.Tokens) bool) (tokens token.Tokens, doc ast.Node, err error) {
	defer func() {
		if recover() != nil {
			doc, err = nil, errors.New("yaml library failed")
		}
	}()
	tokens = lexer.Tokenize(string(source))
	if !check(tokens) {
		return tokens, nil, errTokens
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey()) // duplicates are reported by convert, all of them
	if err != nil {
		return tokens, nil, err
	}
	for _, d := range file.Docs {
		if d.Body == nil {
			continue
		}
		if doc != nil {
			return tokens, nil, errSecondDocument{startOf(d.Body)}
		}
		doc = d.Body
	}
	return tokens, doc, nil
}

type errSecondDocument struct{ at position }

func (errSecondDocument) Error() string { return "second document" }

// checkTokens refuses, before anything is built from them, what makes a file mean more than it shows
// (anchors, aliases, merge keys, tags, directives) and what makes a parser work hard (size, depth).
func (r *reader) checkTokens(tokens token.Tokens) bool {
	before := r.count
	if len(tokens) > r.limits.Tokens {
		r.problem(position{1, 1}, "", "file has more than %d words and signs: shorten its lists, or write ranges as {from, to, step}", r.limits.Tokens)
		return false
	}
	depth, dashes, keys := 0, 0, 0
	begun, ended := false, false
	for _, t := range tokens {
		at := positionOf(t)
		switch t.Type {
		case token.AnchorType, token.AliasType, token.MergeKeyType:
			r.problem(at, "", "anchors, aliases and merge keys are not used in policies: write the value out, or quote text that begins with & * or <<")
		case token.TagType:
			r.problem(at, "", "tags are not used in policies: leave it out, or quote text that begins with !")
		case token.DirectiveType:
			r.problem(at, "", "directives are not used in policies: leave the line out")
		case token.MappingKeyType:
			r.problem(at, "", "keys beginning with ? are not used in policies: write key: value")
		case token.DocumentHeaderType, token.DocumentEndType:
			// One --- before and one ... after the policy are its own. Thousands take the library minutes.
			if ended || (begun && t.Type == token.DocumentHeaderType) {
				r.problem(at, "", secondDocument)
				return false
			}
			ended = t.Type == token.DocumentEndType
		case token.MappingValueType:
			if keys++; keys > r.limits.Keys {
				r.problem(at, "", "file has more than %d keys: no policy has", r.limits.Keys)
				return false
			}
		case token.SequenceStartType, token.MappingStartType:
			depth++
		case token.SequenceEndType, token.MappingEndType:
			depth--
		}
		begun = begun || t.Type != token.CommentType
		if t.Type == token.SequenceEntryType {
			dashes++
		} else {
			dashes = 0
		}
		if max(depth, dashes) > r.limits.Depth {
			r.problem(at, "", "nested deeper than %d levels: no field of a policy is", r.limits.Depth)
			return false
		}
	}
	return r.count == before
}

// syntaxProblem puts an error of the library into words that repeat nothing of the file.
func syntaxProblem(err error, tokens token.Tokens) (position, string) {
	var second errSecondDocument
	if errors.As(err, &second) {
		return second.at, secondDocument
	}
	at := position{1, 1}
	var syntax *yaml.SyntaxError
	if !errors.As(err, &syntax) {
		return at, "not YAML that can be read: check indentation, brackets and quotes"
	}
	if syntax.Token != nil {
		at = positionOf(syntax.Token)
	} else if len(tokens) > 0 {
		at = positionOf(tokens[len(tokens)-1])
	}
	switch message := syntax.Message; {
	case strings.Contains(message, "cannot start any token"):
		return at, "not YAML: indent with spaces instead of tabs, and quote text that begins with a special sign"
	case strings.Contains(message, "end character"), strings.Contains(message, "quote"):
		return at, "not YAML: a quoted text is not closed or escaped correctly"
	case strings.Contains(message, "end token"), strings.Contains(message, "must be specified"), strings.Contains(message, "flow map content"):
		return at, "not YAML: a bracket is not closed, or a comma is missing"
	case strings.Contains(message, "not allowed in this context"):
		return at, "not YAML: check the indentation, and quote text that has a colon followed by a space"
	}
	return at, "not YAML: check indentation, brackets and quotes"
}

// startOf is where a reader sees a value begin: the library's token of a block mapping is its first colon.
func startOf(n ast.Node) position {
	if m, ok := n.(*ast.MappingNode); ok && !m.IsFlowStyle && len(m.Values) > 0 {
		return positionOf(m.Values[0].Key.GetToken())
	}
	return positionOf(n.GetToken())
}

func positionOf(t *token.Token) position {
	if t == nil || t.Position == nil {
		return position{1, 1}
	}
	return position{t.Position.Line, t.Position.Column}
}

// convert turns the library's tree into ours. It returns nil where it noted a problem.
func (r *reader) convert(n ast.Node, field string, depth int) *node {
	at := startOf(n)
	if depth > r.limits.Depth {
		r.problem(at, "", "nested deeper than %d levels: no field of a policy is", r.limits.Depth)
		return nil
	}
	switch n := n.(type) {
	case *ast.MappingNode:
		return r.convertMapping(n, field, depth)
	case *ast.SequenceNode:
		out := &node{kind: list, at: at}
		for i, item := range n.Values {
			out.items = append(out.items, r.convert(item, fmt.Sprintf("%s[%d]", field, i), depth+1))
		}
		return out
	case *ast.NullNode:
		return &node{kind: null, at: at}
	case *ast.LiteralNode:
		return &node{kind: scalar, at: at, text: n.Value.Value, quoted: true}
	case *ast.StringNode:
		quoted := n.Token.Type == token.SingleQuoteType || n.Token.Type == token.DoubleQuoteType
		// A plain text goes on over lines that are indented further: nearly always a mistake.
		if !quoted && strings.ContainsAny(strings.TrimSpace(n.Token.Origin), "\r\n") {
			r.problem(at, field, "text goes on over several lines: check the indentation, or quote it")
			return nil
		}
		return &node{kind: scalar, at: at, text: n.Value, quoted: quoted}
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return &node{kind: scalar, at: at, text: n.GetToken().Value}
	}
	r.problem(at, field, "not a value that a policy has: write text, a number, a list or a mapping")
	return nil
}

func (r *reader) convertMapping(n *ast.MappingNode, field string, depth int) *node {
	out := &node{kind: mapping, at: startOf(n)}
	seen := map[string]position{}
	for _, pair := range n.Values {
		at := positionOf(pair.Key.GetToken())
		name, ok := pair.Key.(*ast.StringNode)
		if !ok {
			r.problem(at, field, "keys are words: write key: value")
			continue
		}
		key := name.Value
		path := join(field, key)
		if first, found := seen[key]; found {
			r.problem(at, field, "same key as at %s: keep one of them", first)
			continue
		}
		seen[key] = at
		value := r.convert(pair.Value, path, depth+1)
		if value != nil && value.kind == null {
			value.at = at
		}
		out.entries = append(out.entries, entry{key: key, at: at, value: value})
	}
	return out
}

func join(field, key string) string {
	if field == "" {
		return key
	}
	return field + "." + key
}
