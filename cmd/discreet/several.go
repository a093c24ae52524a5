package main

import (
	"strconv"
	"strings"

	"github.com/discreet-analytics/discreet/api/wire"
)

// addCustomers puts together what is asked about customers rather than rows.
func (c *queryCommand) addCustomers(q *wire.Query) error {
	for _, text := range c.Cohort {
		cohort, err := parseCohort(text)
		if err != nil {
			return err
		}
		q.Cohorts = append(q.Cohorts, cohort)
	}
	if c.First != "" {
		where, err := parseConditions("--first", c.First)
		if err != nil {
			return err
		}
		q.First = &wire.First{Where: where}
	}
	if c.FunnelWithin != "" && len(c.Step) == 0 {
		return usagef("--funnel-within is of a funnel: give its steps with --step")
	}
	for _, text := range c.Step {
		where, err := parseConditions("--step", text)
		if err != nil {
			return err
		}
		if q.Funnel == nil {
			q.Funnel = &wire.Funnel{Within: c.FunnelWithin}
		}
		q.Funnel.Steps = append(q.Funnel.Steps, wire.Step{Where: where})
	}
	return nil
}

// parseCohort reads conditions and settings with semicolons between.
func parseCohort(text string) (cohort wire.Cohort, err error) {
	for _, part := range splitQuoted(text) {
		name, value, _ := strings.Cut(part, "=")
		value = strings.TrimSpace(value)
		var n int64
		switch name = strings.TrimSpace(name); name {
		case "dataset":
			cohort.Dataset = value
		case "from":
			cohort.From = value
		case "to":
			cohort.To = value
		case "at_least", "at_most":
			if n, err = strconv.ParseInt(value, 10, 64); err != nil || n < 0 {
				return cohort, usagef("--cohort: %s must be a whole number of rows", name)
			}
			if name == "at_least" {
				cohort.AtLeast = n
			} else {
				cohort.AtMost = &n
			}
		default:
			condition, err := parseCondition(part)
			if err != nil {
				return cohort, err
			}
			cohort.Where = append(cohort.Where, condition)
		}
	}
	return cohort, nil
}

// parseConditions reads conditions with semicolons between.
func parseConditions(flag, text string) ([]wire.Condition, error) {
	list := []wire.Condition{}
	for _, part := range splitQuoted(text) {
		condition, err := parseCondition(part)
		if err != nil {
			return nil, err
		}
		list = append(list, condition)
	}
	if len(list) == 0 {
		return nil, usagef("%s needs a condition, such as 'event=visit'", flag)
	}
	return list, nil
}

// splitQuoted splits at semicolons that are not in double quotes.
func splitQuoted(text string) (parts []string) {
	quoted, start := false, 0
	add := func(end int) {
		if part := strings.TrimSpace(text[start:end]); part != "" {
			parts = append(parts, part)
		}
		start = end + 1
	}
	for i := range len(text) {
		switch {
		case text[i] == '"':
			quoted = !quoted
		case text[i] == ';' && !quoted:
			add(i)
		}
	}
	add(len(text))
	return parts
}
