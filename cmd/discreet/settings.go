package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-yaml"
)

// settings finds the value of a flag that the command line does not give: in the environment, then in the
// file that --config names.
type settings struct {
	lookup func(string) (string, bool)
	file   map[string]any // nil until it was read
}

// maxConfig bounds a configuration file.
const maxConfig = 1 << 20

// Validate is a part of kong.Resolver; what the file holds is checked against the verb in Resolve.
func (s *settings) Validate(*kong.Application) error { return nil }

// Resolve gives a flag's value as text, or nil.
func (s *settings) Resolve(k *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	if value, ok := s.environment(flag.Name); ok {
		return value, nil
	}
	if flag.Name == configFlag || !slices.ContainsFunc(k.Flags(), func(f *kong.Flag) bool { return f.Name == configFlag }) {
		return nil, nil
	}
	if s.file == nil {
		if err := s.read(k); err != nil {
			return nil, err
		}
	}
	return s.file[flag.Name], nil
}

const configFlag = "config"

func (s *settings) environment(flag string) (string, bool) {
	return s.lookup("DISCREET_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_")))
}

// read reads the configuration file, if there is one, and refuses what the verb has no flag for.
func (s *settings) read(k *kong.Context) error {
	s.file = map[string]any{}
	path := s.path(k)
	if path == "" {
		return nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("reading the configuration: %w", err)
	}
	if info.Size() > maxConfig {
		return fmt.Errorf("the configuration is larger than %d bytes", maxConfig)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("reading the configuration: %w", err)
	}
	var values map[string]any
	if err := yaml.UnmarshalWithOptions(text, &values, yaml.Strict()); err != nil {
		return fmt.Errorf("reading the configuration: %w", err)
	}
	known := map[string]bool{}
	for _, flag := range k.Flags() {
		known[flag.Name] = flag.Name != configFlag && flag.Name != "help"
	}
	for name, value := range values {
		if !known[name] {
			return fmt.Errorf("the configuration sets %q, which is no flag of this verb", name)
		}
		s.file[name] = fmt.Sprint(value)
	}
	return nil
}

func (s *settings) path(k *kong.Context) string {
	for _, p := range k.Path {
		if p.Flag != nil && p.Flag.Name == configFlag {
			if path, ok := k.FlagValue(p.Flag).(string); ok {
				return path
			}
		}
	}
	path, _ := s.environment(configFlag)
	return path
}
