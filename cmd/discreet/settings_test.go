package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

func TestFlagsComeBeforeTheEnvironmentBeforeTheFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "discreet.yaml")
	writeFile(t, file, "data: /from/file\nlisten: 127.0.0.1:1\ninsecure: true\n")
	env := map[string]string{"DISCREET_LISTEN": "127.0.0.1:2", "DISCREET_DATA": "/from/environment"}
	got, err := parseServe(env, "--config", file, "--data", "/from/flag")
	if err != nil {
		t.Fatal(err)
	}
	if got.Data != "/from/flag" || got.Listen != "127.0.0.1:2" || !got.Insecure {
		t.Errorf("got %+v", got)
	}
	env["DISCREET_CONFIG"] = file
	if got, err = parseServe(env); err != nil || !got.Insecure || got.Data != "/from/environment" {
		t.Errorf("with the file named in the environment: %+v, %v", got, err)
	}
}

func TestConfigurationFileIsStrict(t *testing.T) {
	for _, text := range []string{"dtaa: x\n", "config: x\n", "data: [\n", "data: x\ndata: y\n", "- data\n"} {
		file := filepath.Join(t.TempDir(), "discreet.yaml")
		writeFile(t, file, text)
		if got, err := parseServe(nil, "--data", "x", "--config", file); err == nil {
			t.Errorf("%q gives %+v", text, got)
		}
	}
	_, err := parseServe(nil, "--data", "x", "--config", "/does/not/exist.yaml")
	if err == nil || !strings.Contains(err.Error(), "exist.yaml") {
		t.Errorf("a missing file gives %v", err)
	}
}

// parseServe parses the flags of serve without running it.
func parseServe(env map[string]string, args ...string) (serveCommand, error) {
	var verbs struct {
		Serve serveCommand `cmd:""`
	}
	parser, err := kong.New(&verbs, kong.Name("discreet"), kong.Resolvers(&settings{lookup: func(name string) (string, bool) {
		value, ok := env[name]
		return value, ok
	}}))
	if err != nil {
		return serveCommand{}, err
	}
	_, err = parser.Parse(append([]string{"serve"}, args...))
	return verbs.Serve, err
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
