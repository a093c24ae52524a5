package report

import (
	"fmt"
	"regexp"

	"github.com/discreet-analytics/discreet/dp"
)

// Spec is a report as it is asked for. What it says of dataset, purpose, dates and confidence holds for every question
// that does not say itself.
type Spec struct {
	Name       string
	Dataset    string `json:",omitempty"`
	Purpose    string `json:",omitempty"`
	From, To   string `json:",omitempty"`
	Confidence string `json:",omitempty"`
	// Epsilon and Delta are spent on all questions together that state no price of their own.
	Epsilon string `json:",omitempty"`
	Delta   string `json:",omitempty"`
	// Weights say how much of them goes to a question, by name; 1 where none is given.
	Weights map[string]string `json:",omitempty"`
	// Equalise is relative_error: they are split so that the intervals are of one width, relative to the figures. How
	// large the figures are, releases tell that the asker holds.
	Equalise string `json:",omitempty"`
	// Schedule is per_block: the questions are asked of every block once it has ended and was loaded.
	Schedule    string `json:",omitempty"`
	NonNegative bool   `json:",omitempty"` // of every question that is reconciled
	Questions   []Question
}

// Question is one of a report's questions.
type Question struct {
	Name  string // q1, q2, ... where it has none
	Query dp.Query
}

// What Equalise and Schedule can be.
const (
	RelativeError = "relative_error"
	PerBlock      = "per_block"
)

// The sizes beyond which a report is refused.
const (
	MaxQuestions = 50
	MaxName      = 100 // bytes of a report's name
	MaxScheduled = 100 // reports of one consumer that have runs to come: to schedule one costs nothing
)

var named = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,62}$`)

// questions fills in what the report says for all of them.
func (s Spec) questions() ([]Question, error) {
	var problems []dp.Location
	refuse := func(path, format string, args ...any) {
		problems = append(problems, dp.Location{Path: path, Message: fmt.Sprintf(format, args...)})
	}
	if s.Name == "" || len(s.Name) > MaxName {
		refuse("name", "must have 1 to %d characters: say what the report is", MaxName)
	}
	if len(s.Questions) == 0 || len(s.Questions) > MaxQuestions {
		refuse("queries", "must hold 1 to %d questions", MaxQuestions)
	}
	if s.Equalise != "" && s.Equalise != RelativeError {
		refuse("equalise", "must be %s, or absent", RelativeError)
	}
	if s.Equalise != "" && len(s.Weights) > 0 {
		refuse("weights", "and equalise exclude each other: leave one out")
	}
	if s.Schedule != "" && s.Schedule != PerBlock {
		refuse("schedule", "must be %s, or absent", PerBlock)
	}
	if s.Epsilon == "" && (s.Delta != "" || s.Equalise != "" || len(s.Weights) > 0) {
		refuse("epsilon", "is missing: say how much all questions together may spend, or leave delta, weights and equalise out")
	}
	names := map[string]bool{}
	list := make([]Question, 0, len(s.Questions))
	for i, q := range s.Questions[:min(len(s.Questions), MaxQuestions)] {
		path := fmt.Sprintf("queries[%d]", i)
		if q.Name == "" {
			q.Name = fmt.Sprintf("q%d", i+1)
		}
		if !named.MatchString(q.Name) || names[q.Name] {
			refuse(path+".name", "must be small letters, digits, - and _, begin with a letter, and be no other question's")
		}
		names[q.Name] = true
		fill(&q.Query.Dataset, s.Dataset)
		fill(&q.Query.Purpose, s.Purpose)
		fill(&q.Query.Confidence, s.Confidence)
		if s.NonNegative && len(q.Query.Reconcile) > 0 {
			q.Query.NonNegative = true
		}
		if q.Query.From == "" && q.Query.To == "" {
			q.Query.From, q.Query.To = s.From, s.To
		} else if s.Schedule != "" {
			refuse(path+".from", "and to are those of the block where a report is scheduled: leave them out")
		}
		if q.Query.Dataset == "" {
			refuse(path+".dataset", "is missing: name it here, or once for the report")
		}
		list = append(list, q)
	}
	for name := range s.Weights {
		if !names[name] {
			refuse("weights", "names no question of the report: give each by the name of one")
			break
		}
	}
	if len(problems) > 0 {
		return nil, invalid(problems)
	}
	return list, nil
}

func fill(field *string, otherwise string) {
	if *field == "" {
		*field = otherwise
	}
}

func invalid(problems []dp.Location) *dp.Error {
	return &dp.Error{Code: dp.CodeInvalidQuery, Message: "the report is not valid: change what its locations name", Locations: problems}
}
