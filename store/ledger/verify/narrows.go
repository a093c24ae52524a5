package verify

import (
	"bytes"
	"encoding/json"
	"slices"
)

// A change narrows if it takes away and does nothing else. What is not known here to narrow does not.

func policyNarrows(before, after []byte) (bool, error) {
	if same, err := sameBut(before, after, "Cap", "Default", "Purposes", "Audiences", "TwoPerson", "Version"); err != nil || !same {
		return false, err
	}
	type part struct {
		Cap, Default        budget
		Purposes, Audiences []string
		TwoPerson           bool
	}
	b, err := inJSON[part](before, parts)
	if err != nil {
		return false, err
	}
	a, err := inJSON[part](after, parts)
	return a.Cap.within(b.Cap) && a.Default.within(b.Default) && among(a.Purposes, b.Purposes) && among(a.Audiences, b.Audiences) && (a.TwoPerson || !b.TwoPerson), err
}

func allotmentNarrows(before, after allotmentRecord) bool {
	most, until := after.MaxEpsilonPerQuery, after.Expires
	return after.Consumer == before.Consumer && after.Dataset == before.Dataset && after.Budget.within(before.Budget) &&
		(before.MaxEpsilonPerQuery == 0 || most > 0 && most <= before.MaxEpsilonPerQuery) &&
		(before.Expires.IsZero() || !until.IsZero() && !until.After(before.Expires)) && (after.Paused || !before.Paused)
}

func consumerNarrows(before, after []byte) (bool, error) {
	if same, err := sameBut(before, after, "Role", "Purposes", "Suspended", "Subject", "Version"); err != nil || !same {
		return false, err
	}
	type part struct {
		Role      string
		Purposes  []string
		Suspended bool
		Subject   string
	}
	b, err := inJSON[part](before, parts)
	if err != nil {
		return false, err
	}
	a, err := inJSON[part](after, parts)
	role := a.Role == b.Role || b.Role == "analyst" && a.Role == "product" || b.Role == officer && a.Role == "auditor"
	return role && among(a.Purposes, b.Purposes) && (a.Suspended || !b.Suspended) && (a.Subject == b.Subject || a.Subject == ""), err
}

func (b budget) within(o budget) bool { return b.Epsilon <= o.Epsilon && b.Delta <= o.Delta }

func among(list, all []string) bool {
	return !slices.ContainsFunc(list, func(one string) bool { return !slices.Contains(all, one) })
}

// sameBut tells whether two records have the same fields, byte for byte, but for some.
func sameBut(a, b []byte, but ...string) (bool, error) {
	var of [2]map[string]json.RawMessage
	for i, text := range [][]byte{a, b} {
		if json.Unmarshal(text, &of[i]) != nil {
			return false, errMalformed
		}
		for _, name := range but {
			delete(of[i], name)
		}
	}
	if len(of[0]) != len(of[1]) {
		return false, nil
	}
	for name, value := range of[0] {
		if other, there := of[1][name]; !there || !bytes.Equal(value, other) {
			return false, nil
		}
	}
	return true, nil
}
