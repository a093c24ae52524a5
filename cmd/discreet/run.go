package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/discreet-analytics/discreet/api/client"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
)

// commands are the verbs.
type commands struct {
	Demo    demoCommand    `cmd:"" help:"Make synthetic data, serve it, and print keys and a question to paste."`
	Serve   serveCommand   `cmd:"" help:"Serve datasets from a data directory."`
	Dataset datasetGroup   `cmd:"" help:"Policies of datasets."`
	Load    loadCommand    `cmd:"" help:"Load rows into a dataset."`
	Erase   eraseCommand   `cmd:"" help:"Take customers out of a dataset, for good."`
	Query   queryCommand   `cmd:"" help:"Ask a question, or price it with --plan."`
	Release releaseGroup   `cmd:"" help:"Answers that you hold: free to read again."`
	Report  reportGroup    `cmd:"" help:"Batches of questions, priced and charged as one."`
	Budget  budgetGroup    `cmd:"" help:"What you may spend, what is left, what spent it, and what to do where the ledger refuses."`
	Who     consumerGroup  `cmd:"" name:"consumer" help:"Persons, teams and programs that may call."`
	Key     keyGroup       `cmd:"" help:"Keys of consumers."`
	Allot   allotmentGroup `cmd:"" name:"allotment" help:"Budgets of consumers on datasets."`
	Request requestGroup   `cmd:"" help:"Requests for a budget: ask an officer for one, and decide."`
	Backup  backupGroup    `cmd:"" help:"Backups, which the server makes while it runs (serve --backups)."`
	Restore restoreCommand `cmd:"" help:"Make a data directory out of a backup."`
	Propose proposalGroup  `cmd:"" name:"proposal" help:"Changes that take two officers: look at them, and agree or not."`
	Audit   auditGroup     `cmd:"" help:"For officers and auditors: the log of all that happened, and proofs that nothing was taken back."`
	Verify  verifyCommand  `cmd:"" help:"Check a ledger from outside: every entry, against accounts, releases and budgets. Stop the server first."`
	Doctor  doctorCommand  `cmd:"" help:"Look at a data directory, served or not, and say what to do."`
	Version versionCommand `cmd:"" help:"Print the version."`
}

const description = `Private answers about how customers use a product and how they spend.

Every flag can also be given as an environment variable: --url as DISCREET_URL, --max-partitions as DISCREET_MAX_PARTITIONS. Exit codes: 0 done, 1 failed, 2 wrong use, 3 refused by budget or policy.`

// terminal is where a verb reads and writes.
type terminal struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	lookup         func(name string) (value string, ok bool) // of an environment variable
}

// The exit codes.
const (
	exitDone    = 0
	exitFailed  = 1
	exitUsage   = 2
	exitRefused = 3
)

// run is the command without its process: what main and the tests share.
func run(ctx context.Context, args []string, t terminal, from surroundings) (code int) {
	// kong ends the process after --help; here it ends the call.
	type exit int
	defer func() {
		if r := recover(); r != nil {
			e, ok := r.(exit)
			if !ok {
				panic(r)
			}
			code = int(e)
		}
	}()

	var verbs commands
	parser, err := kong.New(&verbs,
		kong.Name("discreet"), kong.Description(description),
		kong.Writers(t.stdout, t.stderr), kong.Exit(func(code int) { panic(exit(code)) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, Tree: true}), kong.Help(printHelp),
		kong.Resolvers(&settings{lookup: t.lookup}),
	)
	if err != nil {
		return fail(t, fmt.Errorf("preparing the command line: %w", err))
	}
	chosen, err := parser.Parse(args)
	if err != nil {
		var parse *kong.ParseError
		verb := "discreet"
		if errors.As(err, &parse) && parse.Context != nil {
			verb = strings.TrimSpace("discreet " + parse.Context.Command())
		}
		return fail(t, usageError{fmt.Sprintf("%v (see %s --help)", err, verbOnly(verb))})
	}
	chosen.BindTo(ctx, (*context.Context)(nil))
	if err := chosen.Run(t, from); err != nil {
		return fail(t, err)
	}
	return exitDone
}

// printHelp leaves what verbs take out of the list of all verbs, which is long enough.
func printHelp(options kong.HelpOptions, about *kong.Context) error {
	if about.Selected() == nil {
		for _, leaf := range about.Model.Leaves(false) {
			leaf.Positional = nil
		}
	}
	return kong.DefaultHelpPrinter(options, about)
}

// verbOnly cuts the arguments that kong writes behind a command.
func verbOnly(command string) string {
	verb, _, _ := strings.Cut(command, " <")
	return verb
}

// usageError is a mistake in how a verb was called.
type usageError struct{ message string }

func (e usageError) Error() string { return e.message }

func usagef(format string, args ...any) error { return usageError{fmt.Sprintf(format, args...)} }

// fail prints an error as one line that says what to do, and gives the exit code for it.
func fail(t terminal, err error) int {
	fmt.Fprintln(t.stderr, "discreet: "+oneLine(explain(err)))
	return exitCode(err)
}

func exitCode(err error) int {
	var usage usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	var problem *client.Problem
	if errors.As(err, &problem) && problem.Required != nil {
		return exitRefused // whatever its code, it is refused for its price
	}
	switch codeOf(err) {
	case dp.CodeInvalidQuery, dp.CodeInvalidPolicy, dp.CodeInvalidInput:
		return exitUsage
	case dp.CodeBudgetExhausted, dp.CodePurposeNotAllowed, dp.CodeForbidden, dp.CodeAccuracyUnattainable:
		return exitRefused
	}
	return exitFailed
}

// codeOf finds the code of an error of the server, or of one found here.
func codeOf(err error) dp.Code {
	var problem *client.Problem
	if errors.As(err, &problem) {
		return dp.Code(problem.Code)
	}
	var own *dp.Error
	if errors.As(err, &own) {
		return own.Code
	}
	return ""
}

// explain words an error for a person.
func explain(err error) string {
	var problem *client.Problem
	if errors.As(err, &problem) {
		// What the verb was doing when it met the problem stays in front.
		return strings.Replace(err.Error(), problem.Error(), explainProblem(problem), 1)
	}
	var own *dp.Error
	if errors.As(err, &own) {
		var places []string
		for _, l := range own.Locations {
			places = append(places, l.Path+": "+l.Message)
		}
		return strings.Replace(err.Error(), own.Error(), withPlaces(string(own.Code)+": "+own.Message, places), 1)
	}
	const another = "or name another with --url"
	var unknown *net.DNSError
	if errors.As(err, &unknown) {
		return fmt.Sprintf("there is no machine called %s: check the name, %s", unknown.Name, another)
	}
	var refused *net.OpError
	if errors.As(err, &refused) && refused.Op == "dial" && refused.Addr != nil {
		return fmt.Sprintf("no server answers at %s: start one (discreet demo, discreet serve) %s", refused.Addr, another)
	}
	if text := explainTLS(err); text != "" {
		return text
	}
	if errors.Is(err, http.ErrSchemeMismatch) {
		return "the server speaks http and not https: write http:// in --url if it is on this machine, " + another
	}
	if errors.Is(err, context.Canceled) {
		return "interrupted"
	}
	return err.Error()
}

// explainProblem adds to the server's words what the document holds besides.
func explainProblem(p *client.Problem) string {
	text := said(p)
	if dp.Code(p.Code) == dp.CodeBudgetExhausted && p.Left != nil && strings.HasPrefix(p.Left.Account, "allotment/") {
		text += " (discreet request add)" // the cap is nobody's to ask for
	}
	if p.Left != nil && p.Left.Epsilon.Float() > 0 && !strings.Contains(text, " still admits ") {
		text += fmt.Sprintf("; %s has epsilon %s left", p.Left.Account, exactly{p.Left.Epsilon})
	}
	if dp.Code(p.Code) == dp.CodeInternal && p.Instance != "" {
		text += " (" + p.Instance + ")"
	}
	for metric, best := range sorted(p.Best) {
		text += fmt.Sprintf("; the best for %s is within %s", metric, attainable(best))
	}
	for i, a := range p.Alternatives {
		lead := "; "
		if i == 0 {
			lead = "; cheaper: "
		}
		text += lead + a.Change
		if !strings.Contains(a.Change, "epsilon") {
			text += fmt.Sprintf(" (epsilon %s)", exactly{a.Epsilon})
		}
	}
	if p.RetryAfter > 0 {
		text += fmt.Sprintf("; try again in %d s", p.RetryAfter)
	}
	return text
}

// attainable is the best half-width with four digits, rounded up: what is shown can be asked for.
func attainable(best wire.Decimal) string {
	short := strconv.FormatFloat(best.Float(), 'g', 4, 64)
	if shown, err := strconv.ParseFloat(short, 64); err == nil && shown < best.Float() {
		unit := math.Pow10(int(math.Floor(math.Log10(best.Float()))) - 3)
		short = strconv.FormatFloat(shown+unit, 'g', 4, 64)
	}
	return short
}

// said is what a problem says, as the caller of a verb sees it: there is no body where there are flags.
func said(p *client.Problem) string {
	text := p.Code
	if p.Detail != "" {
		text += ": " + p.Detail
	}
	var places []string
	for _, e := range p.Errors {
		places = append(places, strings.TrimPrefix(e.Location, "body.")+": "+e.Message)
	}
	if dp.Code(p.Code) == dp.CodeInvalidQuery && len(places) > 0 {
		text = p.Code // what is wrong says that it is wrong
	}
	return withPlaces(text, places)
}

// withPlaces adds to a message what is wrong where, as much of it as a line can hold.
func withPlaces(message string, places []string) string {
	const most = 5
	if len(places) == 0 {
		return message
	}
	if more := len(places) - most; more > 0 {
		places = append(places[:most:most], fmt.Sprintf("and %d more", more))
	}
	return strings.TrimSuffix(message, ".") + ": " + strings.Join(places, "; ")
}

// oneLine keeps a message from breaking the lines of a log, or from steering the terminal.
func oneLine(text string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text))
}
