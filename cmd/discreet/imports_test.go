package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/discreet-analytics/discreet"

func TestPackagesImportOnlyDownwards(t *testing.T) {
	seen := 0
	for _, p := range listPackages(t) {
		if p.Standard {
			continue
		}
		if len(p.CgoFiles) > 0 {
			t.Errorf("%s needs C: Discreet is one static binary", p.ImportPath)
		}
		if p.Module == nil || p.Module.Path != module {
			continue
		}
		seen++
		for _, imported := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			tests := !slices.Contains(p.Imports, imported)
			if !mayImport(inside(p.ImportPath), imported) && !(tests && verifies(inside(p.ImportPath), inside(imported))) {
				t.Errorf("%s imports %s", inside(p.ImportPath), imported)
			}
		}
	}
	if seen < 10 {
		t.Errorf("only %d packages of this module were looked at", seen)
	}
}

// verifier checks what store/ledger writes.
const verifier = "store/ledger/verify"

// verifies tells whether two packages are of the ledger, its archive and their verifier, whose tests need each other: to have
// something written, and to have it verified.
func verifies(from, to string) bool {
	of := []string{verifier, "store/ledger", "store/archive"}
	return slices.Contains(of, from) && slices.Contains(of, to)
}

// Two implementations that share code share its mistakes.
func TestVerifierSharesNoCodeWithWhatItVerifies(t *testing.T) {
	for _, p := range listPackages(t) {
		if inside(p.ImportPath) != verifier {
			continue
		}
		for _, imported := range p.Imports {
			if strings.HasPrefix(imported, module) {
				t.Errorf("%s imports %s", verifier, inside(imported))
			}
		}
		return
	}
	t.Errorf("there is no package %s", verifier)
}

func TestImportRuleRefusesWhatItIsThereFor(t *testing.T) {
	for _, c := range []struct{ from, to string }{
		{"dp", module + "/dp/rows"},
		{"dp/accounting", module + "/dp/mechanism"},
		{"dp/plan", module + "/dp/bounding"},
		{"dp/bounding", module + "/dp/answer"},
		{"dp/answer", module + "/store/ledger"},
		{"dp/answer", module + "/api"},
		{"dp/office", "github.com/dgraph-io/badger/v4"},
		{"dp/answer", "github.com/google/differential-privacy/go/v3/noise"},
		{"dp/mechanism", "github.com/dchest/siphash"},
		{"api", module + "/store/ledger"},
		{"api", "github.com/dgraph-io/badger/v4"},
		{"api/client", module + "/cmd/discreet"},
		{"store/ledger", module + "/api"},
		{"store/ledger", module + "/store/columnar"},
		{"store/columnar", module + "/store/ledger"},
		{"store/secrets", "github.com/gofiber/fiber/v2"},
		{"dp/rows", "C"},
	} {
		if mayImport(c.from, c.to) {
			t.Errorf("%s may import %s", c.from, c.to)
		}
	}
	for _, c := range []struct{ from, to string }{
		{"cmd/discreet", module + "/store/ledger"},
		{"api", module + "/dp/answer"},
		{"store/columnar", module + "/dp/bounding"},
		{"store/columnar", module + "/store/load"},
		{"store/ledger", "github.com/dgraph-io/badger/v4"},
		{"dp/mechanism", "github.com/google/differential-privacy/go/v3/noise"},
		{"dp/bounding", "github.com/dchest/siphash"},
		{"dp/answer", module + "/dp/bounding"},
		{"dp/plan", "math/big"},
	} {
		if !mayImport(c.from, c.to) {
			t.Errorf("%s may not import %s", c.from, c.to)
		}
	}
}

// sharedByStores are what the stores are built of.
var sharedByStores = []string{"store/load", "store/secrets", "store/durable", "store/engine"}

// mayImport holds the directions: cmd -> api, store, dp; api -> dp; store -> dp and what stores share; within
// dp each package only what stands before it.
func mayImport(from, to string) bool {
	own, ours := strings.CutPrefix(to, module)
	own = strings.TrimPrefix(own, "/")
	if !ours {
		return mayImportForeign(from, to)
	}
	switch top(from) {
	case "cmd":
		return true
	case "api":
		return top(own) == "dp" || top(own) == "api"
	case "store":
		return top(own) == "dp" || slices.Contains(sharedByStores, own) || own == from
	case "dp":
		return top(own) == "dp" && (own == from || height(own) < height(from))
	}
	return false
}

func mayImportForeign(from, to string) bool {
	standard := !strings.Contains(strings.Split(to, "/")[0], ".")
	if standard {
		return to != "C"
	}
	switch top(from) {
	case "dp":
		return from == "dp/mechanism" && strings.HasPrefix(to, "github.com/google/differential-privacy/go/") ||
			from == "dp/bounding" && to == "github.com/dchest/siphash"
	case "api":
		return !strings.HasPrefix(to, "github.com/dgraph-io/")
	case "store":
		return !strings.HasPrefix(to, "github.com/gofiber/") && !strings.HasPrefix(to, "github.com/danielgtaylor/")
	}
	return true
}

// height orders the packages of dp: each imports only lower ones.
func height(dp string) int {
	for i, level := range [][]string{
		{"dp"}, {"dp/rows"}, {"dp/accounting", "dp/metrics", "dp/synth"}, {"dp/mechanism"}, {"dp/plan"}, {"dp/bounding"}, {"dp/answer", "dp/office"},
		{"dp/report", "dp/exposure"},
	} {
		if slices.Contains(level, dp) {
			return i
		}
	}
	return -1 // of nobody's level: imports nothing of dp until it is given one
}

func top(p string) string    { return strings.Split(p, "/")[0] }
func inside(p string) string { return strings.TrimPrefix(strings.TrimPrefix(p, module), "/") }

// listed is what go list tells of a package.
type listed struct {
	ImportPath                         string
	Standard                           bool
	Module                             *struct{ Path string }
	CgoFiles                           []string
	Imports, TestImports, XTestImports []string
}

func listPackages(t *testing.T) []listed {
	t.Helper()
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	root = path.Dir(path.Dir(root))
	command := exec.Command("go", "list", "-deps", "-json=ImportPath,Standard,Module,CgoFiles,Imports,TestImports,XTestImports", "./...")
	command.Dir = root
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Run(); err != nil {
		t.Fatal(fmt.Errorf("listing packages: %w: %s", err, stderr.String()))
	}
	var all []listed
	for decoder := json.NewDecoder(&stdout); ; {
		var p listed
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}
