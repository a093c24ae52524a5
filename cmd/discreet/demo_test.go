package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// asCommand makes the test binary behave as the command, so that shells can call it.
const asCommand = "DISCREET_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestDemoWithExitPrintsOneAnswerWithIntervalAndPrice(t *testing.T) {
	var stdout, stderr safeBuffer
	code := run(t.Context(), []string{"demo", "--exit", "--customers", "300", "--days", "20", "--listen", "127.0.0.1:0"},
		terminal{stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr, lookup: noEnvironment}, production())
	if code != exitDone {
		t.Fatalf("exit %d: %s", code, stderr.String())
	}
	for _, part := range []string{"merchant_category", "grocery", "±", "price", "epsilon", "left", "about", "2026-03-31"} {
		if !strings.Contains(stdout.String(), part) {
			t.Errorf("the answer lacks %q:\n%s", part, stdout.String())
		}
	}
}

func TestDemoRefusesWhatIsNotItsOwn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	for i, want := range []int{exitDone, exitUsage} {
		var stdout, stderr safeBuffer
		code := run(t.Context(), []string{"demo", "--exit", "--customers", "50", "--days", "1", "--listen", "127.0.0.1:0", "--data", dir},
			terminal{stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr, lookup: noEnvironment}, production())
		if code != want {
			t.Errorf("run %d: exit %d, want %d: %s", i+1, code, want, stderr.String())
		}
	}
	for _, args := range [][]string{{"--customers", "0"}, {"--days", "0"}, {"--until", "tomorrow"}, {"--listen", "0.0.0.0:0"}} {
		var stdout, stderr safeBuffer
		code := run(t.Context(), append([]string{"demo", "--exit"}, args...),
			terminal{stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr, lookup: noEnvironment}, production())
		if code != exitUsage {
			t.Errorf("%v: exit %d, want %d: %s", args, code, exitUsage, stderr.String())
		}
	}
}

// TestReadmeRunsAgainstTheDemo pastes what the demo prints and what the README says into a shell.
func TestReadmeRunsAgainstTheDemo(t *testing.T) {
	sequential(t)
	for _, tool := range []string{"sh", "curl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
	printed := startDemo(t)
	var exports, curl string
	for line := range strings.Lines(printed) {
		switch {
		case strings.HasPrefix(line, "export "):
			exports += line
		case strings.HasPrefix(line, "curl "):
			curl += line
		}
	}
	if strings.Count(exports, "\n") != 6 || strings.Count(curl, "\n") != 1 {
		t.Fatalf("the demo printed\n%s", printed)
	}

	if answer := shell(t, curl); !strings.Contains(answer, `"grocery"`) || !strings.Contains(answer, `"low"`) {
		t.Errorf("the printed curl answers\n%s", answer)
	}
	answers := shell(t, exports+readmeCommands(t)+readmeTables(t))
	for _, part := range []string{"median_ticket   quantile   amount:0.5", "spend_share     share      spend", "spend_share", "per_head", "quantile of rank 0.995", "is the customer's column", "merchant_category", "± 60", "would cost", "allotment", `"active_users"`, "purposes", "contactless", "rel_", "pricing", "dk_", "(cap)", "no file holds", "era_", "would cost  epsilon 0.4", "would give  epsilon 4, delta 5e-10", "granted     by", "rep_", "run,question,dataset", "derived     from rel_", "tell nothing of real ones"} {
		if !strings.Contains(answers, part) {
			t.Errorf("the README's commands print no %q:\n%s", part, answers)
		}
	}
}

// startDemo runs a small demo until the test ends, and gives what it printed.
func startDemo(t *testing.T) string {
	t.Helper()
	var stdout, stderr safeBuffer
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"demo", "--customers", "400", "--days", "90", "--listen", "127.0.0.1:0"},
			terminal{stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr, lookup: noEnvironment}, production())
	}()
	t.Cleanup(func() {
		cancel()
		if code := <-ended; code != exitDone {
			t.Errorf("the demo ended with %d: %s", code, stderr.String())
		}
		for _, dir := range regexp.MustCompile(`\S*discreet-demo-\S*`).FindAllString(stderr.String(), -1) {
			t.Errorf("the demo names its directory %s", dir)
		}
	})
	for deadline := time.Now().Add(time.Minute); !strings.Contains(stdout.String(), "curl "); time.Sleep(10 * time.Millisecond) {
		select {
		case code := <-ended:
			ended <- code
			t.Fatalf("the demo ended with %d: %s", code, stderr.String())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("the demo printed %s%s", stdout.String(), stderr.String())
		}
	}
	url := regexp.MustCompile(`http://[0-9.:]+`).FindString(stdout.String())
	response, err := http.Get(url + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("the demo is not ready: %s", response.Status)
	}
	return stdout.String()
}

// readmeCommands are the README's shell blocks, but for those that build, test or start the demo.
func readmeCommands(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	var commands strings.Builder
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		if !strings.HasPrefix(block[1], "go ") {
			commands.WriteString(block[1])
		}
	}
	if commands.Len() == 0 {
		t.Fatal("the README has no commands")
	}
	return commands.String()
}

// readmeTables are the questions in the README's tables: those of the first column have to be answered, those that are
// followed by a reason to be refused.
func readmeTables(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	var commands strings.Builder
	answered, refused := 0, 0
	for _, row := range regexp.MustCompile("(?m)^\\|[^|]*\\| `(\\$ASK [^`]*)` \\|(.*)$").FindAllStringSubmatch(string(text), -1) {
		if row[2] == "" {
			answered++
			fmt.Fprintln(&commands, row[1])
			continue
		}
		refused++
		fmt.Fprintf(&commands, "if %s; then echo answered: '%s'; exit 1; fi\n", row[1], row[1])
	}
	if answered < 10 || refused < 5 {
		t.Fatalf("the README's tables have %d questions that are answered and %d that are refused", answered, refused)
	}
	return commands.String()
}

// shell runs a script that stops at its first failure, in a directory where discreet is this very binary.
func shell(t *testing.T, script string) string {
	t.Helper()
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(dir, "discreet")); err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), "sh", "-eu")
	command.Dir = dir
	command.Env = append(os.Environ(), asCommand+"=1")
	command.Stdin = strings.NewReader(script)
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("the shell failed: %v\n%s", err, out)
	}
	return string(out)
}
