package report

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
)

// readable refuses a report of a consumer's own that it may not read any more: one of a dataset that it may not know of
// is not there, as a whole, since its name and its questions tell of what it is about.
func (s *Service) readable(ctx context.Context, consumer string, r dp.Report) error {
	datasets, err := datasetsOf(r)
	if err != nil {
		return err
	}
	err = s.releases.MayRead(ctx, consumer, datasets)
	if errors.Is(err, answer.ErrHidden) {
		return errNoReport()
	}
	return err
}

func errNoReport() error {
	return &dp.Error{Code: dp.CodeNotFound, Message: "there is no such report among yours: list your reports"}
}

// datasetsOf names what the questions of a report are about, and whose customers they choose by.
func datasetsOf(r dp.Report) (datasets []string, err error) {
	var spec Spec
	if err := json.Unmarshal(r.Spec, &spec); err != nil {
		return nil, fmt.Errorf("reading what a report asks: %w", err)
	}
	add := func(name string) {
		if name != "" && !slices.Contains(datasets, name) {
			datasets = append(datasets, name)
		}
	}
	for _, q := range spec.Questions {
		fill(&q.Query.Dataset, spec.Dataset)
		add(q.Query.Dataset)
		for _, c := range q.Query.Cohorts {
			add(c.Dataset)
		}
	}
	return datasets, nil
}

// Report returns a report of the asker's, or CodeNotFound.
func (s *Service) Report(ctx context.Context, asker, id string) (dp.Report, error) {
	r, err := s.book.Report(ctx, asker, id)
	if err != nil {
		return dp.Report{}, err
	}
	if err := s.readable(ctx, asker, r); err != nil {
		return dp.Report{}, err
	}
	return r, nil
}

// Reports lists the asker's reports, the last first. A page is short of those that they may not read any more.
func (s *Service) Reports(ctx context.Context, asker, cursor string, limit int) ([]dp.Report, string, error) {
	list, next, err := s.book.Reports(ctx, asker, cursor, limit)
	if err != nil {
		return nil, "", err
	}
	var seen []dp.Report
	for _, r := range list {
		err := s.readable(ctx, asker, r)
		if err != nil && codeOf(err) == "" {
			return nil, "", err
		}
		if err == nil {
			seen = append(seen, r)
		}
	}
	return seen, next, nil
}
