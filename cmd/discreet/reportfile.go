package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/discreet-analytics/discreet/api/wire"
)

// The sizes beyond which a report's file is refused.
const (
	maxReportFile  = 1 << 20 // bytes
	maxReportDepth = 20
)

// readReport reads a report from a file, or from standard input, as YAML, of which JSON is a part.
func readReport(path string, stdin io.Reader) (spec wire.ReportSpec, err error) {
	in := stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return spec, usagef("%v", fileError(err))
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, maxReportFile+1))
	if err != nil {
		return spec, fmt.Errorf("reading the report: %w", err)
	}
	if len(text) > maxReportFile {
		return spec, usagef("the report's file is larger than %d bytes", maxReportFile)
	}
	return parseReport(text)
}

// parseReport keeps the text of numbers as it stands: 1e-11 is exact, and stays so.
func parseReport(text []byte) (spec wire.ReportSpec, err error) {
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		return spec, usagef("the report's file is not YAML: %s", oneLine(yaml.FormatError(err, false, false)))
	}
	if len(file.Docs) != 1 || file.Docs[0].Body == nil {
		return spec, usagef("the report's file must hold one document")
	}
	tree, err := jsonOf(file.Docs[0].Body, 0)
	if err != nil {
		return spec, usagef("the report's file: %v", err)
	}
	body, err := json.Marshal(tree)
	if err != nil {
		return spec, fmt.Errorf("reading the report: %w", err)
	}
	strict := json.NewDecoder(bytes.NewReader(body))
	strict.DisallowUnknownFields()
	if err := strict.Decode(&spec); err != nil {
		var mistyped *json.UnmarshalTypeError
		if errors.As(err, &mistyped) {
			return spec, usagef("the report's file: %s must be a %s", mistyped.Field, mistyped.Type.Kind())
		}
		return spec, usagef("the report's file: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	return spec, nil
}

// jsonOf is a node as JSON has it.
func jsonOf(n ast.Node, depth int) (any, error) {
	if depth > maxReportDepth {
		return nil, fmt.Errorf("it is nested more than %d deep", maxReportDepth)
	}
	switch n := n.(type) {
	case *ast.MappingNode:
		out := map[string]any{}
		for _, pair := range n.Values {
			if err := addPair(out, pair, depth); err != nil {
				return nil, err
			}
		}
		return out, nil
	case *ast.MappingValueNode:
		out := map[string]any{}
		return out, addPair(out, n, depth)
	case *ast.SequenceNode:
		out := []any{}
		for _, value := range n.Values {
			item, err := jsonOf(value, depth+1)
			if err != nil {
				return nil, err
			}
			out = append(out, item)
		}
		return out, nil
	case *ast.NullNode:
		return nil, nil
	case *ast.LiteralNode:
		return n.Value.Value, nil
	case *ast.BoolNode:
		return n.Value, nil
	case *ast.StringNode:
		if plain := n.Token.Type != token.SingleQuoteType && n.Token.Type != token.DoubleQuoteType; !plain || !isNumber(n.Value) {
			return n.Value, nil
		}
		return json.Number(n.Value), nil // such as 1e-11, which YAML takes for a text
	case *ast.IntegerNode, *ast.FloatNode:
		if text := n.GetToken().Value; isNumber(text) {
			return json.Number(text), nil
		}
		return nil, fmt.Errorf("line %d: write numbers in decimal digits, such as 0.1 or 1e-11", n.GetToken().Position.Line)
	}
	return nil, fmt.Errorf("line %d: %s is not understood here: write values out", n.GetToken().Position.Line, strings.ToLower(n.Type().String()))
}

func addPair(into map[string]any, pair *ast.MappingValueNode, depth int) error {
	key, ok := pair.Key.(*ast.StringNode)
	if !ok {
		return fmt.Errorf("line %d: keys are names", pair.Key.GetToken().Position.Line)
	}
	value, err := jsonOf(pair.Value, depth+1)
	into[key.Value] = value
	return err
}

func isNumber(text string) bool {
	_, err := wire.Decimal(text).MarshalJSON()
	return err == nil
}
