package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// report is the Markdown of one section, which is printed as it comes.
type report struct {
	to   io.Writer
	text strings.Builder
}

// newReport begins with what the figures depend on.
func newReport(to io.Writer) (*report, error) {
	version, err := duckVersion()
	if err != nil {
		return nil, err
	}
	r := &report{}
	r.to = io.MultiWriter(to, &r.text)
	r.say("%s, %d cores, %s of memory, %s/%s, %s, DuckDB %s, commit %s, load average %s, %s.",
		field("/proc/cpuinfo", "model name"), runtime.GOMAXPROCS(0), field("/proc/meminfo", "MemTotal"), runtime.GOOS, runtime.GOARCH,
		runtime.Version(), version, commit(), loadAverage(), time.Now().Format(time.DateOnly))
	return r, nil
}

// keep puts the report of a section into a file, in place of the last one, which stands between two comments; where
// there is none, at the end.
func (r *report) keep(path, section string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("reading what was measured before: %w", err)
	}
	first, last := "<!-- engine: "+section+" -->", "<!-- end of "+section+" -->"
	block := first + "\n" + r.text.String() + "\n" + last
	before, rest, found := strings.Cut(string(text), first)
	_, after, ended := strings.Cut(rest, last)
	if !found || !ended {
		before, after = string(text)+"\n", "\n"
	}
	if err := os.WriteFile(path, []byte(before+block+after), 0o644); err != nil {
		return fmt.Errorf("writing what was measured: %w", err)
	}
	return nil
}

func (r *report) say(format string, args ...any) { fmt.Fprintf(r.to, "\n"+format+"\n", args...) }

// table prints a heading and rows of cells.
func (r *report) table(title string, header []string, rows [][]string) {
	fmt.Fprintf(r.to, "\n### %s\n\n| %s |\n|%s\n", title, strings.Join(header, " | "), strings.Repeat("---|", len(header)))
	for _, row := range rows {
		fmt.Fprintf(r.to, "| %s |\n", strings.Join(row, " | "))
	}
}

// field finds the first line of a file of /proc that begins with a name.
func field(file, name string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(text)) {
		if key, value, found := strings.Cut(line, ":"); found && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Fields(string(text))[0]
}

// commit names the sources that were measured.
func commit() string {
	head, err := git("rev-parse", "--short", "HEAD")
	if err != nil {
		return "unknown"
	}
	if changed, err := git("status", "--porcelain", "--", "..", ":!../benchmarks"); err != nil || changed != "" {
		return head + " with changes"
	}
	return head
}

func git(args ...string) (string, error) {
	out, err := exec.Command("git", args...).Output()
	return strings.TrimSpace(string(out)), err
}

func short(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d >= time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case d >= 10*time.Millisecond:
		return fmt.Sprintf("%.0f ms", d.Seconds()*1e3)
	}
	return fmt.Sprintf("%.2f ms", d.Seconds()*1e3)
}

// ratio says how much larger a is than b.
func ratio[T time.Duration | int64 | float64](a, b T) string {
	x := float64(a) / float64(b)
	if x >= 10 {
		return fmt.Sprintf("%.0f", x)
	}
	return fmt.Sprintf("%.2f", x)
}

func bytesText(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

func millions(n int64) string { return fmt.Sprintf("%.2f M", float64(n)/1e6) }
